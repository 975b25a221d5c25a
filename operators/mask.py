"""Masks of known pixels, the degradation of inpainting."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from .linear.diagonal import Diagonal
from .linear.linear_operator import LinearOperator
from .operator import Shape
from .packing import pack_weights, unpack_weights
from .recipe import Recipe, positive_integer

__all__ = ["Mask"]


def resized(mask: Tensor, height: int, width: int) -> Tensor:
    """``mask`` (h, w), 0 (unknown) to 1 (known), resized to ``height`` x ``width``.

    Downsampling takes the minimum over the covered pixels, so that thin scratches are kept; if that
    leaves no known pixel, the nearest pixel is taken. Upsampling repeats pixels. ValueError if no
    pixel is known in the result.
    """
    if mask.shape == (height, width):
        return mask
    smaller = (min(height, mask.shape[0]), min(width, mask.shape[1]))
    least = -F.adaptive_max_pool2d(-mask[None, None], smaller)
    source = least if bool((least > 0).any()) else mask[None, None]
    result = F.interpolate(source, (height, width), mode="nearest-exact")[0, 0]
    if not bool((result > 0).any()):
        raise ValueError(
            f"nothing is left of what the mask of {mask.shape[1]}x{mask.shape[0]} knows, at"
            f" {width}x{height} (width x height); give a mask of that size"
        )
    return result


def _are_labels(painted: Tensor) -> bool:
    """Whether ``painted`` holds 0 and 1 as values of 8 or 16 bits, which look black."""
    values = painted.unique()
    return len(values) == 2 and float(values[0]) == 0 and 0 < float(values[1]) < 1.5 / 255


@dataclasses.dataclass(frozen=True)
class Mask(Recipe):
    """Every pixel times a weight from 0 (unknown) to 1 (known), the same in every channel.

    ``values`` are the packed ``height`` x ``width`` weights of ``depth`` bits, 1 or 8, as made by
    ``from_tensor``. For images of another size the mask is resized without interpolation; a pixel
    is known only if all mask pixels that it covers are. The measurement has the image's shape and
    is 0 at unknown pixels. ValueError if ``values`` do not match the size or are all 0.
    """

    height: int
    width: int
    values: str
    depth: int = 1
    name: ClassVar[str] = "inpainting"

    def __post_init__(self) -> None:
        for side in ("height", "width"):
            value = positive_integer(getattr(self, side), f"the mask's {side}")
            object.__setattr__(self, side, value)
        if not bool((self.mask() > 0).any()):
            raise ValueError("the mask is 0 everywhere; expected 1 where the picture is known")

    @classmethod
    def from_tensor(cls, mask: Tensor) -> Mask:
        """The recipe of ``mask`` (h, w), from 0 (unknown) to 1 (known).

        Values between 0 and 1 are rounded to multiples of 1/255. ValueError for another shape or
        range.
        """
        mask = mask.detach().cpu().double()
        if mask.ndim != 2 or not mask.numel():
            raise ValueError(f"the mask has shape {tuple(mask.shape)}; expected (height, width)")
        if not bool(((mask >= 0) & (mask <= 1)).all()):
            raise ValueError("the mask has values outside 0 to 1; expected 1 for what is known")
        height, width = mask.shape
        return cls(height, width, *pack_weights(mask))

    @classmethod
    def from_painted(cls, painted: Tensor, threshold: float = 0.1) -> Mask:
        """The recipe of an inpainting mask (h, w) from 0 (keep) to 1: pixels of at least
        ``threshold`` are unknown.

        A low threshold includes the soft edges of brush strokes. In a mask of two values, 0 and at
        most 1 of 255, what is not 0 is unknown, as in files of labels. ValueError for another
        shape, for non-finite values, and for a mask that covers nothing or everything.
        """
        if painted.ndim != 2 or not painted.numel():
            raise ValueError(f"the mask has shape {tuple(painted.shape)}; expected (height, width)")
        if not bool(painted.isfinite().all()):
            raise ValueError("the mask holds NaN or infinite values; expected numbers from 0 to 1")
        painted = painted.detach().cpu()
        brightest = float(painted.max())
        known = painted <= 0 if _are_labels(painted) else painted < threshold
        if bool(known.all()):
            what = "black" if brightest <= 0 else f"nearly black (at most {brightest:.2g} of 1)"
            raise ValueError(
                f"the mask is {what}, which calls nothing unknown; expected white, of at least"
                f" {threshold:g}, where the picture is unknown: paint there"
            )
        if not bool(known.any()):
            raise ValueError(
                "the mask covers the whole picture; expected white only where the picture is"
                " unknown: invert a mask that shows what to keep"
            )
        return cls.from_tensor(known.double())

    def mask(self) -> Tensor:
        """The weights, float64 (height, width)."""
        count = self.height * self.width
        flat = unpack_weights(self.values, self.depth, count, "the mask")
        return flat.view(self.height, self.width)

    def for_padding(
        self, size: tuple[int, int], padded: tuple[int, int], multiple: int = 1
    ) -> Mask:
        if size == padded:
            return self
        grown = (0, padded[1] - size[1], 0, padded[0] - size[0])
        return Mask.from_tensor(F.pad(resized(self.mask(), *size), grown))

    def from_photo(self, photo: Tensor) -> Tensor:
        return photo * resized(self.mask(), *photo.shape[2:]).to(photo)

    def _bind(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> LinearOperator:
        return Diagonal(shape, resized(self.mask(), *shape[1:]).to(device, dtype))
