"""FlowDPS: Flow-Driven Posterior Sampling (Kim et al., ICCV 2025), algorithm 1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..operators import Measurement
from ..priors.base import FlowPrior
from .checks import one_of
from .method import Callback, Step
from .noise import randn_like
from .schedule import noise_levels
from .settings import MethodSettings


@dataclass(frozen=True, kw_only=True)
class FlowDPSSettings(MethodSettings):
    """Settings of FlowDPS; the data step is usually ``InnerSteps``.

    weight: factor of the data step: ``sigma``, the noise level, as published, or ``one``.
    renew: share of the noise variance that is drawn anew, from 0 to 1, as published; multiplied by
        1 − σ' at the next noise level σ'.

    Raises ValueError for other values.
    """

    weight: Literal["sigma", "one"] = "sigma"
    renew: float = 1.0

    def __post_init__(self) -> None:
        one_of(("sigma", "one"), weight=self.weight)
        if not 0 <= self.renew <= 1:
            raise ValueError(f"renew is {self.renew}; expected a number from 0 to 1")

    def kept(self, sigma: float) -> float:
        """Factor of the data step at noise level ``sigma``."""
        return sigma if self.weight == "sigma" else 1.0

    def renewed(self, sigma: float) -> float:
        """Share of the noise variance drawn anew in the step to noise level ``sigma``."""
        return self.renew * (1 - sigma) if sigma > 0 and self.data_step.active else 0.0


@torch.no_grad()
def flowdps(
    prior: FlowPrior,
    z: Tensor,
    sigmas: Tensor,
    measurement: Measurement,
    settings: FlowDPSSettings,
    generators: Sequence[torch.Generator],
    callback: Callback | None = None,
) -> Tensor:
    """Latents (N, C, h, w) of posterior samples, integrated from noise ``z`` at ``sigmas[0]``.

    Every step splits the state into denoised latents, which the data step moves towards the
    measurement, and noise, which is partly drawn anew.
    """
    data_step = settings.data_step.bind(prior, measurement)
    total = len(sigmas) - 1
    for i, s, s_next in noise_levels(sigmas):
        z0 = prior.denoise(z, s)
        z1 = z0 + (z - z0) / s
        pull, loss = data_step(z0, s)
        z0 = z0 + settings.kept(s) * pull
        if renewed := settings.renewed(s_next):
            fresh = randn_like(z, generators)
            z1 = math.sqrt(1 - renewed) * z1 + math.sqrt(renewed) * fresh
        z = (1 - s_next) * z0 + s_next * z1
        if callback:
            callback(Step(i, total, s, z0, loss))
    return z
