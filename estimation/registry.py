"""What a photo tells by itself: one row per estimator, one form of answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ..operators import Identity, Recipe
from .blur import estimate_blur
from .families import FAMILIES
from .free import estimate_free_kernel
from .jpeg import read_jpeg
from .noise import estimate_noise, overall_noise
from .point import kernel_from_point
from .progress import SILENT, Progress
from .rounding import rounded_away

KERNEL_SIZE = 31
"""Width in pixels of kernels that have no family, where nobody says another."""


@dataclass(frozen=True)
class Photo:
    """What an estimator may look at, and what is known already.

    x: the photo (1, C, H, W) in [-1, 1], at its own size.
    file: its JPEG file. mask: (H, W), above 0.5 on the picture of one point of light.
    noise_level: standard deviation of the noise of a single channel; None: it is measured.
    kernel_size: width in pixels, odd, of a kernel that has no family.
    progress: is told how far the estimate is, and may raise to stop it.
    content: the bytes of ``file``, where they were read already.
    """

    x: Tensor
    file: str | Path | None = None
    mask: Tensor | None = None
    noise_level: float | None = None
    kernel_size: int = KERNEL_SIZE
    progress: Progress = SILENT
    content: bytes | None = None


@dataclass(frozen=True)
class Estimate:
    """What was found in a photo.

    recipe: the degradation; ``Identity`` where none was found or looked for, and for a free kernel
        that is not trusted.
    noise_level: standard deviation of what the operator does not explain, for images in [-1, 1].
    report: the same in one line, with what to do where it is doubtful.
    trusted: False where the degradation may be another one altogether.
    kernel: of the blur, (h, w) with sum 1; a single tap is none. quality: of a JPEG, 1 to 100.
    """

    recipe: Recipe
    noise_level: float
    report: str
    trusted: bool = True
    kernel: Tensor = field(default_factory=lambda: torch.ones(1, 1))
    quality: int | None = None


@dataclass(frozen=True)
class Estimator:
    """``about`` is what a photo tells, in plain words; ``place`` where the degradation happened
    among others: "blur" before all of them, "jpeg" after them, "" for none.
    """

    name: str
    estimate: Callable[[Photo], Estimate]
    about: str
    place: str = ""


def _noise(photo: Photo) -> Estimate:
    levels = estimate_noise(photo.x, progress=photo.progress)
    level = float(levels.square().mean().sqrt())
    channels = levels.square().mean(0).sqrt().tolist()
    names = ("red", "green", "blue") if len(channels) == 3 else map(str, range(len(channels)))
    parts = ", ".join(f"{name} {value:.4f}" for name, value in zip(names, channels, strict=True))
    report = f"noise {level:.4f} ({level * 127.5:.1f} of 255; {parts})"
    return Estimate(Identity(), level, report)


def _blur(*families: str) -> Callable[[Photo], Estimate]:
    def estimate(photo: Photo) -> Estimate:
        blur = estimate_blur(photo.x, photo.noise_level, families, photo.progress)
        return Estimate(blur.recipe, blur.noise_level, str(blur), kernel=blur.kernel)

    return estimate


def _free(photo: Photo) -> Estimate:
    free = estimate_free_kernel(photo.x, photo.kernel_size, photo.noise_level, photo.progress)
    if free.trusted:
        return Estimate(free.recipe, free.noise_level, str(free), True, free.kernel)
    # A picture that is sharpened by a wrong kernel rings.
    report = f"{free}; no blur is undone"
    return Estimate(Identity(), free.noise_level, report, False, free.kernel)


def _point(photo: Photo) -> Estimate:
    if photo.mask is None:
        raise ValueError("a point of light needs a mask; paint over its blurred picture")
    point = kernel_from_point(photo.x, photo.mask, photo.kernel_size)
    level = overall_noise(photo.x) if photo.noise_level is None else photo.noise_level
    return Estimate(point.recipe, level, str(point), not point.saturated, point.kernel)


def _jpeg(photo: Photo) -> Estimate:
    if photo.file is None:
        raise ValueError("the tables of a JPEG stand in its file; give the file itself")
    found = read_jpeg(photo.file, photo.content)
    lost = rounded_away(found.recipe, photo.x, photo.progress)
    report = f"{found}; it took about {lost:.4f}"
    return Estimate(found.recipe, lost, report, quality=found.quality)


ESTIMATORS: dict[str, Estimator] = {
    row.name: row
    for row in (
        Estimator("noise", _noise, "its noise"),
        Estimator(
            "blur",
            _blur(*FAMILIES),
            "its blur (soft, out of focus or moved in a straight line) with its noise",
            "blur",
        ),
        *(
            Estimator(name, _blur(name), f"its blur, which is {family.about}", "blur")
            for name, family in FAMILIES.items()
        ),
        Estimator("free", _free, "its blur of any shape, such as a crooked shake", "blur"),
        Estimator("point", _point, "its blur, from the picture of a point of light", "blur"),
        Estimator("jpeg", _jpeg, "how it was compressed, by its JPEG file", "jpeg"),
    )
}
"""Every estimator, by its name."""


@torch.no_grad()
def estimate(name: str, photo: Photo) -> Estimate:
    """What ``photo`` tells of the degradation ``name``.

    ValueError, in one sentence, for an unknown name and for a photo that cannot tell.
    """
    if name not in ESTIMATORS:
        raise ValueError(f"unknown estimator {name!r}; expected one of {', '.join(ESTIMATORS)}")
    return ESTIMATORS[name].estimate(photo)
