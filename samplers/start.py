"""What a sampler starts from: noise, or a first picture."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..operators import LinearOperator, Measurement
from ..priors.base import FlowPrior
from .data_loss import regularised_inverse
from .noise import randn_like


def start(
    prior: FlowPrior, measurement: Measurement, generators: Sequence[torch.Generator]
) -> Tensor:
    """Initial standard normal latents (N, C, h, w); sample k is drawn from ``generators[k]``.

    Raises ValueError when the operator's image size is not a multiple of the prior's stride.
    """
    _, height, width = measurement.operator.in_shape
    if height % prior.stride or width % prior.stride:
        raise ValueError(
            f"the image is {width}x{height} (width x height); expected both sides to be multiples"
            f" of {prior.stride}: pad it first"
        )
    shape = (
        measurement.count,
        prior.latent_channels,
        height // prior.stride,
        width // prior.stride,
    )
    dtype = torch.float64 if measurement.y.dtype == torch.float64 else torch.float32
    return randn_like(torch.empty(shape, dtype=dtype, device=prior.device), generators)


def first_picture(measurement: Measurement) -> Tensor:
    """A picture (N, 3, H, W) by the measurement alone: A⁺ y, or for a nonlinear operator the
    measurement as a picture, in the image's size.

    A⁺ is regularised by σₙ², because the noise of a blurred picture would be all that is seen.
    """
    operator, y = measurement.operator, measurement.y
    if isinstance(operator, LinearOperator):
        return regularised_inverse(operator, y, measurement.floored_noise_level**2)
    picture, size = operator.picture(y), operator.in_shape[1:]
    if tuple(picture.shape[2:]) == tuple(size):
        return picture
    return F.interpolate(picture, size, mode="bicubic", antialias=True)
