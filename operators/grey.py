"""Conversion to grey, the degradation of colorization."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import torch
from torch import Tensor

from .linear.coisometry import CoIsometry
from .linear.linear_operator import LinearOperator
from .operator import Shape
from .recipe import Recipe

__all__ = ["Colorization"]

EQUAL = (1 / 3, 1 / 3, 1 / 3)
REC601 = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in luma (ITU-R BT.601, as in JPEG)."""


class _Grey(CoIsometry):
    def __init__(self, shape: Shape, weights: Tensor, device: torch.device):
        super().__init__(shape, (1, *shape[1:]))
        self._weights = weights.view(-1, 1, 1).to(device)
        # On the CPU, as not every device has float64.
        self.gain = float(weights.double().square().sum())

    def _forward(self, x: Tensor) -> Tensor:
        return (self._weights * x).sum(1, keepdim=True)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._weights * y


@dataclasses.dataclass(frozen=True)
class Colorization(Recipe):
    """Weighted sum of red, green and blue; the measurement has one channel.

    ``weights`` are three numbers that sum to 1, such as ``EQUAL`` (default) and ``REC601``.
    ValueError for other weights; ``bind`` raises it for images without three channels.
    """

    weights: tuple[float, float, float] = EQUAL
    name: ClassVar[str] = "colorization"
    partial: ClassVar[bool] = True

    def __post_init__(self) -> None:
        weights = tuple(map(float, self.weights))
        if len(weights) != 3 or not math.isclose(sum(weights), 1, abs_tol=1e-6):
            raise ValueError(
                f"the weights are {weights}; expected three numbers that sum to 1, for red, green"
                " and blue"
            )
        object.__setattr__(self, "weights", weights)

    def from_photo(self, photo: Tensor) -> Tensor:
        weights = torch.tensor(self.weights, dtype=torch.float64).to(photo)
        return (weights.view(3, 1, 1) * photo).sum(1, keepdim=True)

    def channels(self, given: int) -> int:
        if given != 3:
            raise ValueError(f"colorization takes images of 3 channels; this one has {given}")
        return 1

    def _bind(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> LinearOperator:
        self.channels(shape[0])
        return _Grey(shape, torch.tensor(self.weights, dtype=torch.float64).to(dtype), device)
