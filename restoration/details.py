"""Details of a picture, such as faces: cut out around what is marked, and stitched back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ..operators.observation import pad_to, up_to

MULTIPLE = 16
"""What divides the sides of a crop, as models need it."""
MARKED = 0.1
"""How strongly a pixel must be painted to be marked, of 1."""
MOST = 1000
"""Largest number of separate parts in one picture."""


@dataclass(frozen=True)
class Box:
    """Pixels from ``left`` and ``top`` on, at least one; it may reach beyond the picture."""

    left: int
    top: int
    width: int
    height: int

    @property
    def right(self) -> int:
        return self.left + self.width

    @property
    def bottom(self) -> int:
        return self.top + self.height

    def overlaps(self, other: Box) -> bool:
        """Whether there is a pixel in both."""
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom

    def with_other(self, other: Box) -> Box:
        """The least box around both."""
        left, top = min(self.left, other.left), min(self.top, other.top)
        right, bottom = max(self.right, other.right), max(self.bottom, other.bottom)
        return Box(left, top, right - left, bottom - top)

    def inside(self, height: int, width: int) -> Box | None:
        """What lies in a picture of ``height`` x ``width``; None: nothing."""
        left, top = max(self.left, 0), max(self.top, 0)
        right, bottom = min(self.right, width), min(self.bottom, height)
        if left >= right or top >= bottom:
            return None
        return Box(left, top, right - left, bottom - top)

    def padded(self, padding: int) -> Box:
        """The box with ``padding`` more pixels on every side."""
        return Box(
            self.left - padding,
            self.top - padding,
            self.width + 2 * padding,
            self.height + 2 * padding,
        )

    def resized(self, height: int, width: int, picture: tuple[int, int]) -> Box:
        """A box of ``height`` x ``width`` with the same middle, moved into the ``picture``; one
        that is larger than it begins at its edge and reaches beyond the other one.
        """
        top, left = (
            max(0, min(start + (had - side) // 2, most - side))
            for start, had, side, most in zip(
                (self.top, self.left),
                (self.height, self.width),
                (height, width),
                picture,
                strict=True,
            )
        )
        return Box(left, top, width, height)


def parts_of(mask: Tensor) -> list[Box]:
    """The boxes around the connected parts (also by corners) of what is marked in ``mask`` (H, W).

    ValueError for more than ``MOST`` parts.
    """
    marked = F.pad((mask > MARKED).to(torch.int8).cpu(), (1, 1))
    change = marked.diff(dim=1)
    starts, ends = (change > 0).nonzero().tolist(), (change < 0).nonzero().tolist()
    # Each run of marked pixels in a row joins the parts above that it touches.
    parts: list[Box] = []
    above: list[tuple[int, int, int]] = []
    row: list[tuple[int, int, int]] = []
    joined: list[int] = []

    def root(k: int) -> int:
        while joined[k] != k:
            k = joined[k]
        return k

    at = -1
    for (y, left), (_, right) in zip(starts, ends, strict=True):
        if y != at:
            above, row, at = (row if y == at + 1 else []), [], y
        mine = len(parts)
        parts.append(Box(left, y, right - left, 1))
        joined.append(mine)
        for before, end, part in above:
            if before <= right and left <= end:
                other, mine = root(part), root(mine)
                if other != mine:
                    parts[other] = parts[other].with_other(parts[mine])
                    joined[mine] = mine = other
        row.append((left, right, mine))
    found = [part for k, part in enumerate(parts) if joined[k] == k]
    if len(found) > MOST:
        raise ValueError(
            f"the mask has {len(found)} separate parts; expected at most {MOST}: remove specks, or"
            " let it grow until they join"
        )
    return found


def _groups(boxes: Sequence[Box], whole: Sequence[Box]) -> list[Box]:
    """The ``boxes``, those joined whose ``whole`` boxes overlap."""
    found: list[tuple[Box, Box]] = []
    for box, around in zip(boxes, whole, strict=True):
        while (
            other := next((each for each in found if each[1].overlaps(around)), None)
        ) is not None:
            found.remove(other)
            box, around = box.with_other(other[0]), around.with_other(other[1])
        found.append((box, around))
    return [box for box, _ in found]


def areas(
    parts: Sequence[Sequence[Box]],
    picture: tuple[int, int],
    padding: int,
    *,
    square: bool = False,
) -> list[list[Box]]:
    """What is cut out around the ``parts`` of each picture of (height, width) ``picture``.

    Each part gets ``padding`` pixels around it, and parts whose crops overlap get one. All crops
    have one size, the largest one's, whose sides ``MULTIPLE`` divides; or each is a ``square``.
    """
    now = [[part for each in own if (part := each.inside(*picture))] for own in parts]
    while True:
        wanted = [
            [inside for each in own if (inside := each.padded(padding).inside(*picture))]
            for own in now
        ]
        tall = max((each.height for own in wanted for each in own), default=1)
        wide = max((each.width for own in wanted for each in own), default=1)
        common = up_to((tall, wide), MULTIPLE)
        crops = []
        for own in wanted:
            sizes = [
                up_to((side, side), MULTIPLE) if square else common
                for side in (max(each.height, each.width) for each in own)
            ]
            crops.append(
                [each.resized(*size, picture) for each, size in zip(own, sizes, strict=True)]
            )
        joined = [_groups(own, around) for own, around in zip(now, crops, strict=True)]
        if joined == now:
            return crops
        now = joined


def weights(box: Box, picture: tuple[int, int], feather: int) -> Tensor:
    """How much of a crop replaces what was there, float32 (height, width), from 0 to 1.

    0 on the crop's outermost pixels and rising over ``feather`` more of them, at most a third of
    its side, but 1 where the crop ends with the picture.
    """
    ramps = []
    for start, length, whole in (
        (box.top, box.height, picture[0]),
        (box.left, box.width, picture[1]),
    ):
        i = torch.arange(length)
        far = torch.full((length,), length)
        first = i if start > 0 else far
        last = length - 1 - i if start + length < whole else far
        t = (torch.minimum(first, last) / (min(feather, length // 3) + 1)).clamp(max=1)
        ramps.append(t * t * (3 - 2 * t))
    return ramps[0][:, None] * ramps[1]


@dataclass(frozen=True, eq=False)
class Details:
    """Pictures (N, C, H, W) and what is cut out of them: pairs of the number of a picture and a
    box. size: side in pixels to which the crops, which are square then, are resized; 0: they stay
    as they are. limits: least and largest value of the pictures.

    ValueError for a size that ``MULTIPLE`` does not divide, and without any crop.
    """

    pictures: Tensor
    crops: tuple[tuple[int, Box], ...]
    size: int = 0
    limits: tuple[float, float] = field(default=(-1.0, 1.0))

    def __post_init__(self) -> None:
        if self.size < 0 or self.size % MULTIPLE:
            raise ValueError(
                f"the size of the crops is {self.size}; expected 0 (as they are) or a multiple of"
                f" {MULTIPLE}, such as 512 or 1024"
            )
        if not self.crops:
            raise ValueError(
                "nothing is marked: paint a mask on the picture, or connect one, or boxes, of a"
                " detector that finds something in it"
            )

    @classmethod
    def around(
        cls,
        pictures: Tensor,
        parts: Sequence[Sequence[Box]],
        padding: int,
        size: int = 0,
        limits: tuple[float, float] = (-1.0, 1.0),
    ) -> Details:
        """Those around the ``parts`` of each picture; see ``areas``."""
        height, width = pictures.shape[2:]
        found = areas(parts, (height, width), padding, square=size > 0)
        crops = tuple((k, box) for k, own in enumerate(found) for box in own)
        return cls(pictures, crops, size, limits)

    def cut(self, x: Tensor) -> Tensor:
        """The crops (K, C, h, w) of ``x`` (N, C, H, W), which has the size of the pictures.

        What lies beyond the picture is its reflection.
        """
        found = []
        for k, box in self.crops:
            part = x[k : k + 1, :, box.top : box.bottom, box.left : box.right]
            found.append(self._resized(pad_to(part, box.height, box.width), self.size, self.size))
        return torch.cat(found)

    def stitched(self, restored: Tensor, feather: int) -> Tensor:
        """The pictures with the restored crops (K, C, h, w), of any size, in their places.

        Several versions, all crops once and then all again, give as many versions of the pictures,
        in the same order. Where the ``weights`` are 0, and outside, the pictures stay to the bit;
        so they do where a crop was not changed. Channels that the crops lack stay as well.
        ValueError for another number of crops, and for NaN or infinite values.
        """
        if not len(restored) or len(restored) % len(self.crops):
            raise ValueError(
                f"{len(restored)} restored crops came back and {len(self.crops)} were cut out;"
                " expected as many, or several versions of all of them"
            )
        if not bool(restored.isfinite().all()):
            raise ValueError(
                "the restored crops hold NaN or infinite values: look at the node that made them"
            )
        height, width = self.pictures.shape[2:]
        result = self.pictures.repeat(len(restored) // len(self.crops), 1, 1, 1)
        channels = result.shape[1]
        if channels == 1:
            restored = restored.mean(1, keepdim=True)
        for k, part in enumerate(restored.to(result)[:, :channels]):
            number, box = self.crops[k % len(self.crops)]
            version = k // len(self.crops)
            new = self._resized(part[None], box.height, box.width)[0]
            inside = new[:, : height - box.top, : width - box.left]
            w = weights(box, (height, width), feather).to(new)
            w = w[: height - box.top, : width - box.left]
            place = result[version * len(self.pictures) + number, : len(new)]
            old = place[:, box.top : box.bottom, box.left : box.right]
            mixed = torch.where(w < 1, old + w * (inside - old), inside)
            old.copy_(torch.where((w > 0) & (inside != old), mixed, old))
        return result

    def _resized(self, x: Tensor, height: int, width: int) -> Tensor:
        """x (1, C, h, w), bicubic with antialiasing; itself where it has that size, or for 0."""
        if not height or tuple(x.shape[2:]) == (height, width):
            return x
        resized = F.interpolate(x, (height, width), mode="bicubic", antialias=True)
        return resized.clamp(*self.limits)
