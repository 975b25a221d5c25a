"""JPEG: what compression leaves of an image. Not linear."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Recipe, Shape
from .hadamard import cosine
from .jpeg_tables import CHROMA, LUMA, scaled
from .operator import Operator
from .rounding import rounded

SUBSAMPLING = {"4:4:4": (1, 1), "4:2:2": (1, 2), "4:2:0": (2, 2)}
"""How many rows and columns share one value of colour."""


class _Jpeg(Operator):
    def __init__(self, shape: Shape, shares: tuple[int, int], tables: Tensor, device: torch.device):
        super().__init__(shape, shape)
        self._shares, self._tables = shares, tables
        self._cosine = cosine(8).to(tables)
        # Red, green, blue to luma, blue and red difference (JFIF).
        kr, kb = 0.299, 0.114
        kg = 1 - kr - kb
        self._luma = torch.tensor(
            [
                [kr, kg, kb],
                [-kr / (2 - 2 * kb), -kg / (2 - 2 * kb), 0.5],
                [0.5, -kg / (2 - 2 * kr), -kb / (2 - 2 * kr)],
            ],
            dtype=torch.float64,
        )
        self._colour = torch.linalg.inv(self._luma).to(tables)
        self._luma = self._luma.to(tables)

    def _plane(self, x: Tensor, table: Tensor, round_: Callable[[Tensor], Tensor]) -> Tensor:
        """Quantise a plane (N, c, h, w), centred at 0, in its 8 x 8 blocks; edges are repeated."""
        height, width = x.shape[2:]
        x = F.pad(x, (0, -width % 8, 0, -height % 8), mode="replicate")
        n, c, tall, wide = x.shape
        d = self._cosine
        blocks = x.view(n, c, tall // 8, 8, wide // 8, 8)
        found = torch.einsum("ij,ncajbk,lk->ncaibl", d, blocks, d)
        steps = table.view(8, 1, 8)
        found = round_(found / steps) * steps
        back = torch.einsum("ij,ncaibl,lk->ncajbk", d, found, d)
        return back.reshape(n, c, tall, wide)[..., :height, :width]

    def _codec(self, x: Tensor, round_: Callable[[Tensor], Tensor]) -> Tensor:
        """Compress and decompress, with ``round_`` for the rounding of coefficients."""
        x = (x + 1) * 127.5
        if x.shape[1] == 1:
            return (self._plane(x - 128, self._tables[0], round_) + 128) / 127.5 - 1
        height, width = x.shape[2:]
        rows, columns = self._shares
        # Edges are repeated to whole blocks of 8 x 8 values of colour, before colour is averaged.
        grown = (0, -width % (8 * columns), 0, -height % (8 * rows))
        x = torch.einsum("ij,njhw->nihw", self._luma, F.pad(x, grown, mode="replicate"))
        luma = self._plane(x[:, :1, :height, :width] - 128, self._tables[0], round_)
        chroma = F.avg_pool2d(x[:, 1:], self._shares)
        chroma = self._plane(chroma, self._tables[1], round_)
        chroma = chroma[..., : -(-height // rows), : -(-width // columns)]
        if self._shares != (1, 1):
            # The triangle filter of the usual decoders.
            size = (chroma.shape[2] * rows, chroma.shape[3] * columns)
            chroma = F.interpolate(chroma, size, mode="bilinear")[..., :height, :width]
        planes = torch.cat([luma + 128, chroma], 1)
        return torch.einsum("ij,njhw->nihw", self._colour, planes) / 127.5 - 1

    def _forward(self, x: Tensor) -> Tensor:
        y = self._codec(x, rounded)
        # Files hold 0 to 255; the gradient passes, as it does through the rounding.
        return y + (y.clamp(-1, 1) - y).detach()


@dataclasses.dataclass(frozen=True)
class Jpeg(Recipe):
    """Compressed by baseline JPEG and read again, not rounded to 8 bits in the end.

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
        return _Jpeg(shape, SUBSAMPLING[self.subsampling], tables, device)
