"""Frames that were dropped, and frames that stand there again in place of others."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch

from .linear.linear_operator import LinearOperator
from .linear.over_time import OverTime
from .operator import Cycle, Shape
from .recipe import Recipe, positive_integer

__all__ = ["Cadence"]


@dataclasses.dataclass(frozen=True)
class Cadence(Recipe):
    """Of every ``film`` frames, the measurement has those numbered ``seen``, from 0.

    (0, 2, 3) of 4 drops the second of four frames; (0, 0, 2, 3) shows the first twice instead.
    ValueError unless ``film`` is a whole number from 1 to 64, and ``seen`` has such numbers below
    it in order.
    """

    film: int = 4
    seen: tuple[int, ...] = (0, 2, 3)
    name: ClassVar[str] = "cadence"

    def __post_init__(self) -> None:
        film = positive_integer(self.film, "the number of frames", most=64)
        seen = tuple(self.seen)
        fits = all(isinstance(k, int) and 0 <= k < film for k in seen)
        if not seen or not fits or list(seen) != sorted(seen):
            raise ValueError(
                f"the frames seen are {seen}; expected numbers from 0 to {film - 1} in order, such"
                " as (0, 2, 3)"
            )
        object.__setattr__(self, "film", film)
        object.__setattr__(self, "seen", seen)

    @property
    def cycle(self) -> Cycle:
        return self.film, len(self.seen)

    def _bind(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> LinearOperator:
        chosen = torch.eye(self.film, dtype=torch.float64)[list(self.seen)]
        return OverTime(shape, [chosen], device, dtype)
