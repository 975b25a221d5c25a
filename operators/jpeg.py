"""JPEG: what compression leaves of an image. Not linear."""

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
"""How many rows and columns share one value of colour."""


@dataclasses.dataclass(frozen=True)
class Jpeg(Recipe):
    """Compressed by baseline JPEG and read again, with the roundings of 8 bits on the way.

    ``quality`` from 1 to 100 scales the usual tables as the Independent JPEG Group does; ``luma``
    and ``chroma``, 64 steps each row by row, are used instead where they are given. Colour is
    halved as ``subsampling`` says: 4:4:4, 4:2:2 or 4:2:0. Images in [-1, 1], of any size, of three
    channels or one. Gradients pass the rounding and clamping as if they were not there, so the
    vector-Jacobian product is that of the linear rest. ValueError for values outside these.
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
        """The quantisation steps of luma and chroma, row by row."""
        return (
            self.luma or scaled(LUMA, self.quality),
            self.chroma or scaled(CHROMA, self.quality),
        )

    def _bind(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> Operator:
        if shape[0] not in (1, 3):
            raise ValueError(f"jpeg takes images of 1 or 3 channels; this one has {shape[0]}")
        tables = torch.tensor(self.tables(), dtype=torch.float64).to(device, dtype)
        return Codec(shape, SUBSAMPLING[self.subsampling], tables)
