"""Whether a restoration agrees with its photo, in words."""

from __future__ import annotations

AGREES = 1.3
"""Largest ratio of residual to noise of a result that agrees with the photo."""


def verdict(ratio: float, noise: str = "noise") -> str:
    """One sentence on a restoration that, damaged again, differs from the measurement by ``ratio``
    times its noise; the user knows the noise by the word ``noise``.
    """
    agrees = "agrees" if ratio <= AGREES else "does not agree"
    return (
        f"The result {agrees} with the photo: damaged again, it differs by {ratio:.2f} times the"
        f" {noise}."
    )
