"""Long exposure: a frame is the mean of several instants."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch

from .linear.linear_operator import LinearOperator
from .linear.over_time import OverTime
from .operator import Cycle, Shape
from .recipe import Recipe, positive_integer

__all__ = ["Exposure"]


@dataclasses.dataclass(frozen=True)
class Exposure(Recipe):
    """Every frame of the measurement is the mean of ``frames`` frames of the film.

    ValueError unless ``frames`` is a whole number from 1 to 64.
    """

    frames: int = 2
    name: ClassVar[str] = "exposure"

    def __post_init__(self) -> None:
        frames = positive_integer(self.frames, "the number of averaged frames", most=64)
        object.__setattr__(self, "frames", frames)

    @property
    def cycle(self) -> Cycle:
        return self.frames, 1

    def _bind(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> LinearOperator:
        mean = torch.full((1, self.frames), 1 / self.frames, dtype=torch.float64)
        return OverTime(shape, [mean], device, dtype)
