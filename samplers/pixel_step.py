"""A data step in pixels, without gradients through the autoencoder: decode, correct, encode."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..operators import Measurement
from ..priors.base import FlowPrior
from .checks import at_least
from .data_step import DataStep, no_pull
from .discrepancy import towards
from .memory import decoded, encoded
from .model_error import MeasuredError, ModelError
from .pixel_prox import PixelProx


@dataclass(frozen=True)
class PixelStep:
    """The decoded image is moved to its posterior mean given y, and the latents as it moved.

    With x = D(z0) and x̂ as in ``PixelProx``, the update is E(x̂) − E(x): the autoencoder's own error
    cancels. The means of the encoder's posterior are taken. For every operator; where it is not
    linear, x̂ is searched in pixels. No network has a gradient.

    error: how far x is from the clean image: ``MeasuredError``, ``WhiteError`` or
        ``ResidualError``.
    data_weight: factor of the data term; 0 makes the data step inactive.
    stop: ratio of residual to noise at which a sample's correction ends (``towards``); 0 is never.

    Raises ValueError for values out of range.
    """

    error: ModelError = field(default_factory=MeasuredError)
    data_weight: float = 1.0
    stop: float = 0.0

    def __post_init__(self) -> None:
        at_least(0, data_weight=self.data_weight, stop=self.stop)

    @property
    def active(self) -> bool:
        """Whether the weight of the data is above 0."""
        return self.data_weight > 0

    @property
    def gradients(self) -> bool:
        """False: no gradient goes through a network."""
        return False

    def scaled(self, factor: float) -> PixelStep:
        """The same settings with the weight multiplied by ``factor``."""
        return dataclasses.replace(self, data_weight=self.data_weight * factor)

    def prox(self, prior: FlowPrior, measurement: Measurement) -> PixelProx:
        """The correction in pixels, for a weight above 0, without the stop."""
        return PixelProx(measurement, self.error.of(prior), self.data_weight or 1.0)

    def bind(self, prior: FlowPrior, measurement: Measurement) -> DataStep:
        """The data step for one prior and measurement."""
        return Correction(self, prior, measurement) if self.active else no_pull


class Correction:
    """A ``PixelStep`` bound to a prior and a measurement."""

    def __init__(self, settings: PixelStep, prior: FlowPrior, measurement: Measurement):
        self.prior, self.measurement, self.stop = prior, measurement, settings.stop
        self.prox = settings.prox(prior, measurement)

    def corrected(self, x: Tensor, sigma: float, factor: float = 1.0) -> tuple[Tensor, Tensor]:
        """Images x (N, C, H, W) moved towards the measurement, and the data loss (N,) at x."""
        wanted, loss = self.prox(x, sigma, factor)
        if self.stop:
            wanted = towards(x, wanted, self.stop, self.measurement)
        return wanted, loss

    @torch.no_grad()
    def __call__(self, z0: Tensor, sigma: float, factor: float = 1.0) -> tuple[Tensor, Tensor]:
        x = decoded(self.prior, z0).to(z0)
        wanted, loss = self.corrected(x, sigma, factor)
        return encoded(self.prior, wanted) - encoded(self.prior, x), loss
