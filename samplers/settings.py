"""Settings common to all methods, and functions that change single values of them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .checks import at_least
from .consistency import PixelCorrection
from .curves import Schedule
from .data_step import DataStepSettings

S = TypeVar("S")


@dataclass(frozen=True, kw_only=True)
class MethodSettings:
    """Settings of every method; subclasses add those of one method.

    data_step: the update towards the measurement.
    finish: the final correction of the decoded image, a ``PixelCorrection`` for most methods.
    """

    data_step: DataStepSettings
    finish: Any = field(default_factory=PixelCorrection)

    @property
    def gradients(self) -> bool:
        """Whether a run takes gradients through the decoder."""
        return self.data_step.gradients


M = TypeVar("M", bound=MethodSettings)


def _is_part(value: Any) -> bool:
    """Whether a value is nested settings; a schedule is a value like a number."""
    return dataclasses.is_dataclass(value) and not isinstance(value, Schedule)


def flat(settings: Any) -> dict[str, Any]:
    """All values by name, with those of nested settings (data step, final correction) merged."""
    found: dict[str, Any] = {}
    for each in dataclasses.fields(settings):
        value = getattr(settings, each.name)
        found |= flat(value) if _is_part(value) else {each.name: value}
    return found


def with_values(settings: S, **changes: Any) -> S:
    """A copy of the settings with values replaced by name, nested ones included.

    Raises ValueError for an unknown name.
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
        elif _is_part(value):
            inside = {name: changes[name] for name in flat(value) if name in changes}
            new[each.name] = with_values(value, **inside)
    return dataclasses.replace(known, **new)


def override(
    settings: M,
    *,
    step_scale: float = 1.0,
    inner_steps: int | None = None,
    stop: float | None = None,
    denoise: float | None = None,
) -> M:
    """A preset with the user's choices, as of the command line and the nodes.

    step_scale: factor of the preset's step; 1 keeps it, 0 ignores the measurement.
    inner_steps: steps per noise level; None or 0 keeps the preset's.
    stop: ratio of residual to noise at which the data steps end, 0 for never; None or -1 keeps the
        preset's.
    denoise: first noise level of a refinement; None keeps the preset's.

    Raises ValueError for values out of range, and for what the method does not have.
    """
    at_least(0, step_scale=step_scale)
    settings = dataclasses.replace(settings, data_step=settings.data_step.scaled(step_scale))
    if inner_steps:
        if "inner_steps" not in flat(settings):
            raise ValueError(
                f"inner_steps is {inner_steps} and these settings have none: leave it at 0, or"
                " choose a preset with several steps per noise level, such as thorough of flowdps"
            )
        settings = with_values(settings, inner_steps=inner_steps)
    if denoise is not None:
        if "denoise" not in flat(settings):
            raise ValueError(
                f"denoise is {denoise} and this method has none, as it starts from noise: leave it"
                " out, or choose refine"
            )
        settings = with_values(settings, denoise=denoise)
    if stop is not None and stop != -1:
        if not stop >= 0:
            raise ValueError(
                f"stop is {stop}; expected -1 (the preset's), 0 (never) or a ratio above 0, such"
                " as 1"
            )
        settings = with_values(settings, stop=stop)
    return settings
