"""FlowChef: steering of rectified flow models (Patel et al., ICCV 2025)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..operators import Measurement
from ..priors.base import FlowPrior
from .method import Callback, Step
from .schedule import noise_levels
from .settings import MethodSettings


@dataclass(frozen=True, kw_only=True)
class FlowChefSettings(MethodSettings):
    """Settings of FlowChef; the published data step is a ``GradientStep``."""


@torch.no_grad()
def flowchef(
    prior: FlowPrior,
    z: Tensor,
    sigmas: Tensor,
    measurement: Measurement,
    settings: FlowChefSettings,
    generators: Sequence[torch.Generator],
    callback: Callback | None = None,
) -> Tensor:
    """Latents (N, C, h, w), integrated from noise ``z`` at ``sigmas[0]``: Euler steps, each plus
    the data step at the denoised latents, without gradients through the model. Deterministic.
    """
    data_step = settings.data_step.bind(prior, measurement)
    total = len(sigmas) - 1
    for i, s, s_next in noise_levels(sigmas):
        z0 = prior.denoise(z, s)
        z1 = z0 + (z - z0) / s
        pull, loss = data_step(z0, s)
        z = (1 - s_next) * z0 + s_next * z1 + pull
        if callback:
            callback(Step(i, total, s, z0, loss))
    return z
