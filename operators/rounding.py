"""Quantisation (posterised images) and clipping (over- or underexposure); nonlinear."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import torch
from torch import Tensor

from .cut_off import CutOff, cut_off
from .operator import Operator, Shape
from .recipe import Recipe, positive_integer

__all__ = ["Clip", "Quantise"]


def rounded(x: Tensor) -> Tensor:
    """x rounded to whole numbers, with a straight-through gradient."""
    return x + (x.round() - x).detach()


def beyond(x: Tensor, target: Tensor, half: float) -> Tensor:
    """What of x lies farther than ``half`` from ``target``: 0 in between."""
    apart = x - target
    return apart - apart.clamp(-half, half)


class _Quantise(Operator):
    def __init__(self, shape: Shape, levels: int):
        super().__init__(shape, shape)
        self._half = (levels - 1) / 2

    def _forward(self, x: Tensor) -> Tensor:
        y = rounded((x + 1) * self._half) / self._half - 1
        return y + (y.clamp(-1, 1) - y).detach()

    @property
    def rounds(self) -> bool:
        return True

    def _misfit(self, x: Tensor, y: Tensor) -> Tensor:
        # The outer intervals have no end.
        ends = 1 + 0.5 / self._half
        x = x + ((x.clamp(-ends, ends) - x) * (y.abs() > 1 - 0.5 / self._half)).detach()
        return beyond(x, y, 0.5 / self._half)


class _Cut(torch.autograd.Function):
    """A clamp whose gradient outside its range is kept only where descent leads back inside."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.ends = low, high
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (x,), (gradient,), (low, high) = ctx.saved_tensors, gradients, ctx.ends
        away = ((x > high) & (gradient < 0)) | ((x < low) & (gradient > 0))
        return torch.where(away, 0.0, gradient), None, None


class _Clip(Operator):
    def __init__(self, shape: Shape, low: float, high: float):
        super().__init__(shape, shape)
        self._ends = low, high

    def _forward(self, x: Tensor) -> Tensor:
        return _Cut.apply(x, *self._ends)  # type: ignore[return-value]

    def cut_off(self, y: Tensor, tolerance: float) -> CutOff:
        return cut_off(self._checked(y, self.out_shape, "measurement"), tolerance, *self._ends)


@dataclasses.dataclass(frozen=True)
class Quantise(Recipe):
    """Round every value to the nearest of ``levels`` evenly spaced numbers from -1 to 1.

    256 levels are 8 bits; 2 levels are black and white. The gradient is straight-through.
    ValueError for fewer than 2 levels.
    """

    levels: int = 8
    name: ClassVar[str] = "quantise"

    def __post_init__(self) -> None:
        levels = positive_integer(self.levels, "the number of levels")
        if levels < 2:
            raise ValueError("the number of levels is 1; expected at least 2")
        object.__setattr__(self, "levels", levels)

    def _bind(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> Operator:
        return _Quantise(shape, self.levels)


@dataclasses.dataclass(frozen=True)
class Clip(Recipe):
    """Values clamped to the range from ``low`` to ``high``.

    The gradient is exact inside the range. Outside, where that of a clamp is 0 and pixels would get
    stuck, it passes unchanged if a descent step leads back into the range, and is 0 otherwise.
    ValueError unless ``low`` is less than ``high``.
    """

    low: float = -1.0
    high: float = 0.3
    name: ClassVar[str] = "clip"

    def __post_init__(self) -> None:
        if not -float("inf") < self.low < self.high < float("inf"):
            raise ValueError(f"low is {self.low} and high is {self.high}; expected low below high")

    def _bind(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> Operator:
        return _Clip(shape, self.low, self.high)
