"""Blur with an arbitrary kernel, given by its values."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import torch
from torch import Tensor

from .linear.convolution import convolution
from .linear.linear_operator import LinearOperator
from .operator import Shape
from .packing import pack_floats, unpack_floats
from .recipe import Recipe, check_boundary, positive_integer

__all__ = ["Kernel"]

LARGEST = 511
"""Largest side, in taps, of a kernel from a picture; a larger one is probably a photo."""


DARK = 0.1
"""Brightness, from 0 to 1, up to which paint on a transparent ground is dark."""
FLAT = 0.05
"""Part of the brightest value by which a kernel must differ from a flat area."""
GROUND = 0.01
"""Part of the brightest value above which an even ground around the light is subtracted."""


def on_black(grey: Tensor, alpha: Tensor) -> Tensor:
    """The light of paint in ``grey`` (h, w) from 0 to 1 on a ground that is as transparent as
    ``alpha`` says; of paint that is dark, its shape.
    """
    light = grey * alpha
    return light if float(light.max()) > DARK else alpha


def light_on_black(picture: Tensor) -> tuple[Tensor, str]:
    """The kernel that a picture (h, w) of a blurred point of light shows, and how it was understood
    where that is not plain: a dark shape on light ground, or a light one on grey, is one on black.

    ValueError for another shape, and for one flat area, which would be a box as large as the
    picture.
    """
    if picture.ndim != 2 or not picture.numel():
        raise ValueError(f"the kernel has shape {tuple(picture.shape)}; expected (height, width)")
    picture = picture.detach().cpu().double()
    low, high = float(picture.min()), float(picture.max())
    if min(picture.shape) < 3 or not (math.isfinite(high) and low >= 0 and high > 0):
        return picture, ""  # Too small for a ground; or refused by ``trimmed``.
    if high - low < FLAT * high:
        raise ValueError(
            "the kernel is one flat area; expected the shape of a blurred point of light, white on"
            " black, with black around it"
        )
    ring = torch.cat([picture[0], picture[-1], picture[1:-1, 0], picture[1:-1, -1]])
    ground, even = float(ring.median()), float(ring.max() - ring.min()) < FLAT * high
    dark = float((picture < high / 2).double().mean())
    if ground > 0.9 * high and float(ring.min()) > high / 2 and 0 < dark < 0.5:
        return (ground - picture).clamp(min=0), "the kernel, dark on light, is inverted"
    if even and ground > GROUND * high:
        left = float(ring.max())
        return (picture - left).clamp(min=0), "the grey ground of the kernel is taken as black"
    return picture, ""


def trimmed(kernel: Tensor, *, centre: bool = True) -> Tensor:
    """``kernel`` (h, w) cropped to its nonzero taps, float64, odd sides.

    ``centre``: the middle tap of the result is the centre of mass, rounded to whole taps; otherwise
    it is the tap (h // 2, w // 2). ValueError for another shape, for negative or non-finite values,
    for a kernel of zeros, and for more than ``LARGEST`` taps a side.
    """
    if kernel.ndim != 2 or not kernel.numel():
        raise ValueError(f"the kernel has shape {tuple(kernel.shape)}; expected (height, width)")
    kernel = kernel.detach().cpu().double()
    if not bool((kernel.isfinite() & (kernel >= 0)).all()):
        raise ValueError("the kernel holds negative or infinite values; expected numbers from 0")
    if not bool(kernel.any()):
        raise ValueError("the kernel is black; expected the picture of a light that was blurred")
    for axis in (0, 1):
        taps = kernel.sum(1 - axis)
        where = taps.nonzero()
        first, last = int(where.min()), int(where.max())
        middle = len(taps) // 2
        if centre:
            place = torch.arange(len(taps), dtype=torch.float64)
            middle = round(float((place * taps).sum() / taps.sum()))
        reach = max(middle - first, last - middle)
        if 2 * reach + 1 > LARGEST:
            raise ValueError(
                f"the kernel is {2 * reach + 1} pixels long; expected at most {LARGEST}: a small"
                " picture of the path of one point of light on black"
            )
        part = kernel.narrow(axis, first, last - first + 1)
        before, after = reach - (middle - first), reach - (last - middle)
        sides = (0, 0, before, after) if axis == 0 else (before, after, 0, 0)
        kernel = torch.nn.functional.pad(part, sides)
    return kernel


@dataclasses.dataclass(frozen=True)
class Kernel(Recipe):
    """Convolution with a given kernel of ``height`` x ``width`` taps, centred at (h // 2, w // 2).

    ``values`` are the packed float32 taps, as made by ``from_tensor``. ValueError if they do not
    match the size, are not finite or are all 0.
    """

    height: int
    width: int
    values: str
    boundary: str = "symmetric"
    name: ClassVar[str] = "deblur_kernel"

    def __post_init__(self) -> None:
        for side in ("height", "width"):
            value = positive_integer(getattr(self, side), f"the kernel's {side}")
            object.__setattr__(self, side, value)
        check_boundary(self.boundary)
        kernel = self.kernel()
        if not (bool(kernel.isfinite().all()) and bool((kernel != 0).any())):
            raise ValueError("the kernel is 0 everywhere or not finite; expected finite values")

    @classmethod
    def from_tensor(
        cls, kernel: Tensor, *, normalise: bool = True, boundary: str = "symmetric"
    ) -> Kernel:
        """The recipe of ``kernel`` (h, w); ``normalise`` divides it by its sum.

        ValueError for another shape, or for a sum to divide by that is 0 or not finite.
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
        return convolution(shape, self.kernel(), self.boundary, device, dtype)
