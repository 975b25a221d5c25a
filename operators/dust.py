"""Dust on film: what is unknown is another part of every frame."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from .linear.diagonal import Diagonal
from .linear.linear_operator import LinearOperator
from .operator import Cycle, Shape
from .packing import pack_weights, unpack_weights
from .recipe import Recipe, positive_integer

__all__ = ["Dust"]


def resized_frames(masks: Tensor, height: int, width: int) -> Tensor:
    """``masks`` (T, h, w) resized to ``height`` x ``width``: the minimum over what a pixel covers,
    or the nearest value. Unlike a photo, a frame may be unknown everywhere."""
    if tuple(masks.shape[1:]) == (height, width):
        return masks
    smaller = (min(height, masks.shape[1]), min(width, masks.shape[2]))
    least = -F.adaptive_max_pool2d(-masks[:, None], smaller)
    return F.interpolate(least, (height, width), mode="nearest-exact")[:, 0]


@dataclasses.dataclass(frozen=True)
class Dust(Recipe):
    """Every pixel of every frame of a film times a weight from 0 (unknown) to 1 (known).

    ``values`` are the packed weights of ``frames`` masks of ``height`` x ``width``, of ``depth``
    bits, 1 or 8, as made by ``from_tensor``; they are resized as those of ``Mask`` are. ValueError
    if ``values`` do not match the size, or are 0 in all frames.
    """

    frames: int
    height: int
    width: int
    values: str
    depth: int = 1
    name: ClassVar[str] = "dust"

    def __post_init__(self) -> None:
        for side in ("frames", "height", "width"):
            value = positive_integer(getattr(self, side), f"the {side} of the masks")
            object.__setattr__(self, side, value)
        if not bool((self.masks() > 0).any()):
            raise ValueError("the masks are 0 everywhere; expected 1 where the film is known")

    @classmethod
    def from_tensor(cls, masks: Tensor) -> Dust:
        """The recipe of ``masks`` (T, h, w), from 0 (unknown) to 1 (known), rounded to multiples of
        1/255 where there are others. ValueError for another shape or range."""
        masks = masks.detach().cpu().double()
        if masks.ndim != 3 or not masks.numel():
            raise ValueError(
                f"the masks have shape {tuple(masks.shape)}; expected (frames, height, width)"
            )
        if not bool(((masks >= 0) & (masks <= 1)).all()):
            raise ValueError("the masks have values outside 0 to 1; expected 1 for what is known")
        frames, height, width = masks.shape
        return cls(frames, height, width, *pack_weights(masks))

    @property
    def cycle(self) -> Cycle:
        return self.frames, self.frames

    def masks(self) -> Tensor:
        """The weights, float64 (frames, height, width)."""
        count = self.frames * self.height * self.width
        flat = unpack_weights(self.values, self.depth, count, "the masks")
        return flat.view(self.frames, self.height, self.width)

    def for_padding(
        self, size: tuple[int, int], padded: tuple[int, int], multiple: int = 1
    ) -> Dust:
        if size == padded:
            return self
        grown = (0, padded[1] - size[1], 0, padded[0] - size[0])
        return Dust.from_tensor(F.pad(resized_frames(self.masks(), *size), grown))

    def from_photo(self, photo: Tensor) -> Tensor:
        return photo * resized_frames(self.masks(), *photo.shape[2:])[:, None].to(photo)

    def _bind(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> LinearOperator:
        weights = resized_frames(self.masks(), *shape[1:])[:, None]
        return Diagonal(shape, weights.to(device, dtype))
