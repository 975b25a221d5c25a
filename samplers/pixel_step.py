"""A data step in pixels, without gradients through the autoencoder."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from ..operators import Measurement
from ..priors.base import FlowPrior
from .checks import at_least
from .data_step import DataStep, no_pull
from .discrepancy import towards
from .memory import decoded, encoded
from .pixel_prox import PixelProx


@dataclass(frozen=True)
class PixelStep:
    """Correction of the decoded image (``PixelProx``), and the difference of two encodings.

    weight: factor of the data term; 0 makes the data step inactive.
    trust: factor of the covariance of the model's error. That of a run is larger than the measured
        one, for which the true image was the start.
    stop: ratio of residual to noise at which the correction ends; 0 is never.

    Raises ValueError for values out of range.
    """

    weight: float = 1.0
    trust: float = 2.0
    stop: float = 0.0

    def __post_init__(self) -> None:
        at_least(0, weight=self.weight, trust=self.trust, stop=self.stop)

    @property
    def active(self) -> bool:
        """Whether the weight is above 0."""
        return self.weight > 0

    @property
    def gradients(self) -> bool:
        """False: no gradient goes through a network."""
        return False

    def scaled(self, factor: float) -> PixelStep:
        """The same settings with the weight multiplied by ``factor``."""
        return dataclasses.replace(self, weight=self.weight * factor)

    def prox(self, prior: FlowPrior, measurement: Measurement) -> PixelProx:
        """The correction in pixels, for a weight above 0."""
        return PixelProx(measurement, prior.error_spectrum, self.trust, self.weight or 1.0)

    def bind(self, prior: FlowPrior, measurement: Measurement) -> DataStep:
        """The data step for one prior and measurement."""
        return _Bound(self, prior, measurement) if self.active else no_pull


class _Bound:
    """A ``PixelStep`` bound to a prior and a measurement."""

    def __init__(self, settings: PixelStep, prior: FlowPrior, measurement: Measurement):
        self.prior, self.measurement, self.stop = prior, measurement, settings.stop
        self.correct = settings.prox(prior, measurement)

    @torch.no_grad()
    def __call__(self, z0: Tensor, sigma: float, factor: float = 1.0) -> tuple[Tensor, Tensor]:
        x = decoded(self.prior, z0).to(z0)
        wanted = self.correct(x, sigma, factor)
        if self.stop:
            wanted = towards(x, wanted, self.stop, self.measurement)
        return encoded(self.prior, wanted) - encoded(self.prior, x), self.correct.loss(x)
