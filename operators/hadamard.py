"""Compressed sensing by a subsampled randomised Walsh–Hadamard transform of the whole image."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import ClassVar

import torch
from torch import Tensor

from .linear.coisometry import CoIsometry
from .linear.linear_operator import LinearOperator
from .operator import Shape
from .recipe import Recipe, check_seed

__all__ = ["WalshHadamard"]

LARGEST_FACTOR = 32
"""Largest Walsh–Hadamard matrix; larger powers of two are split into several factors."""


def check_ratio(ratio: float) -> None:
    """ValueError unless 0 < ``ratio`` ≤ 1."""
    if not 0 < ratio <= 1:
        raise ValueError(f"the ratio is {ratio}; expected a number above 0 and at most 1")


def no_picture(name: str) -> ValueError:
    """The error for a photo given as a measurement of ``name``, which no picture can represent."""
    return ValueError(
        f"no photo shows a measurement of {name}: give a clean picture and choose simulate"
    )


@functools.lru_cache(maxsize=32)
def hadamard(size: int) -> Tensor:
    """Orthonormal, symmetric Walsh–Hadamard matrix (size, size), float64; size is a power of 2."""
    matrix = torch.ones(1, 1, dtype=torch.float64)
    while len(matrix) < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix / math.sqrt(size)


@functools.lru_cache(maxsize=32)
def cosine(size: int) -> Tensor:
    """Orthonormal DCT-II matrix (size, size), float64; rows are frequencies."""
    k = torch.arange(size, dtype=torch.float64)
    matrix = math.sqrt(2 / size) * torch.cos(math.pi / size * k[:, None] * (k + 0.5))
    matrix[0] /= math.sqrt(2)
    return matrix


def factors(size: int) -> list[Tensor]:
    """Factors of an orthonormal Kronecker product of order ``size``: Walsh–Hadamard matrices for
    its largest power of two, a DCT-II matrix for its odd part.
    """
    power = size & -size
    odd, parts = size // power, []
    while power > 1:
        part = min(power, LARGEST_FACTOR)
        parts.append(hadamard(part))
        power //= part
    return ([cosine(odd)] if odd > 1 else []) + parts


class _WalshHadamard(CoIsometry):
    """A = S H D per channel: random signs D, orthonormal transform H, row selection S; A Aᵀ = I."""

    def __init__(self, shape: Shape, signs: Tensor, kept: Tensor):
        super().__init__(shape, (shape[0], 1, len(kept)))
        self._signs, self._kept = signs, kept
        self._factors = [[m.to(signs) for m in factors(n)] for n in shape[1:]]

    def _transform(self, x: Tensor, inverse: bool) -> Tensor:
        shape, after = x.shape, 1
        # Kronecker factors from the last axis to the first, by reshapes and without transpositions.
        for matrix in reversed(self._factors[0] + self._factors[1]):
            matrix = matrix.mT if inverse else matrix
            n = len(matrix)
            x = x.reshape(-1, n) @ matrix.mT if after == 1 else matrix @ x.reshape(-1, n, after)
            after *= n
        return x.reshape(shape)

    def _forward(self, x: Tensor) -> Tensor:
        return self._transform(self._signs * x, False).flatten(2)[..., None, self._kept]

    def _adjoint(self, y: Tensor) -> Tensor:
        channels, height, width = self.in_shape
        full = y.new_zeros(len(y), channels, height * width)
        full = full.index_copy(-1, self._kept, y[:, :, 0])
        return self._signs * self._transform(full.view(-1, channels, height, width), True)

    def _picture(self, y: Tensor) -> Tensor:
        return self._adjoint(y)


@dataclasses.dataclass(frozen=True)
class WalshHadamard(Recipe):
    """Random subset of the Walsh–Hadamard coefficients of the image times random signs.

    The fraction ``ratio`` of the coefficients is kept; signs and subset are drawn from ``seed`` and
    shared by the channels. A side with an odd factor is transformed by the Kronecker product of a
    DCT-II of that order and a Walsh–Hadamard matrix, so that A Aᵀ = I at any size. The measurement
    of an image (C, H, W) is (C, 1, M), with M = ratio · H · W rounded and at least 1.
    """

    ratio: float = 0.25
    seed: int = 0
    name: ClassVar[str] = "cs_walshhadamard"

    def __post_init__(self) -> None:
        check_ratio(self.ratio)
        check_seed(self.seed)

    def channels(self, given: int) -> int:
        return 0

    def from_photo(self, photo: Tensor) -> Tensor:
        raise no_picture(self.name)

    def _bind(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> LinearOperator:
        count = shape[1] * shape[2]
        generator = torch.Generator().manual_seed(self.seed)
        signs = torch.randint(2, shape[1:], generator=generator) * 2 - 1
        kept = torch.randperm(count, generator=generator)[: max(1, round(self.ratio * count))]
        return _WalshHadamard(shape, signs.to(device, dtype), kept.sort().values.to(device))
