"""What every method has in common: its result, and its progress reports to a callback."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Step:
    """The state after step ``i`` of ``total``, as given to a callback.

    ``denoised`` (N, C, h, w) is the estimate of the clean latents at noise level ``sigma``,
    ``loss`` (N,) the data loss of every sample.
    """

    i: int
    total: int
    sigma: float
    denoised: Tensor
    loss: Tensor


Callback = Callable[[Step], None]


@dataclass(frozen=True)
class Sample:
    """The result of a method.

    ``latents`` are (N, C, h, w). ``images`` (N, 3, H, W) are the restorations of a method that
    makes them itself, final correction included; None: they are the decoded latents, corrected by
    ``data_consistency``. ``start`` (N, 3, H, W) are the images that it started from, without the
    model, if there are any.
    """

    latents: Tensor
    images: Tensor | None = None
    start: Tensor | None = None

    @classmethod
    def of(cls, result: Tensor | Sample) -> Sample:
        """The result of a method's function, which may return latents alone."""
        return result if isinstance(result, Sample) else cls(result)
