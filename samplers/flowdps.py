"""FlowDPS: Flow-Driven Posterior Sampling (Kim et al., ICCV 2025), algorithm 1."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..operators import Measurement
from ..priors.base import FlowPrior
from .data_step import DataLoss, Descent, posterior_deviation
from .method import Callback, Step
from .noise import randn_like
from .settings import Settings


def pull(
    loss: DataLoss, z0: Tensor, sigma: float, settings: Settings, descent: Descent
) -> tuple[Tensor, Tensor]:
    """The data step: some moves down the loss from ``z0``, and the loss there (N,)."""
    z, first = z0, z0.new_zeros(len(z0))
    for k in range(settings.steps_at(sigma)):
        value, slope = loss.gradient(z)
        gradient = slope
        if settings.proximal_weight:
            gradient = slope + settings.proximal_weight / posterior_deviation(sigma) ** 2 * (z - z0)
        first = value if k == 0 else first
        if loss.stop.reached:
            break
        z = z + loss.stop.limit(descent.move(gradient, sigma), value, slope)
    return z, first


@torch.no_grad()
def flowdps(
    prior: FlowPrior,
    z: Tensor,
    sigmas: Tensor,
    measurement: Measurement,
    settings: Settings,
    generators: Sequence[torch.Generator],
    callback: Callback | None = None,
) -> Tensor:
    """Latents (N, C, h, w) of samples from the posterior, from noise ``z`` at ``sigmas[0]``.

    Every step splits the state into its denoised part, which is pulled towards the measurement, and
    its noise part, which is partly renewed.
    """
    loss = DataLoss(prior, measurement, settings.loss, settings.stop)
    total = len(sigmas) - 1
    for i, (s, s_next) in enumerate(zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True)):
        z0 = prior.denoise(z, s)
        z1 = z0 + (z - z0) / s
        zy, value = pull(loss, z0, s, settings, Descent(settings))
        z0 = z0 + (s if settings.weight == "sigma" else 1.0) * (zy - z0)
        renewed = settings.renew * (1 - s_next)
        if s_next > 0 and renewed and settings.step_size:
            fresh = randn_like(z, generators)
            z1 = math.sqrt(1 - renewed) * z1 + math.sqrt(renewed) * fresh
        z = (1 - s_next) * z0 + s_next * z1
        if callback:
            callback(Step(i, total, s, z0, value))
    return z
