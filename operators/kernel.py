"""Blur by any kernel, given as values."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import torch
from torch import Tensor

from .base import LinearOperator, Recipe, Shape, check_boundary, positive_integer
from .blur import Convolution
from .packing import pack_floats, unpack_floats


@dataclasses.dataclass(frozen=True)
class Kernel(Recipe):
    """Convolution with a given kernel of ``height`` x ``width`` taps, centred at (h // 2, w // 2).

    ``values`` holds the taps in float32; ``from_tensor`` writes it. ValueError for values that do
    not fit.
    """

    height: int
    width: int
    values: str
    boundary: str = "reflect"
    name: ClassVar[str] = "deblur_kernel"

    def __post_init__(self) -> None:
        for side in ("height", "width"):
            value = positive_integer(getattr(self, side), f"the kernel's {side}")
            object.__setattr__(self, side, value)
        check_boundary(self.boundary)
        kernel = self.kernel()
        if not (bool(kernel.isfinite().all()) and bool((kernel != 0).any())):
            raise ValueError("the kernel is 0 everywhere, or not finite; expected other numbers")

    @classmethod
    def from_tensor(
        cls, kernel: Tensor, *, normalise: bool = True, boundary: str = "reflect"
    ) -> Kernel:
        """The recipe of ``kernel`` (h, w); divided by its sum, which keeps brightness, if asked.

        ValueError for another shape, or where there is no sum to divide by.
        """
        if kernel.ndim != 2 or not kernel.numel():
            raise ValueError(
                f"the kernel has shape {tuple(kernel.shape)}; expected (height, width)"
            )
        kernel = kernel.detach().cpu().double()
        total = float(kernel.sum())
        if normalise and not (math.isfinite(total) and abs(total) > 1e-6 * kernel.abs().sum()):
            raise ValueError(f"the kernel sums to {total:g}; expected a sum other than 0")
        height, width = kernel.shape
        packed = pack_floats(kernel / total if normalise else kernel)
        return cls(height, width, packed, boundary)

    def kernel(self) -> Tensor:
        """The kernel, float64 (height, width)."""
        flat = unpack_floats(self.values, self.height * self.width, "the kernel")
        return flat.view(self.height, self.width)

    def _bind(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> LinearOperator:
        return Convolution(shape, self.kernel(), self.boundary, device, dtype)
