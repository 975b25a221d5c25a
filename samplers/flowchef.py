"""FlowChef: steering of rectified flow models (Patel et al., ICCV 2025)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..operators import Measurement
from ..priors.base import FlowPrior
from .data_step import DataLoss, Descent
from .method import Callback, Step
from .settings import Settings


@torch.no_grad()
def flowchef(
    prior: FlowPrior,
    z: Tensor,
    sigmas: Tensor,
    measurement: Measurement,
    settings: Settings,
    generators: Sequence[torch.Generator],
    callback: Callback | None = None,
) -> Tensor:
    """Latents (N, C, h, w), from noise ``z`` at ``sigmas[0]``: Euler steps, each moved along the
    data gradient at the denoised latents, with the network outside the graph. Draws no noise.
    """
    loss = DataLoss(prior, measurement, settings.loss, settings.stop)
    descent = Descent(settings)
    total = len(sigmas) - 1
    for i, (s, s_next) in enumerate(zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True)):
        z0 = prior.denoise(z, s)
        z1 = z0 + (z - z0) / s
        z = (1 - s_next) * z0 + s_next * z1
        value = z0.new_zeros(len(z0))
        if settings.step_size:
            value, gradient = loss.gradient(z0)
            z = z + loss.stop.limit(descent.move(gradient, s), value, gradient)
        if callback:
            callback(Step(i, total, s, z0, value))
    return z
