"""JPEG compression and decompression as a nonlinear operator."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor

from .jpeg_codec import Codec, Placed
from .jpeg_tables import CHROMA, LUMA, scaled
from .operator import Operator, Shape
from .orientation import TURNS, stored
from .recipe import Recipe, positive_integer

__all__ = ["Jpeg"]

SUBSAMPLING = {"4:4:4": (1, 1), "4:2:2": (1, 2), "4:2:0": (2, 2)}
"""Rows and columns of pixels that share one chroma value."""


@dataclasses.dataclass(frozen=True)
class Jpeg(Recipe):
    """Baseline JPEG compression and decompression, with all roundings to 8 bits.

    ``quality``, 1 to 100, scales the standard quantisation tables as the Independent JPEG Group
    does; ``luma`` and ``chroma``, if given, replace them: 64 steps each, row by row.
    ``subsampling`` of chroma is 4:4:4, 4:2:2 or 4:2:0. Images are in [-1, 1], of any size, with one
    or three channels. Rounding and clamping have straight-through gradients: the vector-Jacobian
    product is that of the operator without them.

    ``orientation`` is that of the file's EXIF data, 1 to 8: the file holds the picture turned or
    mirrored, and its blocks start at that corner. ``inside`` is the (height, width) of the picture,
    at the top left of a padded one; beyond it nothing is changed. ValueError for parameters out of
    range.
    """

    quality: int = 30
    subsampling: str = "4:2:0"
    luma: tuple[int, ...] | None = None
    chroma: tuple[int, ...] | None = None
    orientation: int = 1
    inside: tuple[int, int] | None = None
    name: ClassVar[str] = "jpeg"

    def __post_init__(self) -> None:
        if self.quality != self.quality or self.quality not in range(1, 101):
            raise ValueError(
                f"the JPEG quality is {self.quality}; expected a whole number from 1 to 100"
            )
        if self.subsampling not in SUBSAMPLING:
            raise ValueError(
                f"the subsampling is {self.subsampling!r}; expected one of {', '.join(SUBSAMPLING)}"
            )
        if self.orientation not in TURNS:
            raise ValueError(
                f"the orientation is {self.orientation}; expected a whole number from 1 to 8"
            )
        if self.inside is not None:
            height, width = (positive_integer(n, "a side of the JPEG") for n in self.inside)
            object.__setattr__(self, "inside", (height, width))
        object.__setattr__(self, "quality", int(self.quality))
        for which in ("luma", "chroma"):
            table = getattr(self, which)
            if table is None:
                continue
            if len(table) != 64 or any(step != step or step < 1 for step in table):
                raise ValueError(f"the {which} table is {table}; expected 64 steps of at least 1")
            object.__setattr__(self, which, tuple(map(int, table)))

    def tables(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Quantisation tables of luma and chroma, 64 steps each, row by row."""
        return (
            self.luma or scaled(LUMA, self.quality),
            self.chroma or scaled(CHROMA, self.quality),
        )

    def stored(self, x: Tensor) -> Tensor:
        """Upright pictures x (N, C, H, W) as the file holds them."""
        return stored(x, self.orientation)

    def for_padding(
        self, size: tuple[int, int], padded: tuple[int, int], multiple: int = 1
    ) -> Jpeg:
        return self if size == padded else dataclasses.replace(self, inside=size)

    def _bind(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> Operator:
        if shape[0] not in (1, 3):
            raise ValueError(f"jpeg takes images of 1 or 3 channels; this one has {shape[0]}")
        tables = torch.tensor(self.tables(), dtype=torch.float64).to(device, dtype)
        height, width = self.inside or shape[1:]
        if height > shape[1] or width > shape[2]:
            raise ValueError(
                f"the JPEG is {width}x{height} and the image {shape[2]}x{shape[1]} (width x"
                " height); expected one that it fits into"
            )
        if TURNS[self.orientation].transposed:
            height, width = width, height
        codec = Codec((shape[0], height, width), SUBSAMPLING[self.subsampling], tables)
        if self.orientation == 1 and codec.in_shape == shape:
            return codec
        return Placed(shape, codec, self.orientation)
