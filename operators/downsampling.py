"""Downsampling filters, the degradations of super-resolution."""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from .linear.linear_operator import LinearOperator
from .linear.separable import Separable, banded
from .operator import Shape
from .recipe import Recipe, positive_integer

__all__ = [
    "AreaDownsample",
    "AveragePool",
    "BicubicDownsample",
    "BilinearDownsample",
    "LanczosDownsample",
    "NearestDownsample",
]


class BlockMean(LinearOperator):
    """Mean over blocks of ``scale`` x ``scale`` pixels, with A Aᵀ = I / scale²."""

    def __init__(self, shape: Shape, scale: int):
        channels, height, width = shape
        super().__init__(shape, (channels, height // scale, width // scale))
        self._scale = scale

    def _blocks(self, x: Tensor) -> Tensor:
        """View of x (N, C, H, W) as blocks (N, C, h, d, w, d), d being the scale."""
        return x.unflatten(-1, (-1, self._scale)).unflatten(-3, (-1, self._scale))

    def _replicated(self, y: Tensor) -> Tensor:
        sizes = (-1, -1, -1, self._scale, -1, self._scale)
        return y[..., :, None, :, None].expand(sizes).flatten(-2).flatten(-3, -2)

    def _forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self._scale)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._replicated(y / self._scale**2)

    def _pinv(self, y: Tensor) -> Tensor:
        return self._replicated(y)

    def _prox(self, z: Tensor, y: Tensor, gamma: float) -> Tensor:
        change = (y - self._forward(z)) * (gamma / (self._scale**2 + gamma))
        x = z.clone(memory_format=torch.contiguous_format)
        self._blocks(x).add_(change[..., :, None, :, None])
        return x


@dataclasses.dataclass(frozen=True)
class _Downsample(Recipe):
    """One filtered value per block of ``scale`` x ``scale`` pixels, the filter centred on the
    block; symmetric (half-sample) extension at the borders. ValueError for a scale below 1.
    """

    scale: int = 4

    def __post_init__(self) -> None:
        scale = positive_integer(self.scale, f"the scale of {self.name}", 256)
        object.__setattr__(self, "scale", scale)

    @property
    def stride(self) -> int:
        return self.scale


@dataclasses.dataclass(frozen=True)
class _Filtered(_Downsample):
    """Downsampling by a separable filter, given by its taps."""

    @abstractmethod
    def taps(self) -> tuple[Tensor, int]:
        """The 1-D kernel, float64, sum 1, and the index of its first pixel for the first block."""

    def _bind(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> LinearOperator:
        taps, first = self.taps()
        rows, columns = (
            banded(taps, torch.arange(n // self.scale) * self.scale + first, n, "symmetric")
            for n in shape[1:]
        )
        return Separable(shape[0], rows, columns, device, dtype)


@dataclasses.dataclass(frozen=True)
class _Interpolated(_Filtered):
    """An interpolation kernel, stretched by ``scale`` where ``antialias`` is true."""

    antialias: ClassVar[bool] = True
    reach: ClassVar[float]
    """Half-width of the kernel's support, in pixels at scale 1."""

    @staticmethod
    @abstractmethod
    def filter(t: Tensor) -> Tensor:
        """The kernel at distances ``t``, not normalised."""

    def taps(self) -> tuple[Tensor, int]:
        stretch = self.scale if self.antialias else 1
        centre, reach = (self.scale - 1) / 2, self.reach * stretch
        first, last = math.ceil(centre - reach), math.floor(centre + reach)
        t = (torch.arange(first, last + 1, dtype=torch.float64) - centre) / stretch
        taps = self.filter(t)
        return taps / taps.sum(), first


@dataclasses.dataclass(frozen=True)
class AveragePool(_Downsample):
    """Mean over blocks of ``scale`` x ``scale`` pixels. ValueError for a scale below 1."""

    name: ClassVar[str] = "sr_avgpool"

    def _bind(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> LinearOperator:
        return BlockMean(shape, self.scale)


@dataclasses.dataclass(frozen=True)
class AreaDownsample(_Downsample):
    """Mean over every block: the filter called "area" or "box" in image programs.

    For integer scales it is the same operator as ``sr_avgpool``.
    """

    name: ClassVar[str] = "sr_area"

    def _bind(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> LinearOperator:
        return BlockMean(shape, self.scale)


@dataclasses.dataclass(frozen=True)
class BicubicDownsample(_Interpolated):
    """Downsampling with Keys' cubic kernel (1981, a = −0.5), stretched by ``scale``."""

    name: ClassVar[str] = "sr_bicubic"
    reach: ClassVar[float] = 2.0

    @staticmethod
    def filter(t: Tensor) -> Tensor:
        a, t = -0.5, t.abs()
        near = (a + 2) * t**3 - (a + 3) * t**2 + 1
        far = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
        return torch.where(t <= 1, near, torch.where(t < 2, far, 0.0))


@dataclasses.dataclass(frozen=True)
class LanczosDownsample(_Interpolated):
    """Downsampling with the Lanczos kernel of three lobes, stretched by ``scale``; without
    ``antialias``, Lanczos interpolation at the centre of every block.
    """

    antialias: bool = True
    name: ClassVar[str] = "sr_lanczos"
    reach: ClassVar[float] = 3.0

    @staticmethod
    def filter(t: Tensor) -> Tensor:
        return torch.where(t.abs() < 3, torch.sinc(t) * torch.sinc(t / 3), 0.0)


@dataclasses.dataclass(frozen=True)
class BilinearDownsample(_Interpolated):
    """Downsampling with a triangle kernel 2 ``scale`` pixels wide; without ``antialias``, bilinear
    interpolation at the centre of every block.
    """

    antialias: bool = True
    name: ClassVar[str] = "sr_bilinear"
    reach: ClassVar[float] = 1.0

    @staticmethod
    def filter(t: Tensor) -> Tensor:
        return (1 - t.abs()).clamp(0)


@dataclasses.dataclass(frozen=True)
class NearestDownsample(_Filtered):
    """The middle pixel of every block; for even scales, the one right of and below the centre.

    There is no antialiasing; the antialiased form is ``sr_area``.
    """

    name: ClassVar[str] = "sr_nearest"

    def taps(self) -> tuple[Tensor, int]:
        return torch.ones(1, dtype=torch.float64), self.scale // 2
