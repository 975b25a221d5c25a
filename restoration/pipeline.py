"""The restoration pipeline on tensors: resizing, measurement, sampling and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ..operators import Recipe
from ..operators.measurement import check_noise_level
from ..operators.observation import LARGEST, Observation
from ..operators.randomness import generator, generators, key_of_draw
from ..priors.base import FlowPrior
from ..priors.tiling import tile_side, tiled
from ..samplers import (
    MethodSettings,
    Work,
    finished,
    method_named,
    sample,
    suited,
)
from ..samplers.method import Callback
from . import metrics
from .several import Several


@dataclass(frozen=True)
class Request:
    """Settings of a restoration, for all photos.

    observed: whether the photo is the measurement; otherwise it is a clean image to be degraded.
    size: (height, width) of the restoration; None keeps the aspect ratio and shrinks a clean photo
        until its shorter side is at most ``side`` pixels.
    noise: standard deviation of the measurement's noise, for images in [-1, 1].
    tile: side in pixels of the tiles in which the model processes large images; 0 is automatic.
    samples: number of restorations of every photo.
    suited: whether the settings' noise levels give way to those that suit the model, if it has any.

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
    samples: int = 1
    suited: bool = False

    def __post_init__(self) -> None:
        method_named(self.method)
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; expected at least 1")
        if self.samples < 1:
            raise ValueError(f"samples is {self.samples}; expected at least 1")
        check_noise_level(self.noise)
        sides = self.size or (LARGEST, LARGEST)
        uneven = any(n % self.recipe.stride for n in self.size or ())
        if min(sides) < 16 or max(sides) > LARGEST or uneven:
            raise ValueError(
                f"the size is {sides[1]}x{sides[0]} (width x height); expected 16x16 to"
                f" {LARGEST}x{LARGEST}, both sides divisible by {self.recipe.stride}"
            )


@dataclass
class Photo:
    """A resized photo and its measurement: ``pixels`` (1, 3, h, w) in [-1, 1] are the clean image
    or the observed one; ``notes`` list the conversions. ``lost``: where alone a restoration may
    differ from the photo, (h, w), 1 there; None: everywhere.
    """

    name: str
    pixels: Tensor
    observation: Observation
    notes: list[str] = field(default_factory=list)
    lost: Tensor | None = None


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


def with_known(restored: Tensor, photos: Tensor, lost: Tensor) -> Tensor:
    """Restorations (N, C, H, W) where ``lost`` (H, W) is 1, and the photos elsewhere, to the bit.

    N is a multiple of the number of photos: all photos once, then all again.
    """
    own = photos.to(restored).repeat(len(restored) // len(photos), 1, 1, 1)
    return torch.where(lost.to(restored.device) > 0, restored, own)


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
            notes.append(f"{given[1]}x{given[0]} resized and cut to {width}x{height}")
    elif not request.observed and min(given) > request.side:
        zoom = request.side / min(given)
        x = resize(x, round(given[0] * zoom), round(given[1] * zoom))
        notes.append(f"{given[1]}x{given[0]} shrunk to {x.shape[3]}x{x.shape[2]}")
    if request.observed:
        observation = Observation.from_photo(x, recipe, request.noise, prior.stride)
    else:
        noise = [generator(request.seed, "noise", name)]
        observation = Observation.from_clean(x, recipe, request.noise, prior.stride, noise)
    size = observation.padded_size
    if observation.padded:
        image = observation.image_size
        notes.append(
            f"padded by reflection from {image[1]}x{image[0]} to {size[1]}x{size[0]} while it is"
            " restored"
        )
    try:
        side = tile_side(prior, *size, request.tile)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if side:
        notes.append(f"{size[1]}x{size[0]} in tiles of {side}")
    return Photo(name, x, observation, notes)


def restore(
    photos: Sequence[Photo],
    request: Request,
    prior: FlowPrior,
    callback: Callback | None = None,
    draw: int = 0,
) -> list[Restored]:
    """Restore photos whose observations share recipe and sizes, as one batch; results do not depend
    on the other photos.

    ``draw`` is the number, from 0, of the independent sample that is drawn. Raises ValueError if a
    restoration is not finite.
    """
    return _compared(photos, *drawn(photos, request, prior, callback, draw))


@dataclass(frozen=True)
class RestoredSeveral:
    """The samples of one photo and their mean, whose ``work`` is that of all samples."""

    samples: tuple[Restored, ...]
    mean: Restored
    several: Several


def restore_several(
    photos: Sequence[Photo], request: Request, prior: FlowPrior, callback: Callback | None = None
) -> list[RestoredSeveral]:
    """``request.samples`` independent restorations of every photo, and their means.

    Sample k is what ``restore`` gives for the draw k, however many there are. The samples are drawn
    one after the other, in the memory of one batch of photos. Raises ValueError for fewer than two
    samples, and if a restoration is not finite.
    """
    draws = [drawn(photos, request, prior, callback, k) for k in range(request.samples)]
    samples = [_compared(photos, *each) for each in draws]
    work = {name: sum(counted[name] for _, counted in draws) for name in draws[0][1]}
    means = _compared(photos, torch.stack([images for images, _ in draws]).mean(0), work)
    factor = method_named(request.method).calibration or 1.0
    return [
        RestoredSeveral(
            tuple(each),
            mean,
            Several(
                torch.cat([one.restored for one in each]),
                [one.residual_ratio for one in each],
                factor,
            ),
        )
        for *each, mean in zip(*samples, means, strict=True)
    ]


def drawn(
    photos: Sequence[Photo],
    request: Request,
    prior: FlowPrior,
    callback: Callback | None,
    draw: int,
) -> tuple[Tensor, dict[str, int]]:
    """The padded restorations (N, 3, H, W) in [-1, 1] of one draw, and the work.

    N is the number of photos; of one whose recipe is over time, it is that of the frames.
    """
    observation = Observation.joined([photo.observation for photo in photos])
    prior = tiled(prior, *observation.padded_size, request.tile)
    work = Work(prior, observation.bind(prior.device))
    # The frames of a film share the noise of its name.
    keys = [key_of_draw(each.name, draw) for each in photos for _ in range(each.observation.count)]
    settings = suited(request.settings, prior) if request.suited else request.settings
    result = sample(
        request.method,
        prior,
        work.measurement,
        sigmas=method_named(request.method).levels(settings, request.steps),
        settings=settings,
        generators=generators(request.seed, "sampling", keys),
        callback=callback,
    )
    images = finished(prior, result, work.measurement, settings)
    images, counted = images.cpu().clamp(-1, 1), work.counted()
    if not bool(images.isfinite().all()):
        raise ValueError(
            "the restoration is not finite: choose a smaller --step-scale, or --dtype float32"
        )
    return images, counted


def _compared(photos: Sequence[Photo], images: Tensor, work: dict[str, int]) -> list[Restored]:
    """The results of padded restorations, with PSNR and SSIM where the clean image is known."""
    joined = Observation.joined([photo.observation for photo in photos])
    ratios = joined.bind().residual_ratio(images).tolist()
    found = []
    for photo, image, ratio in zip(photos, joined.crop(images).split(1), ratios, strict=True):
        clean, seen = None, photo.pixels
        psnr = ssim = None
        if photo.lost is not None:
            image = with_known(image, photo.pixels, photo.lost)
        if photo.observation.simulated:
            clean, seen = photo.pixels, photo.observation.measurement_picture
            psnr, ssim = metrics.psnr(image, clean), metrics.ssim(image, clean)
        found.append(Restored(seen, image, clean, psnr, ssim, ratio, work))
    return found
