"""Data steps along the gradient of the data loss through the decoder."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from ..operators import Measurement
from ..priors.base import FlowPrior
from .checks import at_least, one_of
from .data_loss import LOSSES, DataLoss, Loss
from .data_step import DataStep, no_pull
from .schedule import posterior_deviation

if TYPE_CHECKING:
    from typing_extensions import Self

RULES = ("gradient", "adam")


@dataclass(frozen=True)
class GradientStep:
    """One step per noise level against the gradient of the data loss.

    step_size: for the rule ``gradient`` the factor of the gradient; for ``adam`` the size of an
        update in standard deviations of the latents. 0 makes the data step inactive.
    loss: ``norm`` is ‖B(y) − B(A x)‖, as published, with B = A⁺ where A changes the size and Aᵀ
        elsewhere; ``residual`` is the same with B = I in place of Aᵀ; ``squared`` is the negative
        log-likelihood ‖A x − y‖² / 2σₙ²; ``hybrid`` passes from ‖A⁺(A x − y)‖ at noise to
        ‖A x − y‖ at data (``DataLoss``).
    rule: ``gradient``, or ``adam`` (Kingma and Ba 2015), whose moments are kept between noise
        levels.
    decay: Adam updates are multiplied by r^decay with r = σ / √(σ² + (1 − σ)²); 0 is the same size
        at every noise level.
    stop: ratio of residual to noise at which the updates of a sample end (``DiscrepancyStop``); 1
        is the level expected from the noise, 0 is never.

    Raises ValueError for values out of range, and for a decay without Adam.
    """

    step_size: float
    loss: Loss = "norm"
    rule: Literal["gradient", "adam"] = "gradient"
    decay: float = 0.0
    stop: float = 0.0

    def __post_init__(self) -> None:
        at_least(0, step_size=self.step_size, decay=self.decay, stop=self.stop)
        one_of(LOSSES, loss=self.loss)
        one_of(RULES, rule=self.rule)
        if self.decay and self.rule != "adam":
            raise ValueError(
                f"decay is {self.decay} and the rule is {self.rule!r}; it shrinks the updates of"
                " Adam only: choose the rule 'adam', or decay 0"
            )

    @property
    def active(self) -> bool:
        """Whether the step size is above 0."""
        return self.step_size > 0

    @property
    def gradients(self) -> bool:
        """True: the step takes gradients through the decoder."""
        return True

    def scaled(self, factor: float) -> Self:
        """The same settings with the step size multiplied by ``factor``."""
        return dataclasses.replace(self, step_size=self.step_size * factor)

    def bind(self, prior: FlowPrior, measurement: Measurement) -> DataStep:
        """The data step for one prior and measurement."""
        return _OneMove(self, prior, measurement) if self.active else no_pull


@dataclass(frozen=True)
class InnerSteps(GradientStep):
    """Several gradient steps per noise level; Adam's moments are reset at every noise level.

    inner_steps: steps per noise level, each with one gradient through the decoder.
    early_steps: steps at noise levels above ``early_sigma``, where later noise undoes most of their
        effect; at most ``inner_steps`` are taken, None is ``inner_steps``.
    proximal_weight: weight w of the penalty w ‖z − z0‖² / 2r², which keeps the latents near the
        denoised ones z0; r, as for ``decay``, is the standard deviation of a unit Gaussian given
        its noisy version. Only with the loss ``squared``; 0 is no penalty.
    """

    inner_steps: int = 3
    early_steps: int | None = None
    early_sigma: float = 0.7
    proximal_weight: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, inner_steps=self.inner_steps)
        at_least(0, early_sigma=self.early_sigma, proximal_weight=self.proximal_weight)
        if self.early_steps is not None:
            at_least(0, early_steps=self.early_steps)
        if self.proximal_weight and self.loss != "squared":
            raise ValueError(
                f"proximal_weight is {self.proximal_weight} and the loss is {self.loss!r}; the"
                " penalty is a negative log-density, like the loss 'squared' only: choose that, or"
                " proximal_weight 0"
            )

    def steps_at(self, sigma: float) -> int:
        """Number of steps at noise level ``sigma``."""
        if self.early_steps is not None and sigma > self.early_sigma:
            return min(self.inner_steps, self.early_steps)
        return self.inner_steps

    def bind(self, prior: FlowPrior, measurement: Measurement) -> DataStep:
        """The data step for one prior and measurement."""
        return _SeveralMoves(self, prior, measurement) if self.active else no_pull


class _OneMove:
    """A ``GradientStep`` bound to a prior and a measurement."""

    def __init__(self, settings: GradientStep, prior: FlowPrior, measurement: Measurement):
        self.loss = DataLoss(prior, measurement, settings.loss, settings.stop)
        self.descent = Descent(settings)

    def __call__(self, z0: Tensor, sigma: float, factor: float = 1.0) -> tuple[Tensor, Tensor]:
        loss, gradient = self.loss.gradient(z0, sigma)
        move = factor * self.descent.move(gradient, sigma)
        return self.loss.stop.limit(move, loss, gradient), loss


class _SeveralMoves:
    """``InnerSteps`` bound to a prior and a measurement."""

    def __init__(self, settings: InnerSteps, prior: FlowPrior, measurement: Measurement):
        self.settings = settings
        self.loss = DataLoss(prior, measurement, settings.loss, settings.stop)

    def __call__(self, z0: Tensor, sigma: float, factor: float = 1.0) -> tuple[Tensor, Tensor]:
        weight, descent = self.settings.proximal_weight, Descent(self.settings)
        z, first = z0, z0.new_zeros(len(z0))
        for k in range(self.settings.steps_at(sigma)):
            loss, slope = self.loss.gradient(z, sigma)
            gradient = slope
            if weight:
                gradient = slope + weight / posterior_deviation(sigma) ** 2 * (z - z0)
            first = loss if k == 0 else first
            if self.loss.stop.reached:
                break
            move = factor * descent.move(gradient, sigma)
            z = z + self.loss.stop.limit(move, loss, slope)
        return z - z0, first


class Descent:
    """Update rule of a data step: gradient descent, or Adam (Kingma and Ba 2015)."""

    def __init__(self, settings: GradientStep):
        self.adam, self.step_size = settings.rule == "adam", settings.step_size
        self.decay = settings.decay
        self.mean: Tensor | None = None
        self.square: Tensor | None = None
        self.count = 0

    def move(self, gradient: Tensor, sigma: float) -> Tensor:
        """The update of the latents (N, C, h, w) at noise level ``sigma``."""
        if not self.adam:
            return -self.step_size * gradient
        b1, b2 = 0.9, 0.99
        self.count += 1
        if self.mean is None or self.square is None:
            self.mean, self.square = torch.zeros_like(gradient), torch.zeros_like(gradient)
        self.mean = b1 * self.mean + (1 - b1) * gradient
        self.square = b2 * self.square + (1 - b2) * gradient.square()
        mean = self.mean / (1 - b1**self.count)
        square = self.square / (1 - b2**self.count)
        size = self.step_size * posterior_deviation(sigma) ** self.decay
        return -size * mean / (square.sqrt() + 1e-12)
