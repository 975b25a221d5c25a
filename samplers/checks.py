"""Validation of settings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..operators import Measurement

if TYPE_CHECKING:
    from .settings import MethodSettings


def at_least(least: int, **values: float) -> None:
    """ValueError for the first of the named values that is not finite or below ``least``."""
    for name, value in values.items():
        if not (math.isfinite(value) and value >= least):
            raise ValueError(f"{name} is {value}; expected a number of at least {least}")


def one_of(choices: Sequence[str], **values: str) -> None:
    """ValueError for the first of the named values that is none of ``choices``."""
    for name, value in values.items():
        if value not in choices:
            raise ValueError(f"{name} is {value!r}; expected one of {', '.join(choices)}")


def of_kind(kind: type, what: str, value: object) -> None:
    """ValueError unless ``value``, which the message calls ``what``, is a ``kind``."""
    if not isinstance(value, kind):
        raise ValueError(f"the {what} is {type(value).__name__}; choose {kind.__name__}")


def check_film(settings: MethodSettings, measurement: Measurement, together: bool = False) -> None:
    """ValueError where steps along a gradient, which are sized frame by frame, meet a film whose
    measurement has another number of frames, or whose frames have latents ``together``."""
    cycle = measurement.operator.cycle
    if together and settings.gradients:
        raise ValueError(
            "the model restores all frames of a video at once, and these settings take gradients"
            " frame by frame: choose Refine, or a preset without gradients"
        )
    if cycle and cycle[0] != cycle[1] and settings.gradients:
        raise ValueError(
            f"{cycle[0]} frames of the film are measured as {cycle[1]}, and these settings take"
            " gradients frame by frame: choose Refine, or a preset without gradients"
        )
