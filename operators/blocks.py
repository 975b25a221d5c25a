"""Block-based compressed sensing with a random orthonormal matrix."""

from __future__ import annotations

import dataclasses
import functools
from typing import ClassVar

import torch
from torch import Tensor

from .hadamard import check_ratio, no_picture
from .linear.coisometry import CoIsometry
from .linear.linear_operator import LinearOperator
from .operator import Shape
from .recipe import Recipe, check_seed, positive_integer

__all__ = ["BlockSensing"]


@functools.lru_cache(maxsize=4)
def random_orthonormal(size: int, seed: int) -> Tensor:
    """Random orthonormal matrix (size, size), float64, uniform (Haar), drawn from ``seed``."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(size, size, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(drawn)
    return q * r.diagonal().sign()


class _Blocks(CoIsometry):
    """Multiply every block, flattened to b² values, by ``rows`` (m, b²), which are orthonormal."""

    def __init__(self, shape: Shape, rows: Tensor, block: int):
        channels, height, width = shape
        super().__init__(shape, (channels * len(rows), height // block, width // block))
        self._rows, self._block = rows, block

    def _forward(self, x: Tensor) -> Tensor:
        channels, height, width = self.in_shape
        b, n = self._block, len(x)
        cut = x.view(n, channels, height // b, b, width // b, b)
        columns = cut.permute(0, 1, 3, 5, 2, 4).reshape(n, channels, b * b, -1)
        return (self._rows @ columns).view(n, *self.out_shape)

    def _adjoint(self, y: Tensor) -> Tensor:
        channels, height, width = self.in_shape
        b, n = self._block, len(y)
        columns = self._rows.mT @ y.reshape(n, channels, len(self._rows), -1)
        cut = columns.view(n, channels, b, b, height // b, width // b)
        return cut.permute(0, 1, 4, 2, 5, 3).reshape(n, *self.in_shape)

    def _picture(self, y: Tensor) -> Tensor:
        return self._adjoint(y)


@dataclasses.dataclass(frozen=True)
class BlockSensing(Recipe):
    """Block-based compressed sensing: every block of ``block`` x ``block`` pixels of a channel is
    multiplied by the first m rows of a random orthonormal matrix, which is drawn from ``seed``.

    m is ratio · block², rounded and at least 1; the measurement of an image (C, H, W) has shape
    (C · m, H / block, W / block). ValueError unless 0 < ratio ≤ 1 and 1 ≤ block ≤ 64.
    """

    ratio: float = 0.25
    block: int = 32
    seed: int = 0
    name: ClassVar[str] = "cs_blockbased"

    def __post_init__(self) -> None:
        check_ratio(self.ratio)
        check_seed(self.seed)
        block = positive_integer(self.block, "the block of cs_blockbased")
        if block > 64:
            raise ValueError(f"the block of cs_blockbased is {block}; expected at most 64")
        object.__setattr__(self, "block", block)

    @property
    def stride(self) -> int:
        return self.block

    def measured_size(self, height: int, width: int) -> tuple[int, int]:
        return height, width

    def image_size(self, height: int, width: int) -> tuple[int, int]:
        return height, width

    def channels(self, given: int) -> int:
        return 0

    def from_photo(self, photo: Tensor) -> Tensor:
        raise no_picture(self.name)

    def _bind(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> LinearOperator:
        size = self.block**2
        rows = random_orthonormal(size, self.seed)[: max(1, round(self.ratio * size))]
        return _Blocks(shape, rows.to(device, dtype), self.block)
