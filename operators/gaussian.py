"""Gaussian blur."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import torch
from torch import Tensor

from .base import LinearOperator, Recipe, Shape, check_boundary, positive_integer
from .blur import EvenConvolution


@dataclasses.dataclass(frozen=True)
class GaussianBlur(Recipe):
    """Centred Gaussian of ``size`` x ``size`` taps (odd) and standard deviation ``sigma`` pixels,
    sum 1. ValueError for an even size or a sigma that is not positive.
    """

    size: int = 61
    sigma: float = 3.0
    boundary: str = "reflect"
    name: ClassVar[str] = "deblur_gauss"

    def __post_init__(self) -> None:
        size = positive_integer(self.size, "the kernel size of deblur_gauss")
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
        weights = torch.exp(-(t**2) / (2 * self.sigma**2))
        return weights / weights.sum()

    def _bind(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> LinearOperator:
        taps = self.taps()
        return EvenConvolution(shape, taps, taps, self.boundary, device, dtype)
