"""JPEG compression and decompression as a nonlinear operator."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch

from .jpeg_codec import Codec
from .jpeg_tables import CHROMA, LUMA, scaled
from .operator import Operator, Shape
from .recipe import Recipe

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
    product is that of the operator without them. ValueError for parameters out of range.
    """

    quality: int = 30
    subsampling: str = "4:2:0"
    luma: tuple[int, ...] | None = None
    chroma: tuple[int, ...] | None = None
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

    def _bind(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> Operator:
        if shape[0] not in (1, 3):
            raise ValueError(f"jpeg takes images of 1 or 3 channels; this one has {shape[0]}")
        tables = torch.tensor(self.tables(), dtype=torch.float64).to(device, dtype)
        return Codec(shape, SUBSAMPLING[self.subsampling], tables)
