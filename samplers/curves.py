"""Values that change in the course of a run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from .checks import one_of

CURVES = ("lin", "slow", "fast", "late")


@dataclass(frozen=True)
class Schedule:
    """A value that goes from ``start`` to ``end``; u is 0 at the first noise level, 1 at the last.

    curve: the part c(u) of the way (TriPS, 2026): ``lin`` is u, ``slow`` (e^{6u} − 1) / (e⁶ − 1),
        ``fast`` ln(1 + 6u) / ln 7 and ``late`` (e^{15u} − 1) / (e¹⁵ − 1).

    Raises ValueError for another curve and for values that are not finite.
    """

    curve: Literal["lin", "slow", "fast", "late"]
    start: float
    end: float

    def __post_init__(self) -> None:
        one_of(CURVES, curve=self.curve)
        for name in ("start", "end"):
            if not math.isfinite(value := getattr(self, name)):
                raise ValueError(f"{name} is {value}; expected a finite number")

    def at(self, u: float) -> float:
        """The value at ``u``, from 0 to 1."""
        if self.curve == "lin":
            part = u
        elif self.curve == "fast":
            part = math.log1p(6 * u) / math.log(7)
        else:
            rate = 6 if self.curve == "slow" else 15
            part = math.expm1(rate * u) / math.expm1(rate)
        return self.start + (self.end - self.start) * part

    def __str__(self) -> str:
        return f"{self.start:g} → {self.end:g}, {self.curve}"


def value_at(value: float | Schedule, u: float) -> float:
    """A number, or that of a schedule at ``u``."""
    return value.at(u) if isinstance(value, Schedule) else value


def ends(value: float | Schedule) -> tuple[float, float]:
    """The extreme values in the course of a run: curves are monotone."""
    return (value.start, value.end) if isinstance(value, Schedule) else (value, value)


def course(i: int, total: int) -> float:
    """u of step ``i`` of ``total``: from 0 at the first to 1 at the last."""
    return i / (total - 1) if total > 1 else 0.0
