"""Data steps: updates of the denoised latents towards a measurement.

``bind`` turns the settings of a data step into a ``DataStep`` for one prior and measurement, which
the sampler calls once per noise level.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ..operators import Measurement
from ..priors.base import FlowPrior


class DataStep(Protocol):
    """A data step bound to a prior and a measurement; called once per noise level."""

    def __call__(self, z0: Tensor, sigma: float, factor: float = 1.0) -> tuple[Tensor, Tensor]:
        """The update to add to the denoised latents z0 (N, C, h, w) at noise level ``sigma``, and
        the data loss (N,) at z0.

        ``factor`` multiplies the step as ``DataStepSettings.scaled`` does.
        """
        ...


class DataStepSettings(Protocol):
    """Settings of a data step; every kind has its own frozen dataclass."""

    @property
    def stop(self) -> float:
        """Ratio of residual to noise at which the updates of a sample end; 0 is never."""
        ...

    @property
    def active(self) -> bool:
        """Whether the step is nonzero; otherwise sampling ignores the measurement."""
        ...

    @property
    def gradients(self) -> bool:
        """Whether the step takes gradients through the decoder."""
        ...

    def scaled(self, factor: float) -> DataStepSettings:
        """The same settings with the step multiplied by ``factor``; 0 makes it inactive."""
        ...

    def bind(self, prior: FlowPrior, measurement: Measurement) -> DataStep:
        """The data step for one prior and measurement."""
        ...


def no_pull(z0: Tensor, sigma: float, factor: float = 1.0) -> tuple[Tensor, Tensor]:
    """The inactive ``DataStep``: a zero update and a zero loss."""
    return torch.zeros_like(z0), z0.new_zeros(len(z0))
