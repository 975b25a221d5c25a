"""The finish: a last correction in pixels, after decoding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..operators import LinearOperator, Measurement
from .checks import at_least
from .discrepancy import towards

if TYPE_CHECKING:
    from .settings import MethodSettings


@dataclass(frozen=True)
class PixelCorrection:
    """Settings of the finish.

    pixel_error_std: standard deviation τ of what the autoencoder cannot show, for images in
        [-1, 1]; 0 is no correction. ValueError for a negative number.
    """

    pixel_error_std: float = 0.0

    def __post_init__(self) -> None:
        at_least(0, pixel_error_std=self.pixel_error_std)


@torch.no_grad()
def data_consistency(x: Tensor, measurement: Measurement, settings: MethodSettings) -> Tensor:
    """The decoded images x (N, 3, H, W), corrected where the measurement is more exact than the
    autoencoder.

    The clean image is taken as x plus an error of standard deviation τ (``PixelCorrection``), so
    that its mean given y is argmin ‖A u − y‖² / 2σₙ² + ‖u − x‖² / 2τ² over u: one prox of the
    operator. With a ``stop`` of the data step the correction goes no further than to that ratio of
    residual to noise. Where the operator is not linear or nothing is pulled, x is returned as it
    is.
    """
    operator, error = measurement.operator, settings.finish.pixel_error_std
    if not (error and settings.data_step.active and isinstance(operator, LinearOperator)):
        return x
    gamma = (error / measurement.floored_noise_level) ** 2
    corrected = operator.prox(x, measurement.y.to(x), gamma)
    stop = settings.data_step.stop
    return towards(x, corrected, stop, measurement) if stop else corrected
