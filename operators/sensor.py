"""Sensors that record a part of the image: interlaced rows, and Bayer mosaics."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor

from .linear.coisometry import CoIsometry
from .linear.linear_operator import LinearOperator
from .operator import Shape
from .recipe import Recipe

__all__ = ["Bayer", "Interlace"]

FIELDS = ("top", "bottom")
PATTERNS = ("RGGB", "BGGR", "GRBG", "GBRG")


class _Rows(CoIsometry):
    def __init__(self, shape: Shape, first: int):
        channels, height, width = shape
        super().__init__(shape, (channels, (height - first + 1) // 2, width))
        self._first = first

    def _forward(self, x: Tensor) -> Tensor:
        return x[..., self._first :: 2, :].clone()

    def _adjoint(self, y: Tensor) -> Tensor:
        index = torch.arange(self._first, self.in_shape[1], 2, device=y.device)
        return y.new_zeros(len(y), *self.in_shape).index_add(-2, index, y)

    def _picture(self, y: Tensor) -> Tensor:
        return self._adjoint(y)


class _Mosaic(CoIsometry):
    def __init__(self, shape: Shape, filter_: Tensor):
        super().__init__(shape, (1, *shape[1:]))
        self._filter = filter_

    def _forward(self, x: Tensor) -> Tensor:
        return (self._filter * x).sum(1, keepdim=True)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._filter * y


@dataclasses.dataclass(frozen=True)
class Interlace(Recipe):
    """One field of an interlaced frame: rows 0, 2, 4, … (``field`` = top) or 1, 3, 5, … (bottom).

    The measurement has the rows of that field only; its picture is the whole frame, with 0 for the
    other field. ValueError for an unknown field; ``bind`` raises it for images without such a row.
    """

    field: str = "top"
    name: ClassVar[str] = "interlace"
    partial: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.field not in FIELDS:
            raise ValueError(f"the field is {self.field!r}; expected 'top' or 'bottom'")

    def from_photo(self, photo: Tensor) -> Tensor:
        return photo[..., FIELDS.index(self.field) :: 2, :]

    def _bind(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> LinearOperator:
        first = FIELDS.index(self.field)
        if shape[1] <= first:
            raise ValueError("the image has one row and so no bottom field; choose 'top'")
        return _Rows(shape, first)


@dataclasses.dataclass(frozen=True)
class Bayer(Recipe):
    """Bayer mosaic: one of three colours is measured at every pixel.

    ``pattern`` gives the colours of the first two pixels of row 0, then of row 1. The measurement
    has one channel, as in raw files; its picture is grey, and ``from_photo`` also takes pictures in
    colour. ValueError for an unknown pattern; ``bind`` raises it for images without three channels.
    """

    pattern: str = "RGGB"
    name: ClassVar[str] = "bayer"
    partial: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.pattern not in PATTERNS:
            raise ValueError(
                f"the pattern is {self.pattern!r}; expected one of {', '.join(PATTERNS)}"
            )

    def filter(self, height: int, width: int) -> Tensor:
        """Colour filter array, float64 (3, height, width): 1 for the measured colour, else 0."""
        cell = torch.tensor([["RGB".index(c) for c in self.pattern]]).view(2, 2)
        rows, columns = torch.arange(height) % 2, torch.arange(width) % 2
        colour = cell[rows[:, None], columns]
        return (colour == torch.arange(3).view(3, 1, 1)).double()

    def from_photo(self, photo: Tensor) -> Tensor:
        filter_ = self.filter(*photo.shape[2:]).to(photo)
        return (filter_ * photo).sum(1, keepdim=True)

    def channels(self, given: int) -> int:
        if given != 3:
            raise ValueError(f"bayer takes images of 3 channels; this one has {given}")
        return 1

    def _bind(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> LinearOperator:
        self.channels(shape[0])
        return _Mosaic(shape, self.filter(*shape[1:]).to(device, dtype))
