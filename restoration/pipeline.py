"""The restoration pipeline on tensors: resizing, measurement, sampling and evaluation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import Tensor

from ..operators import Recipe
from ..operators.observation import Observation
from ..operators.randomness import generator, generators
from ..priors.base import FlowPrior
from ..priors.tiling import tile_side, tiled
from ..samplers import (
    MethodSettings,
    Work,
    finished,
    method_named,
    sample,
)
from ..samplers.method import Callback
from . import metrics


@dataclass(frozen=True)
class Request:
    """Settings of a restoration, for all photos.

    observed: whether the photo is the measurement; otherwise it is a clean image to be degraded.
    size: (height, width) of the restoration; None keeps the aspect ratio and shrinks a clean photo
        until its shorter side is at most ``side`` pixels.
    noise: standard deviation of the measurement's noise, for images in [-1, 1].
    tile: side in pixels of the tiles in which the model processes large images; 0 is automatic.

    Raises ValueError for an unknown method and for values out of range.
    """

    recipe: Recipe
    method: str
    settings: MethodSettings
    steps: int = 28
    noise: float = 0.03
    seed: int = 0
    size: tuple[int, int] | None = None
    side: int = 128
    observed: bool = False
    tile: int = 0

    def __post_init__(self) -> None:
        method_named(self.method)
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; expected at least 1")
        if not (math.isfinite(self.noise) and self.noise >= 0):
            raise ValueError(
                f"the noise level is {self.noise}; expected a number of at least 0, such as 0.03"
            )
        if self.size and (min(self.size) < 16 or any(n % self.recipe.stride for n in self.size)):
            height, width = self.size
            raise ValueError(
                f"the size is {height}x{width}; expected at least 16x16, both sides divisible by"
                f" {self.recipe.stride}"
            )


@dataclass
class Photo:
    """A resized photo and its measurement: ``pixels`` (1, 3, h, w) in [-1, 1] are the clean image
    or the observed one; ``notes`` list the conversions.
    """

    name: str
    pixels: Tensor
    observation: Observation
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Restored:
    """One result; images are (1, 3, h, w), the restoration clamped to [-1, 1].

    ``psnr`` and ``ssim`` are None without a clean image; ``residual_ratio`` is defined in
    ``Measurement``. ``work`` counts the passes of the whole batch; see ``Work.counted``.
    """

    measurement: Tensor
    restored: Tensor
    clean: Tensor | None
    psnr: float | None
    ssim: float | None
    residual_ratio: float
    work: dict[str, int]


def resize(x: Tensor, height: int, width: int) -> Tensor:
    """x resized to (1, 3, height, width), bicubic with antialiasing, clamped to [-1, 1]."""
    return F.interpolate(x, (height, width), mode="bicubic", antialias=True).clamp(-1, 1)


def cover(x: Tensor, height: int, width: int) -> Tensor:
    """x resized to cover ``height`` x ``width`` and centre-cropped to that size."""
    zoom = max(height / x.shape[2], width / x.shape[3])
    tall, wide = (
        max(n, round(s * zoom)) for n, s in zip((height, width), x.shape[2:], strict=True)
    )
    top, left = (tall - height) // 2, (wide - width) // 2
    return resize(x, tall, wide)[..., top : top + height, left : left + width]


def prepare(x: Tensor, name: str, request: Request, prior: FlowPrior) -> Photo:
    """Resize the photo ``x`` (1, 3, H, W) in [-1, 1] as requested and make its measurement.

    Raises ValueError for a photo above 4096 pixels a side, and for a tile size that the model does
    not support.
    """
    given, notes, recipe = tuple(x.shape[2:]), [], request.recipe
    if request.size:
        height, width = recipe.measured_size(*request.size) if request.observed else request.size
        if (height, width) != given:
            x = cover(x, height, width)
            notes.append(f"{given[0]}x{given[1]} resized and cut to {height}x{width}")
    elif not request.observed and min(given) > request.side:
        zoom = request.side / min(given)
        x = resize(x, round(given[0] * zoom), round(given[1] * zoom))
        notes.append(f"{given[0]}x{given[1]} shrunk to {x.shape[2]}x{x.shape[3]}")
    if request.observed:
        observation = Observation.from_photo(x, recipe, request.noise, prior.stride)
    else:
        noise = [generator(request.seed, "noise", name)]
        observation = Observation.from_clean(x, recipe, request.noise, prior.stride, noise)
    size = observation.padded_size
    if observation.padded:
        image = observation.image_size
        notes.append(
            f"padded by reflection from {image[0]}x{image[1]} to {size[0]}x{size[1]} while it is"
            " restored"
        )
    try:
        side = tile_side(prior, *size, request.tile)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if side:
        notes.append(f"{size[0]}x{size[1]} in tiles of {side}")
    return Photo(name, x, observation, notes)


def restore(
    photos: Sequence[Photo], request: Request, prior: FlowPrior, callback: Callback | None = None
) -> list[Restored]:
    """Restore photos whose observations share recipe and sizes, as one batch; results do not depend
    on the other photos.

    Raises ValueError if a restoration is not finite.
    """
    observation = Observation.joined([photo.observation for photo in photos])
    prior = tiled(prior, *observation.padded_size, request.tile)
    measurement = observation.bind()
    work = Work(prior, observation.bind(prior.device))
    result = sample(
        request.method,
        prior,
        work.measurement,
        sigmas=method_named(request.method).levels(request.settings, request.steps),
        settings=request.settings,
        generators=generators(request.seed, "sampling", [photo.name for photo in photos]),
        callback=callback,
    )
    images = finished(prior, result, work.measurement, request.settings)
    images, counted = images.cpu().clamp(-1, 1), work.counted()
    if not bool(images.isfinite().all()):
        raise ValueError(
            "the restoration is not finite: choose a smaller --step-scale, or --dtype float32"
        )
    ratios = measurement.residual_ratio(images).tolist()
    images = observation.crop(images)
    return [
        _compared(photo, images[k : k + 1], ratios[k], counted) for k, photo in enumerate(photos)
    ]


def _compared(photo: Photo, image: Tensor, ratio: float, work: dict[str, int]) -> Restored:
    """The result of one photo, with PSNR and SSIM if its clean image is known."""
    observation = photo.observation
    if not observation.simulated:
        return Restored(photo.pixels, image, None, None, None, ratio, work)
    scores = metrics.psnr(image, photo.pixels), metrics.ssim(image, photo.pixels)
    return Restored(observation.measurement_picture, image, photo.pixels, *scores, ratio, work)
