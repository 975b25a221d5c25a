"""Interlaced video: the two fields of a frame are of different instants."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch

from .linear.linear_operator import LinearOperator
from .linear.over_time import OverTime
from .operator import Cycle, Shape
from .recipe import Recipe
from .sensor import FIELDS

__all__ = ["Fields"]


@dataclasses.dataclass(frozen=True)
class Fields(Recipe):
    """Two frames of a film become one of video: one field is of the first, the other of the second.

    ``first``: the field that is earlier, ``top`` (rows 0, 2, 4, …) or ``bottom``. So 25 frames of
    video a second show 50 instants. ValueError for an unknown field.
    """

    first: str = "top"
    name: ClassVar[str] = "fields"

    def __post_init__(self) -> None:
        if self.first not in FIELDS:
            raise ValueError(f"the first field is {self.first!r}; expected 'top' or 'bottom'")

    @property
    def cycle(self) -> Cycle:
        return 2, 1

    def _bind(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> LinearOperator:
        fields = torch.eye(2, dtype=torch.float64).view(2, 1, 2)
        first = FIELDS.index(self.first)
        return OverTime(shape, [fields[first], fields[1 - first]], device, dtype)
