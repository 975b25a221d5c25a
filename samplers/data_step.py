"""Data steps: what pulls the denoised latents towards a measurement.

The settings of a data step are plain values. They are bound to a prior and a measurement for a run,
and the result is called once per noise level.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ..operators import Measurement
from ..priors.base import FlowPrior


class DataStep(Protocol):
    """A data step in one run: a method calls it once per noise level."""

    def __call__(self, z0: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """What to add to the denoised latents z0 (N, C, h, w) of noise level ``sigma``, and the
        data loss (N,) at z0."""
        ...


class DataStepSettings(Protocol):
    """Settings of a data step; every kind of data step has a frozen dataclass of its own."""

    @property
    def stop(self) -> float:
        """Ratio of residual to noise at which a sample is pulled no further; 0 is never."""
        ...

    @property
    def active(self) -> bool:
        """Whether anything is pulled; a method without a pull is plain Euler sampling."""
        ...

    def scaled(self, factor: float) -> DataStepSettings:
        """The same with its step multiplied by ``factor``; 0 is no pull."""
        ...

    def bind(self, prior: FlowPrior, measurement: Measurement) -> DataStep:
        """The data step of one run."""
        ...


def no_pull(z0: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """The ``DataStep`` that adds nothing."""
    return torch.zeros_like(z0), z0.new_zeros(len(z0))
