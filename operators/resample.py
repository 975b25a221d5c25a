"""Super-resolution from other ways to shrink: Lanczos, bilinear, area and nearest pixel."""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from .base import LinearOperator, Recipe, Shape, positive_integer
from .separable import Separable, banded


@dataclasses.dataclass(frozen=True)
class _Downsample(Recipe):
    """Every ``scale``-th value of a filtered image, centred on each block of scale x scale pixels;
    half-sample reflection at the borders. ValueError for a scale below 1.
    """

    scale: int = 4

    def __post_init__(self) -> None:
        scale = positive_integer(self.scale, f"the scale of {self.name}")
        object.__setattr__(self, "scale", scale)

    @property
    def stride(self) -> int:
        return self.scale

    @abstractmethod
    def taps(self) -> tuple[Tensor, int]:
        """The 1-D kernel, float64, sum 1, and the pixel where it starts for the first block."""

    def _bind(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> LinearOperator:
        taps, first = self.taps()
        rows, columns = (
            banded(taps, torch.arange(n // self.scale) * self.scale + first, n, "reflect")
            for n in shape[1:]
        )
        return Separable(shape[0], rows, columns, device, dtype)


@dataclasses.dataclass(frozen=True)
class _Filtered(_Downsample):
    antialias: bool = True

    reach: ClassVar[float]
    """Where the filter ends, in pixels at scale 1."""

    @staticmethod
    @abstractmethod
    def filter(t: Tensor) -> Tensor:
        """The filter at distances ``t``, not normalised."""

    def taps(self) -> tuple[Tensor, int]:
        stretch = self.scale if self.antialias else 1
        centre, reach = (self.scale - 1) / 2, self.reach * stretch
        first, last = math.ceil(centre - reach), math.floor(centre + reach)
        t = (torch.arange(first, last + 1, dtype=torch.float64) - centre) / stretch
        taps = self.filter(t)
        return taps / taps.sum(), first


@dataclasses.dataclass(frozen=True)
class LanczosDownsample(_Filtered):
    """Shrunk with Lanczos' filter of three lobes, stretched by ``scale``; without ``antialias``,
    the Lanczos interpolation of the image at the centre of every block.
    """

    name: ClassVar[str] = "sr_lanczos"
    reach: ClassVar[float] = 3.0

    @staticmethod
    def filter(t: Tensor) -> Tensor:
        return torch.where(t.abs() < 3, torch.sinc(t) * torch.sinc(t / 3), 0.0)


@dataclasses.dataclass(frozen=True)
class BilinearDownsample(_Filtered):
    """Shrunk with a triangle 2 ``scale`` pixels wide; without ``antialias``, the bilinear
    interpolation of the image at the centre of every block.
    """

    name: ClassVar[str] = "sr_bilinear"
    reach: ClassVar[float] = 1.0

    @staticmethod
    def filter(t: Tensor) -> Tensor:
        return (1 - t.abs()).clamp(0)


@dataclasses.dataclass(frozen=True)
class AreaDownsample(_Downsample):
    """The mean over every block: what "area" and "box" mean in image programs.

    Whole scales make it the same as ``sr_avgpool``, by the name under which others know it.
    """

    name: ClassVar[str] = "sr_area"

    def taps(self) -> tuple[Tensor, int]:
        return torch.full((self.scale,), 1 / self.scale, dtype=torch.float64), 0


@dataclasses.dataclass(frozen=True)
class NearestDownsample(_Downsample):
    """One pixel of every block, the one right of and below the centre where the scale is even.

    There is no antialiasing: with it, this is ``sr_area``.
    """

    name: ClassVar[str] = "sr_nearest"

    def taps(self) -> tuple[Tensor, int]:
        return torch.ones(1, dtype=torch.float64), self.scale // 2
