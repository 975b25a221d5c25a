"""Whether a restoration agrees with its photo, in words and in pictures."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

AGREES = 1.3
"""Largest ratio of residual to noise of a result that agrees with the photo."""
FITTED = 0.7
"""Ratio at which, and below, a result has taken noise of the photo for detail."""


def verdict(ratio: float, noise_level: float, noise: str = "noise") -> str:
    """One sentence on a restoration that, damaged again, differs from the measurement by ``ratio``
    times its noise; the user knows the noise by the word ``noise``.
    """
    differs = f"damaged again, it differs by {ratio:.2f} times the {noise}"
    if not ratio <= AGREES:
        return f"The result does not agree with the photo: {differs}."
    if ratio <= FITTED and noise_level:
        return f"The result agrees with the photo, and even with some of its {noise}: {differs}."
    return f"The result agrees with the photo: {differs}."


def side_by_side(before: Tensor, after: Tensor) -> Tensor:
    """IMAGE of the photos, enlarged to the results' size, left of the results (N, H, W, C).

    The results are as many as the photos, or all of them several times over.
    """
    seen = F.interpolate(before.movedim(-1, 1), after.shape[1:3], mode="nearest-exact")
    return torch.cat([seen.movedim(1, -1).repeat(len(after) // len(seen), 1, 1, 1), after], 2)
