"""Plain sampling of the model, which ignores the measurement."""

from __future__ import annotations

import torch
from torch import Tensor

from ..priors.base import FlowPrior
from .method import Callback, Step
from .schedule import noise_levels


@torch.no_grad()
def euler(prior: FlowPrior, z: Tensor, sigmas: Tensor, callback: Callback | None = None) -> Tensor:
    """Latents (N, C, h, w) by Euler steps from noise ``z`` at ``sigmas[0]``: what is left of a
    method whose data step is inactive. The loss that the callback hears of is 0."""
    total = len(sigmas) - 1
    for i, s, s_next in noise_levels(sigmas):
        z0 = prior.denoise(z, s)
        z = (1 - s_next) * z0 + s_next * (z0 + (z - z0) / s)
        if callback:
            callback(Step(i, total, s, z0, z.new_zeros(len(z))))
    return z
