"""Posterior samplers: pure functions of a prior, a start, a list of sigmas and a measurement."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..operators import Measurement
from ..priors.base import FlowPrior
from .consistency import data_consistency
from .flowchef import flowchef
from .flowdps import flowdps
from .method import Callback, Step
from .noise import randn_like
from .presets import PRESETS, preset
from .psld import psld
from .schedule import published_sigmas
from .settings import Settings
from .work import Work

METHODS: dict[str, Callable[..., Tensor]] = {
    "flowdps": flowdps,
    "flowchef": flowchef,
    "psld": psld,
}


def check_sigmas(sigmas: Tensor) -> None:
    """ValueError unless ``sigmas`` (n,) fall from at most 1 to at least 0."""
    falling = bool((sigmas[1:] < sigmas[:-1]).all())
    if len(sigmas) < 2 or not falling or sigmas[0] > 1 or sigmas[-1] < 0:
        raise ValueError(f"sigmas are {sigmas.tolist()}; expected numbers falling from 1 to 0")


def start(
    prior: FlowPrior, measurement: Measurement, generators: Sequence[torch.Generator]
) -> Tensor:
    """Noise to start from, (N, C, h, w), sample k from ``generators[k]``.

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


def sample(
    method: str,
    prior: FlowPrior,
    measurement: Measurement,
    *,
    sigmas: Tensor,
    settings: Settings,
    generators: Sequence[torch.Generator],
    callback: Callback | None = None,
) -> Tensor:
    """Latents of one posterior sample per measurement, by the method of that name.

    ``sigmas`` falls from at most 1 to 0; ``generators`` holds one CPU generator per sample and is
    the only source of randomness. Raises ValueError for an unknown method or a bad list of sigmas.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; expected one of {', '.join(METHODS)}")
    check_sigmas(sigmas)
    z = start(prior, measurement, generators)
    return METHODS[method](prior, z, sigmas, measurement, settings, generators, callback)


__all__ = [
    "METHODS",
    "PRESETS",
    "Callback",
    "Settings",
    "Step",
    "Work",
    "check_sigmas",
    "data_consistency",
    "flowchef",
    "flowdps",
    "preset",
    "psld",
    "published_sigmas",
    "randn_like",
    "sample",
    "start",
]
