"""Posterior samplers: pure functions of prior, initial noise, noise schedule and measurement."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..operators import Measurement
from ..priors.base import FlowPrior
from .checks import check_film
from .consistency import PixelCorrection, data_consistency, finished
from .curves import Schedule
from .flair import FlairSettings, SquaredSteps, flair
from .flowchef import FlowChefSettings, flowchef
from .flowdps import FlowDPSSettings, flowdps
from .gradient_step import GradientStep, InnerSteps
from .latino import LatinoSettings, latino
from .method import Callback, Sample, Step
from .model_error import MeasuredError, ResidualError, WhiteError
from .noise import randn_like
from .pixel_step import PixelStep
from .psld import PSLDSettings, psld
from .refine import RefineSettings, VariationFinish, refine, suited
from .registry import METHODS, PRESETS, Method, method_named, preset
from .schedule import check_sigmas, published_sigmas
from .settings import MethodSettings, flat, override, with_values
from .start import start
from .work import Work


def sample(
    method: str,
    prior: FlowPrior,
    measurement: Measurement,
    *,
    sigmas: Tensor,
    settings: MethodSettings,
    generators: Sequence[torch.Generator],
    callback: Callback | None = None,
) -> Sample:
    """One posterior sample per measurement, drawn by ``method``; ``finished`` makes its images.

    ``sigmas`` (n,) decrease from at most 1 to 0; ``settings`` are of the method's settings class,
    such as ``preset(method)``; ``generators``, one CPU generator per sample, are the only source of
    randomness. Raises ValueError for an unknown method, settings of another method, sigmas that do
    not decrease, and an image size that the prior's stride does not divide.
    """
    chosen = method_named(method)
    if not isinstance(settings, chosen.settings):
        raise ValueError(
            f"{method} takes {chosen.settings.__name__} and was given {type(settings).__name__}:"
            f" start from preset({method!r})"
        )
    check_sigmas(sigmas)
    check_film(settings, measurement)
    z = start(prior, measurement, generators)
    return Sample.of(chosen.function(prior, z, sigmas, measurement, settings, generators, callback))


__all__ = [
    "METHODS",
    "PRESETS",
    "Callback",
    "FlairSettings",
    "FlowChefSettings",
    "FlowDPSSettings",
    "GradientStep",
    "InnerSteps",
    "LatinoSettings",
    "MeasuredError",
    "Method",
    "MethodSettings",
    "PSLDSettings",
    "PixelCorrection",
    "PixelStep",
    "RefineSettings",
    "ResidualError",
    "Sample",
    "Schedule",
    "SquaredSteps",
    "Step",
    "VariationFinish",
    "WhiteError",
    "Work",
    "check_film",
    "check_sigmas",
    "data_consistency",
    "finished",
    "flair",
    "flat",
    "flowchef",
    "flowdps",
    "latino",
    "method_named",
    "override",
    "preset",
    "psld",
    "published_sigmas",
    "randn_like",
    "refine",
    "sample",
    "start",
    "suited",
    "with_values",
]
