"""Super-resolution from anti-aliased bicubic downsampling."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor

from .base import LinearOperator, Recipe, Shape, positive_integer
from .separable import Separable, banded

KEYS = -0.5
"""The parameter a of Keys' cubic convolution (1981)."""


def keys_cubic(t: Tensor) -> Tensor:
    """Keys' cubic convolution kernel with a = −0.5, zero beyond |t| = 2."""
    t = t.abs()
    near = (KEYS + 2) * t**3 - (KEYS + 3) * t**2 + 1
    far = KEYS * t**3 - 5 * KEYS * t**2 + 8 * KEYS * t - 4 * KEYS
    return torch.where(t <= 1, near, torch.where(t < 2, far, torch.zeros_like(t)))


def bicubic_taps(scale: int) -> Tensor:
    """The 4d taps of downsampling by ``scale`` = d, at (q − 2d + ½)/d, float64, sum 1."""
    q = torch.arange(4 * scale, dtype=torch.float64)
    taps = keys_cubic((q - 2 * scale + 0.5) / scale)
    return taps / taps.sum()


@dataclasses.dataclass(frozen=True)
class BicubicDownsample(Recipe):
    """Every ``scale``-th pixel of the bicubic filter stretched by ``scale``, half-sample reflection
    at the borders; the filter is centred on each block for even and odd scales alike.
    """

    scale: int = 4
    name: ClassVar[str] = "sr_bicubic"

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", positive_integer(self.scale, "the scale of sr_bicubic"))

    @property
    def stride(self) -> int:
        return self.scale

    def _matrix(self, size: int) -> Tensor:
        # Taps q = 0..4d-1 sit symmetrically about the centre of block i, (i + ½) d − ½; with odd d
        # this centre is a pixel and the 4d even taps would straddle it, so they are resampled.
        d = self.scale
        rows = torch.arange(size // d)
        if d % 2 == 0:
            first = rows * d + d // 2 - 2 * d
            return banded(bicubic_taps(d), first, size, "reflect")
        q = torch.arange(4 * d + 1, dtype=torch.float64) - 2 * d
        taps = keys_cubic(q / d)
        return banded(taps / taps.sum(), rows * d + d // 2 - 2 * d, size, "reflect")

    def _bind(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> LinearOperator:
        channels, height, width = shape
        rows, columns = self._matrix(height), self._matrix(width)
        return Separable(channels, rows, columns, device, dtype)
