"""A data step in pixels, without any gradient: decode, correct by one prox, encode."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..operators import LinearOperator, Measurement
from ..priors.base import FlowPrior
from .checks import at_least
from .data_loss import squared_norm
from .data_step import DataStep, no_pull
from .discrepancy import towards
from .schedule import posterior_deviation

if TYPE_CHECKING:
    from typing_extensions import Self


def nearest(x: Tensor, measurement: Measurement, deviation: Tensor) -> Tensor:
    """argmin over u of ‖A u − y‖² / 2σₙ² + ‖u − x‖² / 2ν² for images x (N, 3, H, W).

    ``deviation`` is ν, of one value for all samples or of one for each, (1,) or (N,). ValueError
    for an operator that is not linear.
    """
    operator = measurement.operator
    if not isinstance(operator, LinearOperator):
        raise ValueError(
            "a step by prox needs a linear operator, and the measurement's is not linear: choose"
            " a data step with gradients, such as flowdps tuned"
        )
    y = measurement.y.to(x)
    gammas = (deviation / measurement.floored_noise_level).square().tolist()
    if len(gammas) == 1:
        return operator.prox(x, y, gammas[0])
    rows = (operator.prox(x[k : k + 1], y[k : k + 1], gamma) for k, gamma in enumerate(gammas))
    return torch.cat(list(rows))


@dataclass(frozen=True)
class ProxStep:
    """The decoded picture is moved to its posterior mean given y, and the latents as it moved.

    With x = D(z0) and x⁺ = argmin ‖A u − y‖² / 2σₙ² + ‖u − x‖² / 2ν², the update is E(x⁺) − E(x):
    the autoencoder's own error cancels. The means of the encoder's posterior are taken. No network
    has a gradient. Only for linear operators.

    scale: standard deviation ν of the errors of x, for images in [-1, 1], at noise level 1; at σ it
        is ν = scale · σ / √(σ² + (1 − σ)²), as if the images were unit Gaussian noise. 0 makes the
        data step inactive.
    stop: ratio of residual to noise at which a sample's correction ends (``towards``); 0 is never.

    Raises ValueError for negative values.
    """

    scale: float = 1.0
    stop: float = 0.0

    def __post_init__(self) -> None:
        at_least(0, scale=self.scale, stop=self.stop)

    @property
    def active(self) -> bool:
        """Whether the scale is above 0."""
        return self.scale > 0

    @property
    def gradients(self) -> bool:
        """False: no gradient goes through a network."""
        return False

    def scaled(self, factor: float) -> Self:
        """The same settings with 1 / σₙ², the weight of the measurement, times ``factor``."""
        return dataclasses.replace(self, scale=self.scale * math.sqrt(factor))

    def deviation(self, sigma: float, misfit: Tensor, measurement: Measurement) -> Tensor:
        """ν at ``sigma`` for pictures of the misfit ‖A x − y‖ (N,): of all (1,), or each (N,)."""
        return misfit.new_tensor([self.scale * posterior_deviation(sigma)])

    def bind(self, prior: FlowPrior, measurement: Measurement) -> DataStep:
        """The data step for one prior and measurement."""
        return Prox(self, prior, measurement) if self.active else no_pull


class Prox:
    """A ``ProxStep`` bound to a prior and a measurement."""

    def __init__(self, settings: ProxStep, prior: FlowPrior, measurement: Measurement):
        self.settings, self.prior, self.measurement = settings, prior, measurement

    def corrected(self, x: Tensor, sigma: float, factor: float = 1.0) -> tuple[Tensor, Tensor]:
        """Images x (N, 3, H, W) moved towards the measurement, and the data loss (N,) at x."""
        measurement, stop = self.measurement, self.settings.stop
        squared = squared_norm(measurement.operator.A(x) - measurement.y.to(x))
        deviation = self.settings.deviation(sigma, squared.sqrt(), measurement)
        moved = nearest(x, measurement, math.sqrt(factor) * deviation)
        if stop:
            moved = towards(x, moved, stop, measurement)
        return moved, squared / (2 * measurement.floored_noise_level**2)

    def __call__(self, z0: Tensor, sigma: float, factor: float = 1.0) -> tuple[Tensor, Tensor]:
        x = self.prior.decode(z0)
        moved, loss = self.corrected(x, sigma, factor)
        return self.prior.encode(moved) - self.prior.encode(x), loss
