"""Blurs with a parametric kernel: box, Gaussian, anisotropic Gaussian and disk."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import ClassVar

import torch
from torch import Tensor

from .linear.convolution import EvenConvolution, convolution
from .linear.linear_operator import LinearOperator
from .linear.separable import Separable, banded
from .operator import Shape
from .recipe import WIDEST, Recipe, check_boundary, positive_integer

__all__ = ["AnisotropicBlur", "BoxBlur", "DefocusBlur", "GaussianBlur"]


def _check_positive(value: float, what: str) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{what} is {value}; expected a positive number of pixels")


@dataclasses.dataclass(frozen=True)
class BoxBlur(Recipe):
    """Mean over ``size`` x ``size`` pixels. A box of even size has no middle pixel: it reaches one
    pixel further to the top and left. ValueError for a size below 1.
    """

    size: int = 9
    boundary: str = "symmetric"
    name: ClassVar[str] = "deblur_uni"

    def __post_init__(self) -> None:
        size = positive_integer(self.size, "the kernel size of deblur_uni", WIDEST)
        check_boundary(self.boundary)
        object.__setattr__(self, "size", size)

    def kernel(self) -> Tensor:
        """The kernel, float64 (size, size)."""
        return torch.full((self.size, self.size), 1 / self.size**2, dtype=torch.float64)

    def _bind(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> LinearOperator:
        taps = torch.full((self.size,), 1 / self.size, dtype=torch.float64)
        matrices = [
            banded(taps, torch.arange(n) - self.size // 2, n, self.boundary) for n in shape[1:]
        ]
        return Separable(shape[0], matrices[0], matrices[1], device, dtype)


@dataclasses.dataclass(frozen=True)
class GaussianBlur(Recipe):
    """Isotropic Gaussian kernel of ``size`` x ``size`` taps (odd), sum 1, with a standard deviation
    of ``sigma`` pixels. ValueError for an even size or a sigma that is not positive.
    """

    size: int = 61
    sigma: float = 3.0
    boundary: str = "symmetric"
    name: ClassVar[str] = "deblur_gauss"

    def __post_init__(self) -> None:
        size = positive_integer(self.size, "the kernel size of deblur_gauss", WIDEST)
        if size % 2 == 0:
            raise ValueError(
                f"the kernel size of deblur_gauss is {size}; expected an odd number, such as"
                f" {size + 1}, so that the kernel has a centre"
            )
        if not (math.isfinite(self.sigma) and self.sigma > 0):
            raise ValueError(f"sigma is {self.sigma}; expected a positive number of pixels")
        check_boundary(self.boundary)
        object.__setattr__(self, "size", size)

    def taps(self) -> Tensor:
        """The 1-D kernel, float64 (size,), sum 1."""
        t = torch.arange(self.size, dtype=torch.float64) - self.size // 2
        weights = torch.exp(-((t / self.sigma) ** 2) / 2)
        return weights / weights.sum()

    def _bind(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> LinearOperator:
        taps = self.taps()
        return EvenConvolution(shape, taps, taps, self.boundary, device, dtype)


@dataclasses.dataclass(frozen=True)
class AnisotropicBlur(Recipe):
    """Anisotropic Gaussian kernel of ``size`` x ``size`` taps (odd), sum 1.

    ``along`` and ``across`` are the standard deviations in pixels along the main axis and
    perpendicular to it; ``angle`` is that of the main axis in degrees, counter-clockwise from
    horizontal. ValueError for an even size or a standard deviation that is not positive.
    """

    size: int = 61
    along: float = 20.0
    across: float = 1.0
    angle: float = 30.0
    boundary: str = "symmetric"
    name: ClassVar[str] = "deblur_aniso"

    def __post_init__(self) -> None:
        size = positive_integer(self.size, "the kernel size of deblur_aniso", WIDEST)
        if size % 2 == 0:
            raise ValueError(
                f"the kernel size of deblur_aniso is {size}; expected an odd number, such as"
                f" {size + 1}, so that the kernel has a centre"
            )
        _check_positive(self.along, "the deviation along")
        _check_positive(self.across, "the deviation across")
        if not math.isfinite(self.angle):
            raise ValueError(f"the angle is {self.angle}; expected a number of degrees")
        check_boundary(self.boundary)
        object.__setattr__(self, "size", size)

    def kernel(self) -> Tensor:
        """The kernel, float64 (size, size)."""
        t = torch.arange(self.size, dtype=torch.float64) - self.size // 2
        turn = math.radians(self.angle)
        # Row indices grow downwards, so y = −row points up.
        y, x = -t[:, None], t
        u = math.cos(turn) * x + math.sin(turn) * y
        v = math.cos(turn) * y - math.sin(turn) * x
        kernel = torch.exp(-((u / self.along) ** 2 + (v / self.across) ** 2) / 2)
        return kernel / kernel.sum()

    def _bind(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> LinearOperator:
        return convolution(shape, self.kernel(), self.boundary, device, dtype)


def disk(radius: float) -> Tensor:
    """Disk kernel with a radius of ``radius`` pixels, float64, odd sides, sum 1.

    Its edge falls linearly to 0 over one pixel, so the kernel is continuous in the radius.
    """
    reach = math.ceil(radius)
    t = torch.arange(-reach, reach + 1, dtype=torch.float64)
    kernel = (radius + 0.5 - torch.hypot(t[:, None], t)).clamp(0, 1)
    return kernel / kernel.sum()


def line(length: float, angle: float) -> Tensor:
    """Kernel of a straight motion over ``length`` pixels, float64, odd sides, sum 1: an
    anti-aliased line through the middle, ``angle`` degrees counter-clockwise from horizontal.
    """
    reach = math.ceil(length / 2) + 1
    along = length * torch.linspace(-0.5, 0.5, 2 * math.ceil(8 * length) + 1, dtype=torch.float64)
    turn = math.radians(angle)
    # Row indices grow downwards, so up is the negative direction.
    place = torch.stack([-math.sin(turn) * along, math.cos(turn) * along], -1) + reach
    kernel = torch.zeros(2 * reach + 1, 2 * reach + 1, dtype=torch.float64)
    for corner in itertools.product((0, 1), repeat=2):
        cell = place.floor() + torch.tensor(corner)
        weight = (1 - (place - cell).abs()).clamp(0).prod(1)
        rows, columns = cell.long().clamp(0, 2 * reach).unbind(1)
        kernel.index_put_((rows, columns), weight, accumulate=True)
    return kernel / kernel.sum()


@dataclasses.dataclass(frozen=True)
class DefocusBlur(Recipe):
    """Blur of a lens out of focus: convolution with a ``disk`` of ``radius`` pixels.

    A radius of 0 is no blur. ValueError for a negative radius.
    """

    radius: float = 8.0
    boundary: str = "symmetric"
    name: ClassVar[str] = "deblur_defocus"

    def __post_init__(self) -> None:
        if not 0 <= self.radius <= WIDEST / 2:
            raise ValueError(f"the radius is {self.radius}; expected 0 to {WIDEST // 2} pixels")
        check_boundary(self.boundary)

    def kernel(self) -> Tensor:
        """The kernel, float64, odd sides."""
        return disk(self.radius)

    def _bind(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> LinearOperator:
        return convolution(shape, self.kernel(), self.boundary, device, dtype)
