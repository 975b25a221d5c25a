"""Recipes: plain values that say how an image was degraded."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import Any, ClassVar
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from .operator import Operator, Shape

BOUNDARIES = ("symmetric", "periodic")
"""What a blur sees beyond the border: the image mirrored (half-sample), or the image again."""
_BOUND: WeakValueDictionary[tuple[Any, ...], Operator] = WeakValueDictionary()
"""Operators in use: they never change, and some take long to make."""


@dataclasses.dataclass(frozen=True)
class Recipe(ABC):
    """Plain values that say how an image was damaged; ``bind`` makes the operator for one size.

    ``name`` is the key in the registry and in ``to_dict``.
    """

    name: ClassVar[str]
    partial: ClassVar[bool] = False
    """Whether the measurement has fewer values than its picture: one channel, or fewer rows."""

    @property
    def stride(self) -> int:
        """Both image sides must be multiples of this; the measurement is smaller by it, if no
        other rule is given by ``measured_size`` and ``image_size``.
        """
        return 1

    def measured_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the picture of a measurement of an image, padding left out."""
        return -(-height // self.stride), -(-width // self.stride)

    def image_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the image, given the picture of its measurement."""
        return height * self.stride, width * self.stride

    def for_padding(
        self, size: tuple[int, int], padded: tuple[int, int], multiple: int = 1
    ) -> Recipe:
        """The recipe for an image of ``size`` (height, width) that is padded at the bottom and
        right to ``padded``. Itself, unless it has to tell the padding from the image.

        ``multiple`` is what the next degradation needs both sides to be multiples of.
        """
        return self

    def from_photo(self, photo: Tensor) -> Tensor:
        """The measurement y of which ``photo`` (N, 3, h, w), in [-1, 1], is a picture.

        Raises ValueError for a measurement that no photo shows.
        """
        return photo

    def bind(
        self,
        shape: tuple[int, ...],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Operator:
        """The operator for images of ``shape`` (C, H, W); the same object while one is in use.

        Raises ValueError for an empty shape or one that the stride does not divide.
        """
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(f"shape is {tuple(shape)}; expected (channels, height, width)")
        channels, height, width = shape
        if height % self.stride or width % self.stride:
            up = [-(-n // self.stride) * self.stride for n in (height, width)]
            raise ValueError(
                f"the image is {height}x{width} (height x width), which {self.stride} does not"
                f" divide; pad it to {up[0]}x{up[1]} or choose another scale"
            )
        key = (self, (channels, height, width), torch.device(device), dtype)
        operator = _BOUND.get(key)
        if operator is None:
            # Not with tensors of inference mode, which autograd refuses.
            with torch.inference_mode(False):
                operator = _BOUND[key] = self._bind(*key[1:])
        return operator

    @abstractmethod
    def _bind(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> Operator: ...

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values, read back by ``recipe_from_dict``."""
        return {"operator": self.name, **dataclasses.asdict(self)}


def positive_integer(value: float, what: str) -> int:
    """``value`` as an int; ValueError names ``what`` when it is not a positive whole number."""
    if isinstance(value, bool) or value != value or value < 1 or value != int(value):
        raise ValueError(f"{what} is {value}; expected a whole number of at least 1")
    return int(value)


def check_boundary(boundary: str) -> None:
    """ValueError unless the boundary is one that the blurs know."""
    if boundary == "reflect":
        raise ValueError("boundary 'reflect' is now called 'symmetric'; write that instead")
    if boundary not in BOUNDARIES:
        raise ValueError(f"boundary is {boundary!r}; expected {' or '.join(map(repr, BOUNDARIES))}")
