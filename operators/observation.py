"""Measurements from photos: padded to the sizes of model and operator, observed or simulated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .measurement import Measurement, check_noise_level, simulate
from .operator import Operator
from .recipe import Recipe

CHANNELS = 3
LARGEST = 4096
"""Longest side in pixels of a padded image, the longest that any prior restores."""


def up_to(size: tuple[int, int], multiple: int) -> tuple[int, int]:
    """The least (height, width) of at least ``size`` that ``multiple`` divides."""
    height, width = (-(-n // multiple) * multiple for n in size)
    return height, width


def check_extent(height: int, width: int) -> None:
    """ValueError for a restoration with a side above ``LARGEST``."""
    if max(height, width) > LARGEST:
        raise ValueError(
            f"the restoration would be {width}x{height} pixels (width x height); expected at most"
            f" {LARGEST} a side: choose a smaller picture, scale or margin"
        )


def _padded(size: tuple[int, int], multiple: int) -> tuple[int, int]:
    """``up_to``, before anything of that size is made; ValueError above ``LARGEST``."""
    height, width = up_to(size, multiple)
    check_extent(height, width)
    return height, width


def pad_to(x: Tensor, height: int, width: int) -> Tensor:
    """Reflect ``x`` (N, C, H, W) at the bottom and right to at least ``height`` x ``width``."""
    for axis, length in ((2, height), (3, width)):
        while (missing := length - x.shape[axis]) > 0:
            # A reflection reaches one pixel less than there are; a single pixel is repeated.
            part = min(missing, max(1, x.shape[axis] - 1))
            sides = (0, 0, 0, part) if axis == 2 else (0, part, 0, 0)
            x = F.pad(x, sides, mode="reflect" if x.shape[axis] > 1 else "replicate")
    return x


def pad(x: Tensor, multiple: int) -> Tensor:
    """Reflect ``x`` (N, C, H, W) at the bottom and right until ``multiple`` divides both sides."""
    return pad_to(x, *up_to((x.shape[2], x.shape[3]), multiple))


@dataclass(frozen=True, eq=False)
class Observation:
    """A measurement not yet bound to a device: ``y`` (N, *operator's out_shape) on the CPU.

    ``image_size`` is (height, width) of the restoration, which lies at the top left of the padded
    image of ``padded_size``; ``noise_level`` is the standard deviation of the noise for images in
    [-1, 1]. ``simulated``: from a clean picture, or the photo itself. ``copies``: how many
    restorations of each photo are asked for. Of a recipe over time, the photos are the frames of a
    film, of which ``y`` has ``recipe.cycle[1]`` for every ``recipe.cycle[0]``.
    """

    recipe: Recipe
    y: Tensor
    noise_level: float
    image_size: tuple[int, int]
    padded_size: tuple[int, int]
    simulated: bool
    copies: int = 1

    def __post_init__(self) -> None:
        check_noise_level(self.noise_level)

    @classmethod
    def from_photo(
        cls, photo: Tensor, recipe: Recipe, noise_level: float, multiple: int
    ) -> Observation:
        """The measurement whose pictures are the photos (N, 3, h, w) in [-1, 1].

        ``multiple`` must divide both sides of the padded image, as must the recipe's stride.
        ValueError for a recipe whose measurements are not pictures.
        """
        image_size = recipe.image_size(photo.shape[2], photo.shape[3])
        padded_size = _padded(image_size, math.lcm(multiple, recipe.stride))
        fitted = recipe.for_padding(image_size, padded_size)
        y = fitted.from_photo(pad_to(photo, *fitted.measured_size(*padded_size)))
        return cls(recipe, y, noise_level, image_size, padded_size, simulated=False)

    @classmethod
    def from_clean(
        cls,
        clean: Tensor,
        recipe: Recipe,
        noise_level: float,
        multiple: int,
        generators: Sequence[torch.Generator],
    ) -> Observation:
        """Degrade the clean pictures (N, 3, H, W) in [-1, 1]; noise k from ``generators[k]``.

        ``multiple`` must divide both sides of the padded image, as must the recipe's stride.
        """
        image_size = (clean.shape[2], clean.shape[3])
        padded_size = _padded(image_size, math.lcm(multiple, recipe.stride))
        operator = recipe.for_padding(image_size, padded_size).bind((CHANNELS, *padded_size))
        y = simulate(pad_to(clean, *padded_size), operator, noise_level, generators).y
        return cls(recipe, y, noise_level, image_size, padded_size, simulated=True)

    @classmethod
    def joined(cls, observations: Sequence[Observation]) -> Observation:
        """One observation of all samples; they share recipe, sizes and noise level."""
        return replace(observations[0], y=torch.cat([each.y for each in observations]))

    @property
    def count(self) -> int:
        """The number of images that are restored: of photos, or of the frames of the film."""
        return self.recipe.images_of(len(self.y))

    @property
    def padded(self) -> bool:
        """Whether the image is padded."""
        return self.padded_size != self.image_size

    @property
    def fitted(self) -> Recipe:
        """The recipe for the padded image."""
        return self.recipe.for_padding(self.image_size, self.padded_size)

    @property
    def measurement_picture(self) -> Tensor:
        """The picture (N, 3, h, w) of ``y``, without padding."""
        if self.recipe.cycle is None:
            return self.picture(self.y)
        height, width = self.recipe.measured_size(*self.image_size)
        return self.operator(self.y.device).picture(self.y)[..., :height, :width]

    def picture(self, y: Tensor) -> Tensor:
        """The picture (N, 3, h, w) of a measurement like ``y``, or a residual, without padding."""
        height, width = self.recipe.measured_size(*self.image_size)
        if tuple(y.shape[1:]) != (CHANNELS, *self.fitted.measured_size(*self.padded_size)):
            y = self.operator(y.device).picture(y)
        return y[..., :height, :width]

    def crop(self, x: Tensor) -> Tensor:
        """The restoration (N, 3, H, W) without padding."""
        return x[..., : self.image_size[0], : self.image_size[1]]

    def operator(self, device: torch.device | str = "cpu") -> Operator:
        """The operator of the padded image on ``device``; cached while it is in use."""
        return self.fitted.bind((CHANNELS, *self.padded_size), device)

    def bind(self, device: torch.device | str = "cpu", count: int | None = None) -> Measurement:
        """The measurement on ``device`` in float32, for ``count`` samples.

        A single photo is repeated; ValueError for any other number of photos than ``count``, and of
        frames than the film has.
        """
        y = self.y
        count = self.count if count is None else count
        if count != self.count and (self.recipe.cycle or len(y) != 1):
            raise ValueError(
                f"the measurement holds {self.count} images and {count} samples are asked for;"
                " expected as many, or one image"
            )
        y = y.to(device, torch.float32)
        y = y if count == self.count else y.expand(count, *y.shape[1:])
        valid = self._valid()
        valid = None if valid is None else valid.to(device)
        operator = self.operator(device)
        return Measurement(y, operator, self.noise_level, self.simulated, valid)

    def _valid(self) -> Tensor | None:
        """Where ``y`` shows the photo and not its padding, bool (1, *out_shape); None: everywhere,
        or where every value depends on the whole image.
        """
        if not self.padded:
            return None
        height, width = self.recipe.measured_size(*self.image_size)
        inside = torch.zeros(1, CHANNELS, *self.fitted.measured_size(*self.padded_size))
        inside[..., :height, :width] = 1
        try:
            # Of a recipe that also shifts brightness, only what follows the photo.
            return self.fitted.from_photo(inside) > self.fitted.from_photo(torch.zeros_like(inside))
        except ValueError:  # The measurement is not a picture.
            return None
