"""Recipes: degradations described by plain parameters, independent of image size and device."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from numbers import Real
from typing import Any, ClassVar
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from .operator import Cycle, Operator, Shape

BOUNDARIES = ("symmetric", "periodic")
"""Extension of the image beyond its border: mirrored (half-sample symmetric), or periodic."""
WIDEST = 1023
"""Largest width of a parametric kernel in pixels; that of a photo of 4096 pixels is far smaller."""
_BOUND: WeakValueDictionary[tuple[Any, ...], Operator] = WeakValueDictionary()
"""Cache of the operators in use, which are immutable and may be slow to make."""


@dataclasses.dataclass(frozen=True)
class Recipe(ABC):
    """Parameters of a degradation; ``bind`` makes its operator for one image size.

    ``name`` is the key in the registry and in ``to_dict``.
    """

    name: ClassVar[str]
    partial: ClassVar[bool] = False
    """Whether a measurement has fewer values than its picture, as one channel or fewer rows."""

    @property
    def cycle(self) -> Cycle | None:
        """That of the operator: of ``cycle[0]`` frames of a film, the measurement has
        ``cycle[1]``; None: photos, or frames, are independent."""
        return None

    def images_of(self, count: int) -> int:
        """The number of images whose measurement has ``count`` samples or frames."""
        return count if self.cycle is None else count // self.cycle[1] * self.cycle[0]

    @property
    def stride(self) -> int:
        """Divisor of both image sides, and the factor by which the measurement is smaller unless
        ``measured_size`` and ``image_size`` are overridden.
        """
        return 1

    def measured_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of a measurement's picture for an image of ``height`` x ``width``."""
        return -(-height // self.stride), -(-width // self.stride)

    def image_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the image for a measurement's picture of ``height`` x ``width``."""
        return height * self.stride, width * self.stride

    def channels(self, given: int) -> int:
        """Channels of the measurement of an image of ``given`` channels; 0 if it is not a picture.

        ValueError for an image that has too few.
        """
        return given

    def for_padding(
        self, size: tuple[int, int], padded: tuple[int, int], multiple: int = 1
    ) -> Recipe:
        """The recipe for images of ``size`` (height, width) padded at the bottom and right to
        ``padded``; self unless the recipe depends on the image size, as masks do.

        ``multiple``: divisor of both sides that the next degradation of a chain requires.
        """
        return self

    def from_photo(self, photo: Tensor) -> Tensor:
        """The measurement y whose picture is ``photo`` (N, 3, h, w) in [-1, 1].

        Raises ValueError for degradations whose measurements are not pictures.
        """
        return photo

    def bind(
        self,
        shape: tuple[int, ...],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Operator:
        """The operator for images of ``shape`` (C, H, W); cached while it is in use.

        Raises ValueError for an empty shape or one that the stride does not divide.
        """
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(f"shape is {tuple(shape)}; expected (channels, height, width)")
        channels, height, width = shape
        if height % self.stride or width % self.stride:
            wide, tall = (-(-n // self.stride) * self.stride for n in (width, height))
            raise ValueError(
                f"the image is {width}x{height} (width x height), which {self.stride} does not"
                f" divide; pad it to {wide}x{tall} or choose another scale"
            )
        key = (self, (channels, height, width), torch.device(device), dtype)
        operator = _BOUND.get(key)
        if operator is None:
            # Autograd cannot use tensors made in inference mode.
            with torch.inference_mode(False):
                operator = _BOUND[key] = self._bind(*key[1:])
        return operator

    @abstractmethod
    def _bind(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> Operator: ...

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable values, read back by ``recipe_from_dict``."""
        return {"operator": self.name, **dataclasses.asdict(self)}


def positive_integer(value: float, what: str, most: int = 2**16) -> int:
    """``value`` as an int; ValueError, naming ``what``, unless it is a whole number from 1 to
    ``most``.
    """
    known = isinstance(value, Real) and not isinstance(value, bool)
    if not known or not value >= 1 or (value < math.inf and value != int(value)):
        raise ValueError(f"{what} is {value}; expected a whole number of at least 1")
    if value > most:
        raise ValueError(f"{what} is {value}; expected at most {most}")
    return int(value)


def check_seed(seed: int) -> None:
    """ValueError unless ``seed`` is a whole number that PyTorch's generators take."""
    if not isinstance(seed, int) or isinstance(seed, bool) or not -(2**63) <= seed < 2**63:
        raise ValueError(f"the seed is {seed}; expected a whole number of 64 bits, such as 0")


def check_boundary(boundary: str) -> None:
    """ValueError unless ``boundary`` is one of ``BOUNDARIES``."""
    if boundary == "reflect":
        raise ValueError("boundary 'reflect' is now called 'symmetric'; write that instead")
    if boundary not in BOUNDARIES:
        raise ValueError(f"boundary is {boundary!r}; expected {' or '.join(map(repr, BOUNDARIES))}")
