"""Final correction of the decoded image in pixel space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..operators import LinearOperator, Measurement
from ..priors.base import FlowPrior
from .checks import at_least
from .discrepancy import towards
from .method import Sample

if TYPE_CHECKING:
    from .settings import MethodSettings


@dataclass(frozen=True)
class PixelCorrection:
    """Settings of the final correction.

    pixel_error_std: standard deviation τ of the autoencoder's reconstruction error, for images in
        [-1, 1]; 0 is no correction. ValueError for a negative number.
    """

    pixel_error_std: float = 0.0

    def __post_init__(self) -> None:
        at_least(0, pixel_error_std=self.pixel_error_std)


@torch.no_grad()
def data_consistency(x: Tensor, measurement: Measurement, settings: MethodSettings) -> Tensor:
    """Correct decoded images x (N, 3, H, W) where the measurement is more precise than the decoder.

    The clean image is modelled as x plus Gaussian errors of standard deviation τ
    (``PixelCorrection``); its posterior mean, argmin over u of ‖A u − y‖² / 2σₙ² + ‖u − x‖² / 2τ²,
    is one prox of the operator. If the data step has a ``stop``, the correction ends at that ratio
    of residual to noise. Returns x unchanged if the operator is nonlinear or the data step is
    inactive.
    """
    operator, error = measurement.operator, settings.finish.pixel_error_std
    if not (error and settings.data_step.active and isinstance(operator, LinearOperator)):
        return x
    gamma = (error / measurement.floored_noise_level) ** 2
    corrected = operator.prox(x, measurement.y.to(x), gamma)
    stop = settings.data_step.stop
    return towards(x, corrected, stop, measurement) if stop else corrected


@torch.no_grad()
def finished(
    prior: FlowPrior, result: Sample, measurement: Measurement, settings: MethodSettings
) -> Tensor:
    """The restorations (N, 3, H, W) of a method's result, not clamped."""
    if result.images is not None:
        return result.images
    return data_consistency(prior.decode(result.latents).float(), measurement, settings)
