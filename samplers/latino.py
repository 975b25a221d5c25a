"""LATINO: latent consistency inverse solver (ICCV 2025, arXiv 2503.12615), for flows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..operators import Measurement
from ..priors.base import FlowPrior
from .data_loss import downscales
from .euler import euler
from .method import Callback, Step
from .noise import randn_like
from .prox_step import Prox, ProxStep
from .schedule import noise_levels, posterior_deviation, shifted
from .settings import MethodSettings
from .start import first_picture

SWITCH = 0.54, 0.45
"""Noise level below which the published weights change, and that of super-resolution: the paper's
timesteps 400 and 300, by their ratio of signal to noise."""
BLURRED, DOWNSCALED = (5e-4, 2e-4), (0.3, 0.2)
"""Published weights c at high and at low noise: of Gaussian blurs, and of super-resolution x16."""
HOLES = 1.0, 0.5
"""Published weights δ of inpainting."""


def latino_levels(settings: LatinoSettings, steps: int) -> Tensor:
    """Noise levels from 1, evenly spaced and shifted by 3 like those of few-step flow models, and
    0: float64 (steps + 1,)."""
    if steps < 1:
        raise ValueError(f"steps is {steps}; expected at least 1")
    return shifted(torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float64), 3.0)


@dataclass(frozen=True)
class ResidualProx(ProxStep):
    """The published prox: ν² = δ r² with δ = c ‖A x − y‖ of every sample (section 4).

    c depends on the noise level and on whether the operator shrinks the picture: ``BLURRED`` and
    ``DOWNSCALED``. Where values are missing, as in inpainting, δ is a number, see ``HOLES``.
    ``scale`` multiplies ν.
    """

    def deviation(self, sigma: float, misfit: Tensor, measurement: Measurement) -> Tensor:
        """ν at ``sigma`` for pictures of the misfit ‖A x − y‖ (N,), of every sample (N,)."""
        small = downscales(measurement.operator)
        low = sigma <= SWITCH[small]
        if measurement.measured is not None:
            delta = torch.full_like(misfit, HOLES[low])
        else:
            delta = (DOWNSCALED if small else BLURRED)[low] * misfit
        return self.scale * posterior_deviation(sigma) * delta.sqrt()


@dataclass(frozen=True, kw_only=True)
class LatinoSettings(MethodSettings):
    """Settings of LATINO.

    data_step: a ``ProxStep``, of which the part in pixels is taken. ValueError for another kind.
    """

    data_step: ProxStep

    def __post_init__(self) -> None:
        if not isinstance(self.data_step, ProxStep):
            raise ValueError(
                f"the data step of latino is {type(self.data_step).__name__}; it corrects pictures"
                " without a gradient: choose ProxStep"
            )


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
    """Latents (N, C, h, w): a picture is encoded, noised, denoised, decoded and corrected by a prox
    at every noise level (algorithm 1), without any gradient. All noise is new at every level.

    Made for models of few steps. Of ``z`` only the shape matters, unless the data step is inactive:
    then this is ``euler``.
    """
    if not settings.data_step.active:
        return euler(prior, z, sigmas, callback)
    prox = Prox(settings.data_step, prior, measurement)
    clean = prior.encode(first_picture(measurement)).to(z)
    total = len(sigmas) - 1
    for i, s, _ in noise_levels(sigmas):
        z = (1 - s) * clean + s * randn_like(z, generators)
        x = prior.decode(prior.denoise(z, s)).clamp(-1, 1)
        x, loss = prox.corrected(x, s)
        clean = prior.encode(x.clamp(-1, 1))
        if callback:
            callback(Step(i, total, s, clean, loss))
    return clean
