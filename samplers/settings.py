"""What the settings of all methods have in common, and how single values of them are changed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .checks import at_least
from .consistency import PixelCorrection
from .data_step import DataStepSettings

S = TypeVar("S")


@dataclass(frozen=True, kw_only=True)
class MethodSettings:
    """Settings that every method has; each method's own class adds its own.

    data_step: what pulls towards the measurement.
    finish: the correction of the decoded image.
    """

    data_step: DataStepSettings
    finish: PixelCorrection = field(default_factory=PixelCorrection)


M = TypeVar("M", bound=MethodSettings)


def flat(settings: Any) -> dict[str, Any]:
    """All values by name, those of the data step and the finish among them."""
    found: dict[str, Any] = {}
    for each in dataclasses.fields(settings):
        value = getattr(settings, each.name)
        inside = dataclasses.is_dataclass(value)
        found |= flat(value) if inside else {each.name: value}
    return found


def with_values(settings: S, **changes: Any) -> S:
    """The same settings with values replaced by name, whichever part has them.

    Raises ValueError for a name that no part has.
    """
    known: Any = settings
    names = flat(known)
    for name in changes:
        if name not in names:
            raise ValueError(
                f"{type(settings).__name__} has no value {name!r}; expected one of"
                f" {', '.join(names)}"
            )
    new: dict[str, Any] = {}
    for each in dataclasses.fields(known):
        value = getattr(settings, each.name)
        if each.name in changes:
            new[each.name] = changes[each.name]
        elif dataclasses.is_dataclass(value):
            inside = {name: changes[name] for name in flat(value) if name in changes}
            new[each.name] = with_values(value, **inside)
    return dataclasses.replace(known, **new)


def override(
    settings: M,
    *,
    step_scale: float = 1.0,
    inner_steps: int | None = None,
    stop: float | None = None,
) -> M:
    """A preset with what a user chose; the command line and the nodes mean the same by it.

    step_scale: multiplies the preset's step; 1 keeps it, 0 is no pull.
    inner_steps: moves per noise level; None or 0 keeps the preset's.
    stop: ratio of residual to noise at which the pull ends, 0 for never; None or -1 keeps the
        preset's.

    Raises ValueError for other values, and for inner steps of a method that has none.
    """
    at_least(0, step_scale=step_scale)
    settings = dataclasses.replace(settings, data_step=settings.data_step.scaled(step_scale))
    if inner_steps:
        if "inner_steps" not in flat(settings):
            raise ValueError(
                f"inner_steps is {inner_steps} and {type(settings).__name__} has none: leave it"
                " out, or choose flowdps"
            )
        settings = with_values(settings, inner_steps=inner_steps)
    if stop is not None and stop != -1:
        if not stop >= 0:
            raise ValueError(
                f"stop is {stop}; expected -1 (the preset's), 0 (never) or a ratio above 0, such"
                " as 1"
            )
        settings = with_values(settings, stop=stop)
    return settings
