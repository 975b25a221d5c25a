"""LATINO: latent consistency inverse solver (ICCV 2025, arXiv 2503.12615), for flows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..operators import Measurement
from ..priors.base import FlowPrior
from .checks import of_kind
from .euler import euler
from .memory import decoded, encoded
from .method import Callback, Step
from .noise import randn_like
from .pixel_step import Correction, PixelStep
from .schedule import noise_levels, shifted
from .settings import MethodSettings
from .start import first_picture


def latino_levels(settings: LatinoSettings, steps: int) -> Tensor:
    """Noise levels from 1, evenly spaced and shifted by 3 like those of few-step flow models, and
    0: float64 (steps + 1,)."""
    if steps < 1:
        raise ValueError(f"steps is {steps}; expected at least 1")
    return shifted(torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float64), 3.0)


@dataclass(frozen=True, kw_only=True)
class LatinoSettings(MethodSettings):
    """Settings of LATINO.

    data_step: a ``PixelStep``, of which the part in pixels is taken. ValueError for another kind.
    """

    data_step: PixelStep

    def __post_init__(self) -> None:
        of_kind(PixelStep, "data step of latino", self.data_step)


@torch.no_grad()
def latino(
    prior: FlowPrior,
    z: Tensor,
    sigmas: Tensor,
    measurement: Measurement,
    settings: LatinoSettings,
    generators: Sequence[torch.Generator],
    callback: Callback | None = None,
) -> Tensor:
    """Latents (N, C, h, w): a picture is encoded, noised, denoised, decoded and corrected in pixels
    at every noise level (algorithm 1), without any gradient. All noise is new at every level.

    Made for models of few steps. Of ``z`` only the shape matters, unless the data step is inactive:
    then this is ``euler``.
    """
    if not settings.data_step.active:
        return euler(prior, z, sigmas, callback)
    correction = Correction(settings.data_step, prior, measurement)
    clean = encoded(prior, first_picture(measurement)).to(z)
    total = len(sigmas) - 1
    for i, s, _ in noise_levels(sigmas):
        z = (1 - s) * clean + s * randn_like(z, generators)
        x = decoded(prior, prior.denoise(z, s)).clamp(-1, 1)
        x, loss = correction.corrected(x, s)
        clean = encoded(prior, x.clamp(-1, 1))
        if callback:
            callback(Step(i, total, s, clean, loss))
    return clean
