"""The last correction in pixels: what the measurement says beyond the autoencoder."""

from __future__ import annotations

import torch
from torch import Tensor

from ..operators import LinearOperator, Measurement
from .discrepancy import towards
from .settings import Settings


@torch.no_grad()
def data_consistency(x: Tensor, measurement: Measurement, settings: Settings) -> Tensor:
    """The decoded images x (N, C, H, W), with what the measurement says beyond the autoencoder.

    The clean image is D(z) plus an error of standard deviation τ = ``settings.pixel_error_std``, so
    that its mean given y is argmin ‖A x − y‖² / 2σₙ² + ‖x − D(z)‖² / 2τ²: one prox of the operator.
    Where the operator is not linear, x is returned as it is. With ``settings.stop`` the correction
    goes no further than to that ratio of residual to noise.
    """
    operator = measurement.operator
    if not (
        settings.pixel_error_std and settings.step_size and isinstance(operator, LinearOperator)
    ):
        return x
    gamma = (settings.pixel_error_std / measurement.floored_noise_level) ** 2
    polished = operator.prox(x, measurement.y.to(x), gamma)
    return towards(x, polished, settings.stop, measurement) if settings.stop else polished
