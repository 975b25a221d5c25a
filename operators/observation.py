"""A measurement before it has a device: padded to what model and operator divide."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from . import Measurement, Recipe, simulate
from .measurement import floored, masked_rms

CHANNELS = 3


def up_to(size: tuple[int, int], multiple: int) -> tuple[int, int]:
    """The least (height, width) of at least ``size`` that ``multiple`` divides."""
    height, width = (-(-n // multiple) * multiple for n in size)
    return height, width


def pad_to(x: Tensor, height: int, width: int) -> Tensor:
    """Mirror ``x`` (N, C, H, W) at the bottom and right to at least ``height`` x ``width``."""
    for axis, length in ((2, height), (3, width)):
        while (missing := length - x.shape[axis]) > 0:
            # A reflection reaches one pixel less than there are; a single pixel is repeated.
            part = min(missing, max(1, x.shape[axis] - 1))
            sides = (0, 0, 0, part) if axis == 2 else (0, part, 0, 0)
            x = F.pad(x, sides, mode="reflect" if x.shape[axis] > 1 else "replicate")
    return x


def pad(x: Tensor, multiple: int) -> Tensor:
    """Mirror ``x`` (N, C, H, W) at the bottom and right until ``multiple`` divides both sides."""
    return pad_to(x, *up_to((x.shape[2], x.shape[3]), multiple))


@dataclass(frozen=True)
class Observation:
    """What was seen, and how: ``y`` (N, *operator's out_shape) on the CPU, with its padding.

    ``wanted`` is (height, width) of the restoration without padding, which lies at the top left,
    ``size`` with it; ``noise_level`` is the standard deviation of the noise for images in [-1, 1].
    """

    recipe: Recipe
    y: Tensor
    noise_level: float
    wanted: tuple[int, int]
    size: tuple[int, int]
    simulated: bool

    @property
    def floored_noise_level(self) -> float:
        """The noise level to divide by, as ``Measurement.level``."""
        return floored(self.noise_level)

    @property
    def padded(self) -> bool:
        """Whether there is anything to cut off."""
        return self.size != self.wanted

    @property
    def seen(self) -> Tensor:
        """The picture (N, 3, h, w) of ``y``, without padding."""
        return self.picture(self.y)

    def picture(self, y: Tensor) -> Tensor:
        """The picture (N, 3, h, w) of a measurement like ``y``, without padding."""
        height, width = self.recipe.measured_size(*self.wanted)
        fitted = self.recipe.for_padding(self.wanted, self.size)
        if tuple(y.shape[1:]) != (CHANNELS, *fitted.measured_size(*self.size)):
            y = fitted.bind((CHANNELS, *self.size)).picture(y)
        return y[..., :height, :width]

    def residual(self, x: Tensor) -> tuple[Tensor, float]:
        """``A x − y`` of images x (N, 3, *size): its picture, as ``picture`` gives it, and its root
        mean square where something was measured.
        """
        there = self.bind(count=len(x))
        difference = there.operator.A(x) - there.y
        picture, measured = self.picture(difference), there.operator.measured
        if difference.shape[2:] == there.operator.picture(difference).shape[2:]:
            height, width = picture.shape[2:]
            difference = difference[..., :height, :width]
            measured = None if measured is None else measured[..., :height, :width]
        return picture, float(masked_rms(difference, measured).square().mean().sqrt())

    def crop(self, x: Tensor) -> Tensor:
        """The restoration (N, 3, H, W) without padding."""
        return x[..., : self.wanted[0], : self.wanted[1]]

    def bind(self, device: torch.device | str = "cpu", count: int | None = None) -> Measurement:
        """The measurement on ``device`` in float32, for ``count`` samples.

        One photo serves any number of samples; ValueError where the numbers do not fit.
        """
        y = self.y
        count = len(y) if count is None else count
        if len(y) not in (1, count):
            raise ValueError(
                f"the measurement holds {len(y)} images and {count} samples are asked for;"
                " expected as many, or one image"
            )
        recipe = self.recipe.for_padding(self.wanted, self.size)
        operator = recipe.bind((CHANNELS, *self.size), device)
        y = y.to(device, torch.float32).expand(count, *y.shape[1:])
        return Measurement(y, operator, self.noise_level, self.simulated)


def observed(x: Tensor, recipe: Recipe, noise_level: float, multiple: int) -> Observation:
    """The photos ``x`` (N, 3, h, w) in [-1, 1] are the measurement itself.

    ``multiple`` must divide both sides of the restoration; x is mirrored at its edges for that.
    """
    wanted = recipe.image_size(x.shape[2], x.shape[3])
    size = up_to(wanted, math.lcm(multiple, recipe.stride))
    fitted = recipe.for_padding(wanted, size)
    y = fitted.from_photo(pad_to(x, *fitted.measured_size(*size)))
    return Observation(recipe, y, noise_level, wanted, size, simulated=False)


def degraded(
    x: Tensor,
    recipe: Recipe,
    noise_level: float,
    multiple: int,
    generators: Sequence[torch.Generator],
) -> Observation:
    """Degrade the clean images ``x`` (N, 3, H, W) in [-1, 1], noise of sample k from generator k.

    ``multiple`` must divide both sides of the restoration; x is mirrored at its edges for that.
    """
    wanted = (x.shape[2], x.shape[3])
    x = pad(x, math.lcm(multiple, recipe.stride))
    size = (x.shape[2], x.shape[3])
    operator = recipe.for_padding(wanted, size).bind(tuple(x.shape[1:]))
    y = simulate(x, operator, noise_level, generators).y
    return Observation(recipe, y, noise_level, wanted, size, simulated=True)
