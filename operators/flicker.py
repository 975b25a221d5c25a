"""Flicker: every frame has a brightness of its own."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import torch
from torch import Tensor

from .linear.diagonal import Diagonal
from .linear.linear_operator import LinearOperator
from .operator import Cycle, Shape
from .recipe import Recipe

__all__ = ["Flicker"]


class _Brightness(Diagonal):
    """The frames times their gains around 0; as pictures, around black, which is −1."""

    @property
    def measured(self) -> None:
        return None

    def _picture(self, y: Tensor) -> Tensor:
        return y + self._weights - 1


@dataclasses.dataclass(frozen=True)
class Flicker(Recipe):
    """The light of frame t of a film is ``gains[t]`` times what it was: y + 1 = g (x + 1).

    The operator is the linear part, g x, and ``from_photo`` and ``picture`` add what remains.
    ``gains`` has a number for every frame, above 0 to 16; ValueError for others.
    """

    gains: tuple[float, ...] = (1.0, 0.9)
    name: ClassVar[str] = "flicker"
    partial: ClassVar[bool] = True

    def __post_init__(self) -> None:
        gains = tuple(map(float, self.gains))
        if not gains or not all(math.isfinite(g) and 0 < g <= 16 for g in gains):
            raise ValueError(
                f"the gains are {gains}; expected a number above 0 for every frame, such as 1"
            )
        object.__setattr__(self, "gains", gains)

    @property
    def cycle(self) -> Cycle:
        return len(self.gains), len(self.gains)

    def weights(self) -> Tensor:
        """The gains, float64 (T, 1, 1, 1)."""
        return torch.tensor(self.gains, dtype=torch.float64).view(-1, 1, 1, 1)

    def from_photo(self, photo: Tensor) -> Tensor:
        return photo + (1 - self.weights()).to(photo)

    def _bind(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> LinearOperator:
        return _Brightness(shape, self.weights().to(dtype).to(device))
