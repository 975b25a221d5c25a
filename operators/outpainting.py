"""Cropping, the degradation of outpainting."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from .linear.coisometry import CoIsometry
from .linear.linear_operator import LinearOperator
from .operator import Shape
from .recipe import Recipe

__all__ = ["Outpainting"]

WIDEST = 4096
"""Widest margin in pixels."""


class _Crop(CoIsometry):
    def __init__(self, shape: Shape, margins: tuple[int, int, int, int]):
        left, top, right, bottom = margins
        channels, height, width = shape
        super().__init__(shape, (channels, height - top - bottom, width - left - right))
        self._margins = (left, right, top, bottom)
        self._rows, self._columns = slice(top, height - bottom), slice(left, width - right)

    def _forward(self, x: Tensor) -> Tensor:
        return x[..., self._rows, self._columns].clone()

    def _adjoint(self, y: Tensor) -> Tensor:
        return F.pad(y, self._margins)


@dataclasses.dataclass(frozen=True)
class Outpainting(Recipe):
    """The image cropped by margins in pixels; the measurement is smaller by them.

    ValueError unless every margin is a whole number of at least 0; ``bind`` raises it for images
    that are no larger than the margins.
    """

    left: int = 32
    top: int = 32
    right: int = 32
    bottom: int = 32
    name: ClassVar[str] = "outpainting"

    def __post_init__(self) -> None:
        for side in ("left", "top", "right", "bottom"):
            value = getattr(self, side)
            if isinstance(value, bool) or not 0 <= value <= WIDEST or value != int(value):
                raise ValueError(
                    f"the {side} margin is {value}; expected a whole number from 0 to {WIDEST}"
                )
            object.__setattr__(self, side, int(value))

    def measured_size(self, height: int, width: int) -> tuple[int, int]:
        return height - self.top - self.bottom, width - self.left - self.right

    def image_size(self, height: int, width: int) -> tuple[int, int]:
        return height + self.top + self.bottom, width + self.left + self.right

    def for_padding(
        self, size: tuple[int, int], padded: tuple[int, int], multiple: int = 1
    ) -> Outpainting:
        # The padding lies beyond the margins and is unknown like them. So are the last rows and
        # columns of the crop where ``multiple`` does not divide its size.
        height, width = (n // multiple * multiple for n in self.measured_size(*size))
        bottom, right = padded[0] - self.top - height, padded[1] - self.left - width
        return dataclasses.replace(self, right=right, bottom=bottom)

    def _bind(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> LinearOperator:
        if min(self.measured_size(*shape[1:])) < 1:
            raise ValueError(
                f"the image is {shape[2]}x{shape[1]} (width x height), and the margins leave"
                " nothing of it; choose smaller margins or a larger image"
            )
        return _Crop(shape, (self.left, self.top, self.right, self.bottom))
