"""FLAIR: flow-based latent alignment for image restoration (NeurIPS 2025, arXiv 2506.02680)."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from ..operators import Measurement
from ..priors.base import FlowPrior, VelocityErrors
from .checks import at_least, one_of
from .data_loss import DataLoss, downscales
from .data_step import DataStep, no_pull
from .euler import euler
from .method import Callback, Step
from .noise import randn_like
from .schedule import noise_levels
from .settings import MethodSettings
from .start import first_picture

if TYPE_CHECKING:
    from typing_extensions import Self

SD3_ERRORS: VelocityErrors = (
    (1.0, 0.646),
    (0.98, 0.388),
    (0.949, 0.305),
    (0.899, 0.258),
    (0.848, 0.238),
    (0.798, 0.233),
    (0.747, 0.232),
    (0.697, 0.237),
    (0.646, 0.246),
    (0.596, 0.257),
    (0.545, 0.273),
    (0.495, 0.293),
    (0.444, 0.317),
    (0.394, 0.348),
    (0.343, 0.386),
    (0.293, 0.433),
    (0.242, 0.493),
    (0.192, 0.569),
    (0.141, 0.668),
    (0.091, 0.798),
    (0.040, 0.950),
    (0.0, 1.086),
)
"""Stable Diffusion 3's, on DIV2K, of the paper's calibration."""


def interpolated(errors: VelocityErrors, level: float) -> float:
    """The error at a noise level, linear between those of the table, which falls."""
    for (high, above), (low, below) in itertools.pairwise(errors):
        if level >= low:
            part = min(1.0, (level - low) / (high - low))
            return below + part * (above - below)
    return errors[-1][1]


def calibration(errors: VelocityErrors, level: float) -> float:
    """w(t), the weight of prior and data at noise level t: half of what the certainty 1 / E(t) of
    the velocity exceeds that at the last level, relative to its mean over 100 levels."""
    grid = [k / 99 for k in range(100)]
    mean = sum(1 / interpolated(errors, t) for t in grid) / len(grid)
    excess = 1 / interpolated(errors, level) - 1 / errors[-1][1]
    return 0.5 * max(0.0, excess / mean)


def flair_levels(settings: FlairSettings, steps: int) -> Tensor:
    """Noise levels from 1 to 0.18, both left out, and 0: float64 (steps + 1,)."""
    if steps < 1:
        raise ValueError(f"steps is {steps}; expected at least 1")
    levels = torch.linspace(1.0, 0.18, steps + 2, dtype=torch.float64)
    return torch.cat([levels[1:-1], levels.new_zeros(1)])


@dataclass(frozen=True)
class SquaredSteps:
    """FLAIR's data step as published: z ← z − ρ ∇‖A D(z) − y‖², until a sample's residual is small.

    step_size: ρ of most operators; 0 makes the data step inactive.
    downscaled_step_size: ρ of operators that shrink the picture: super-resolution.
    inner_steps: steps per noise level, at most.
    rest: residual, a root mean square, at which the steps of a sample end, whatever the noise.
    stop: ratio of residual to noise at which they end, if that is larger; 0 is never.

    Raises ValueError for values out of range.
    """

    step_size: float = 0.1
    downscaled_step_size: float = 12.0
    inner_steps: int = 15
    rest: float = 0.01
    stop: float = 0.0

    def __post_init__(self) -> None:
        at_least(0, step_size=self.step_size, downscaled_step_size=self.downscaled_step_size)
        at_least(0, rest=self.rest, stop=self.stop)
        at_least(1, inner_steps=self.inner_steps)

    @property
    def active(self) -> bool:
        """Whether the step size is above 0."""
        return self.step_size > 0

    @property
    def gradients(self) -> bool:
        """True: the step takes gradients through the decoder."""
        return True

    def scaled(self, factor: float) -> Self:
        """The same settings with both step sizes multiplied by ``factor``."""
        sizes = {
            name: getattr(self, name) * factor for name in ("step_size", "downscaled_step_size")
        }
        return dataclasses.replace(self, **sizes)

    def bind(self, prior: FlowPrior, measurement: Measurement) -> DataStep:
        """The data step for one prior and measurement."""
        return _Squared(self, prior, measurement) if self.active else no_pull


class _Squared:
    """``SquaredSteps`` bound to a prior and a measurement."""

    def __init__(self, settings: SquaredSteps, prior: FlowPrior, measurement: Measurement):
        small = downscales(measurement.operator)
        size = settings.downscaled_step_size if small else settings.step_size
        goal = max(settings.stop, settings.rest / measurement.floored_noise_level)
        self.loss = DataLoss(prior, measurement, "squared", goal)
        # The loss is the sum of squares over 2σₙ².
        self.size, self.count = 2 * self.loss.variance * size, settings.inner_steps

    def __call__(self, z0: Tensor, sigma: float, factor: float = 1.0) -> tuple[Tensor, Tensor]:
        z, first, stop = z0, z0.new_zeros(len(z0)), self.loss.stop
        for k in range(self.count):
            loss, gradient = self.loss.gradient(z)
            first = loss if k == 0 else first
            if stop.reached:
                break
            if stop.ratio is not None:
                gradient = gradient * (stop.ratio > stop.ratio_goal).view(-1, 1, 1, 1)
            z = z - factor * self.size * gradient
        return z - z0, first


@dataclass(frozen=True, kw_only=True)
class FlairSettings(MethodSettings):
    """Settings of FLAIR; the published data step is ``SquaredSteps``, and any other serves.

    calibration: whose errors of the velocity weigh prior and data: ``sd3``, as published, or
        ``prior``, those of the model at hand, if they are known.
    """

    calibration: Literal["prior", "sd3"] = "prior"

    def __post_init__(self) -> None:
        one_of(("prior", "sd3"), calibration=self.calibration)


@torch.no_grad()
def flair(
    prior: FlowPrior,
    z: Tensor,
    sigmas: Tensor,
    measurement: Measurement,
    settings: FlairSettings,
    generators: Sequence[torch.Generator],
    callback: Callback | None = None,
) -> Tensor:
    """Latents (N, C, h, w): a clean mean μ, pulled by turns to the denoised latents and to the
    measurement (algorithm 1).

    The noise of every level is that of the level before, partly drawn anew. Of ``z`` only the shape
    matters, unless the data step is inactive: then this is ``euler``.
    """
    if not settings.data_step.active:
        return euler(prior, z, sigmas, callback)
    known = prior.velocity_errors if settings.calibration == "prior" else ()
    data_step = settings.data_step.bind(prior, measurement)
    mean, noise = prior.encode(first_picture(measurement)).to(z), randn_like(z, generators)
    total = len(sigmas) - 1
    for i, t, _ in noise_levels(sigmas):
        noise = (1 - t) * noise + math.sqrt(1 - (1 - t) ** 2) * randn_like(z, generators)
        noisy = (1 - t) * mean + t * noise
        z0 = prior.denoise(noisy, t)
        noise = z0 + (noisy - z0) / t
        weight = calibration(known or SD3_ERRORS, t)
        mean = mean + weight / t * (z0 - mean)
        pull, loss = data_step(mean, t, weight)
        mean = mean + pull
        if callback:
            callback(Step(i, total, t, mean, loss))
    return mean
