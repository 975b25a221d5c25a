"""The initial noise of a sampler."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..operators import Measurement
from ..priors.base import FlowPrior
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
            f"the image is {height}x{width}; expected both sides to be multiples of {prior.stride}:"
            " pad it first"
        )
    shape = (
        len(measurement.y),
        prior.latent_channels,
        height // prior.stride,
        width // prior.stride,
    )
    dtype = torch.float64 if measurement.y.dtype == torch.float64 else torch.float32
    return randn_like(torch.empty(shape, dtype=dtype, device=prior.device), generators)
