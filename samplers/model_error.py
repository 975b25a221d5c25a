"""How far the decoded images of a model are from the clean ones, as a data step in pixels takes it.

An error is Gaussian. ``WhiteError`` and ``ResidualError`` are white, ``ColouredError`` has a
spectrum, and ``MeasuredError`` is the one or the other, whichever the prior knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ..operators import Measurement
from ..priors.base import FlowPrior
from ..priors.error_spectrum import ErrorSpectrum
from .checks import at_least
from .data_loss import downscales
from .schedule import posterior_deviation

SWITCH = 0.54, 0.45
"""Noise level below which LATINO's weights change, and that of super-resolution: the paper's
timesteps 400 and 300, by their ratio of signal to noise."""
BLURRED, DOWNSCALED = (5e-4, 2e-4), (0.3, 0.2)
"""LATINO's weights c at high and at low noise: of Gaussian blurs, and of super-resolution x16."""
HOLES = 1.0, 0.5
"""LATINO's weights δ of inpainting."""


@dataclass(frozen=True)
class WhiteError:
    """White noise, as if the images were unit Gaussian noise themselves.

    scale: standard deviation of the error at noise level 1, for images in [-1, 1]; at σ it is
        scale · σ / √(σ² + (1 − σ)²). ValueError for a negative one.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        at_least(0, scale=self.scale)

    def variance(self, sigma: float, misfit: Tensor, measurement: Measurement) -> Tensor:
        """Variance per pixel at ``sigma`` of images whose misfits have the norm ``misfit`` (N,):
        of all of them (1,), or of each (N,)."""
        return misfit.new_tensor([(self.scale * posterior_deviation(sigma)) ** 2])

    def of(self, prior: FlowPrior) -> WhiteError:
        """The error of ``prior``: the same for all."""
        return self


@dataclass(frozen=True)
class ResidualError(WhiteError):
    """White noise by the residual, as published with LATINO (section 4): of the variance δ r², with
    δ = c ‖A x − y‖ of every sample and r = σ / √(σ² + (1 − σ)²).

    c depends on the noise level and on whether the operator shrinks the picture: ``BLURRED`` and
    ``DOWNSCALED``. Where values are missing, as in inpainting, δ is a number, see ``HOLES``.
    ``scale`` multiplies the standard deviation.
    """

    def variance(self, sigma: float, misfit: Tensor, measurement: Measurement) -> Tensor:
        """Variance per pixel at ``sigma`` of images whose misfits have the norm ``misfit`` (N,), of
        each (N,)."""
        small = downscales(measurement.operator)
        low = sigma <= SWITCH[small]
        if measurement.measured is not None:
            delta = misfit.new_full(misfit.shape, HOLES[low])
        else:
            delta = (DOWNSCALED if small else BLURRED)[low] * misfit
        return (self.scale * posterior_deviation(sigma)) ** 2 * delta


@dataclass(frozen=True)
class ColouredError:
    """Stationary noise with ``trust`` times the spectral density ``spectrum``."""

    spectrum: ErrorSpectrum
    trust: float = 1.0

    def density(self, sigma: float, height: int, width: int) -> Tensor:
        """Variance per pixel of every frequency at ``sigma``; see ``ErrorSpectrum.density``."""
        return self.trust * self.spectrum.density(sigma, height, width)


@dataclass(frozen=True)
class MeasuredError:
    """The error that was measured for a prior; of a prior that has no spectrum, a white one.

    trust: factor of the covariance. The error of a run is larger than the measured one, for which
        the true image was the start.
    unmeasured: scale of the white error, see ``WhiteError``, of a prior that has no spectrum.

    Raises ValueError for negative values.
    """

    trust: float = 2.0
    unmeasured: float = 0.2

    def __post_init__(self) -> None:
        at_least(0, trust=self.trust, unmeasured=self.unmeasured)

    def of(self, prior: FlowPrior) -> WhiteError | ColouredError:
        """The error of ``prior``."""
        if prior.error_spectrum is None:
            return WhiteError(self.unmeasured)
        return ColouredError(prior.error_spectrum, self.trust)


class ModelError(Protocol):
    """The error of a model, as settings have it."""

    def of(self, prior: FlowPrior) -> WhiteError | ColouredError:
        """The error of ``prior``."""
        ...
