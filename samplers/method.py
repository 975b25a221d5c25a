"""Progress reports of samplers to a callback."""

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
