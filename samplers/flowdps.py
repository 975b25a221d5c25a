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
from .checks import at_least, one_of
from .curves import Schedule, course, ends, value_at
from .method import Callback, Step
from .noise import randn_like
from .schedule import noise_levels
from .settings import MethodSettings


@dataclass(frozen=True, kw_only=True)
class FlowDPSSettings(MethodSettings):
    """Settings of FlowDPS; the data step is usually ``InnerSteps``.

    weight: factor of the data step: ``sigma``, the noise level, as published, or ``one``.
    renew: share of the noise variance that is drawn anew, from 0 to 1, as published; multiplied by
        1 − σ' at the next noise level σ'. A schedule is the amplitude of the new noise itself: the
        share is its square.
    step_factor: factor of the data step's size, a number or a schedule.
    guidance: weight of classifier-free guidance, a number or a schedule, for a prior that has a
        negative prompt; None is the prior's own.

    With schedules and the loss ``hybrid``, this is TriPS (ICML 2026), whose noise levels are
    ``published_sigmas(28, shift=3)``.

    Raises ValueError for other values.
    """

    weight: Literal["sigma", "one"] = "sigma"
    renew: float | Schedule = 1.0
    step_factor: float | Schedule = 1.0
    guidance: float | Schedule | None = None

    def __post_init__(self) -> None:
        one_of(("sigma", "one"), weight=self.weight)
        if not all(0 <= value <= 1 for value in ends(self.renew)):
            raise ValueError(f"renew is {self.renew}; expected a number from 0 to 1")
        at_least(0, step_factor=min(ends(self.step_factor)))
        if self.guidance is not None:
            at_least(0, guidance=min(ends(self.guidance)))

    def kept(self, sigma: float) -> float:
        """Factor of the data step at noise level ``sigma``."""
        return sigma if self.weight == "sigma" else 1.0

    def renewed(self, sigma: float, u: float) -> float:
        """Share of the noise variance drawn anew in the step to noise level ``sigma``; ``u`` is
        that of ``Schedule``."""
        if not (sigma > 0 and self.data_step.active):
            return 0.0
        if isinstance(self.renew, Schedule):
            return self.renew.at(u) ** 2
        return self.renew * (1 - sigma)

    def guided(self, u: float) -> float | None:
        """Weight of guidance at ``u``, None for the prior's own."""
        return None if self.guidance is None else value_at(self.guidance, u)


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
        u = course(i, total)
        with prior.guidance(settings.guided(u)):
            z0 = prior.denoise(z, s)
        z1 = z0 + (z - z0) / s
        pull, loss = data_step(z0, s, value_at(settings.step_factor, u))
        z0 = z0 + settings.kept(s) * pull
        if renewed := settings.renewed(s_next, u):
            fresh = randn_like(z, generators)
            z1 = math.sqrt(1 - renewed) * z1 + math.sqrt(renewed) * fresh
        z = (1 - s_next) * z0 + s_next * z1
        if callback:
            callback(Step(i, total, s, z0, loss))
    return z
