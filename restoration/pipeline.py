"""Photos to restorations: fit to the model, measure, sample, and judge. Knows no files."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ..operators import Measurement, Operator, Recipe, simulate
from ..operators.observation import CHANNELS, pad_to, up_to
from ..priors.base import FlowPrior
from ..priors.tiling import tile_side, tiled
from ..samplers import METHODS, Settings, Work, data_consistency, published_sigmas, sample
from ..samplers.method import Callback
from . import metrics


@dataclass(frozen=True)
class Request:
    """What to do with every photo.

    observed: the photo is the measurement; otherwise it is a clean image, which is degraded first.
    size: (height, width) of the restoration; None keeps the photo's proportions and shrinks a clean
        photo until its shorter side is ``side`` pixels. Nothing is enlarged for None.
    noise: standard deviation of the measurement's noise, for images in [-1, 1].
    tile: side in pixels of the tiles in which the model sees a large image; 0 is automatic.

    Raises ValueError for values that make no sense.
    """

    recipe: Recipe
    method: str
    settings: Settings
    steps: int = 28
    noise: float = 0.03
    seed: int = 0
    size: tuple[int, int] | None = None
    side: int = 128
    observed: bool = False
    tile: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(
                f"unknown method {self.method!r}; expected one of {', '.join(METHODS)}"
            )
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
    """A photo at the model's size: ``pixels`` (1, 3, h, w), clean or as it was observed.

    ``notes`` say what was done to it. ``padded`` is the same with the sides that belong to a
    restoration of ``size``, which model and operator divide; ``recipe`` fits that size.
    """

    name: str
    pixels: Tensor
    padded: Tensor
    size: tuple[int, int]
    recipe: Recipe
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Restored:
    """One result; images are (1, 3, h, w), the restoration clamped to [-1, 1].

    ``psnr`` and ``ssim`` are None without a clean image, ``residual_ratio`` without noise. ``work``
    counts the passes of the whole batch, as ``Work.counted`` does.
    """

    measurement: Tensor
    restored: Tensor
    clean: Tensor | None
    psnr: float | None
    ssim: float | None
    residual_ratio: float | None
    work: dict[str, int]


def generator(seed: int, name: str, purpose: str) -> torch.Generator:
    """A generator that depends on the picture's name, and not on what else is restored."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def resize(x: Tensor, height: int, width: int) -> Tensor:
    """Bicubic with antialiasing, (1, 3, height, width), clamped to [-1, 1]."""
    return F.interpolate(x, (height, width), mode="bicubic", antialias=True).clamp(-1, 1)


def cover(x: Tensor, height: int, width: int) -> Tensor:
    """Resize until ``height`` x ``width`` is covered, and cut the middle out."""
    zoom = max(height / x.shape[2], width / x.shape[3])
    tall, wide = (
        max(n, round(s * zoom)) for n, s in zip((height, width), x.shape[2:], strict=True)
    )
    top, left = (tall - height) // 2, (wide - width) // 2
    return resize(x, tall, wide)[..., top : top + height, left : left + width]


def prepare(x: Tensor, name: str, request: Request, prior: FlowPrior) -> Photo:
    """Fit the photo ``x`` (1, 3, H, W) in [-1, 1] to request and model.

    Raises ValueError for a photo above 4096 pixels a side, and for tiles that do not serve.
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
    wanted = (x.shape[2], x.shape[3])
    wanted = recipe.image_size(*wanted) if request.observed else wanted
    size = up_to(wanted, math.lcm(prior.stride, recipe.stride))
    recipe = recipe.for_padding(wanted, size)
    padded = pad_to(x, *(recipe.measured_size(*size) if request.observed else size))
    if padded.shape != x.shape:
        notes.append(
            f"mirrored at the edges from {x.shape[2]}x{x.shape[3]} to"
            f" {padded.shape[2]}x{padded.shape[3]} while it is restored"
        )
    try:
        side = tile_side(prior, *size, request.tile)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if side:
        notes.append(f"{size[0]}x{size[1]} in tiles of {side}")
    return Photo(name, x, padded, size, recipe, notes)


def measure(photos: Sequence[Photo], request: Request, operator: Operator) -> Measurement:
    """The measurement of photos of one size, each with its own noise."""
    pixels = torch.cat([photo.padded for photo in photos])
    if request.observed:
        return Measurement(
            photos[0].recipe.from_photo(pixels), operator, request.noise, simulated=False
        )
    noise = [generator(request.seed, photo.name, "noise") for photo in photos]
    return simulate(pixels, operator, request.noise, noise)


def restore(
    photos: Sequence[Photo], request: Request, prior: FlowPrior, callback: Callback | None = None
) -> list[Restored]:
    """Restore photos of one ``size`` and ``recipe``, in one batch; the batch changes no result.

    Raises ValueError where the model's answer is not finite.
    """
    recipe, shape = photos[0].recipe, (CHANNELS, *photos[0].size)
    prior = tiled(prior, *photos[0].size, request.tile)
    operator = recipe.bind(shape)
    measurement = measure(photos, request, operator)
    there = Measurement(
        measurement.y.to(prior.device),
        recipe.bind(shape, prior.device),
        request.noise,
        measurement.simulated,
    )
    work = Work(prior, there)
    z = sample(
        request.method,
        prior,
        work.measurement,
        sigmas=published_sigmas(request.steps),
        settings=request.settings,
        generators=[generator(request.seed, photo.name, "sampling") for photo in photos],
        callback=callback,
    )
    with torch.no_grad():
        images = data_consistency(prior.decode(z).float(), work.measurement, request.settings)
    images, counted = images.cpu().clamp(-1, 1), work.counted()
    if not bool(images.isfinite().all()):
        raise ValueError(
            "the restoration is not finite: choose a smaller --step-size, or --dtype float32"
        )
    return [
        _judge(photo, images[k : k + 1], measurement.y[k : k + 1], request, operator, counted)
        for k, photo in enumerate(photos)
    ]


def _judge(
    photo: Photo,
    image: Tensor,
    y: Tensor,
    request: Request,
    operator: Operator,
    work: dict[str, int],
) -> Restored:
    """Cut the padding off, and compare."""
    ratio = metrics.residual_ratio(image, Measurement(y, operator, request.noise))
    height, width = photo.pixels.shape[2:]
    if request.observed:
        height, width = request.recipe.image_size(height, width)
        image = image[..., :height, :width]
        return Restored(photo.pixels, image, None, None, None, ratio, work)
    image = image[..., :height, :width]
    tall, wide = request.recipe.measured_size(height, width)
    y = operator.picture(y)[..., :tall, :wide]
    clean = photo.pixels
    scores = metrics.psnr(image, clean), metrics.ssim(image, clean)
    return Restored(y, image, clean, *scores, ratio, work)
