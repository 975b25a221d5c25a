"""A measurement before it has a device: padded to what model and operator divide."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .operators import Measurement, Recipe, simulate


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
    height, width = (-(-n // multiple) * multiple for n in x.shape[2:])
    return pad_to(x, height, width)


@dataclass(frozen=True)
class Observation:
    """What was seen, and how: ``y`` (N, 3, h, w) in [-1, 1] on the CPU, with its padding.

    ``wanted`` is (height, width) of the restoration without padding, which lies at the top left;
    ``noise_level`` is the standard deviation of the noise for images in [-1, 1].
    """

    recipe: Recipe
    y: Tensor
    noise_level: float
    wanted: tuple[int, int]
    simulated: bool

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the restoration with its padding."""
        height, width = self.y.shape[2:]
        return height * self.recipe.stride, width * self.recipe.stride

    @property
    def padded(self) -> bool:
        """Whether there is anything to cut off."""
        return self.size != self.wanted

    @property
    def seen(self) -> Tensor:
        """``y`` without padding."""
        height, width = (-(-n // self.recipe.stride) for n in self.wanted)
        return self.y[..., :height, :width]

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
        operator = self.recipe.bind((y.shape[1], *self.size), device)
        y = y.to(device, torch.float32).expand(count, *y.shape[1:])
        return Measurement(y, operator, self.noise_level, self.simulated)


def observed(x: Tensor, recipe: Recipe, noise_level: float, multiple: int) -> Observation:
    """The photos ``x`` (N, 3, h, w) in [-1, 1] are the measurement itself.

    ``multiple`` must divide both sides of the restoration; x is mirrored at its edges for that.
    """
    stride = recipe.stride
    wanted = (x.shape[2] * stride, x.shape[3] * stride)
    y = pad(x, math.lcm(multiple, stride) // stride)
    return Observation(recipe, y, noise_level, wanted, simulated=False)


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
    y = simulate(x, recipe.bind(tuple(x.shape[1:])), noise_level, generators).y
    return Observation(recipe, y, noise_level, wanted, simulated=True)
