"""How photos were damaged: as the command line says, and as each photo tells by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..estimation.registry import ESTIMATORS, KERNEL_SIZE, Photo, estimate
from ..operators import Chain, Identity, Recipe
from . import images

ESTIMATES = tuple(name for name in ESTIMATORS if name != "point")
"""Estimators that need nothing but the photo and its file."""
NOISE = 0.03
"""The noise level where nobody says one."""


@dataclass(frozen=True)
class Damage:
    """What happened to every photo, in this order: ``blur``, ``task``, JPEG, ``mask``.

    estimate: what each photo tells by itself, of ``ESTIMATES``; a blur takes the place of ``blur``.
    noise: the level, for images in [-1, 1]; None: what was estimated, else 0.03.
    kernel_size: width in pixels of an estimated kernel that has no family.
    """

    blur: Recipe | None = None
    task: Recipe | None = None
    mask: Recipe | None = None
    estimate: tuple[str, ...] = ()
    noise: float | None = None
    kernel_size: int = KERNEL_SIZE

    def __post_init__(self) -> None:
        blurs = [name for name in self.estimate if ESTIMATORS[name].place == "blur"]
        if len(blurs) > 1:
            raise ValueError(f"{' and '.join(blurs)} both estimate the blur: choose one")

    @property
    def noise_level(self) -> float:
        """The noise level where nothing is estimated."""
        return NOISE if self.noise is None else self.noise

    def recipe(self, blur: Recipe | None = None, jpeg: Recipe | None = None) -> Recipe:
        """The degradation, with what was estimated."""
        parts = [p for p in (blur or self.blur, self.task, jpeg, self.mask) if p is not None]
        # What does nothing is left out.
        parts = [part for part in parts if part != Identity()] or [Identity()]
        return parts[0] if len(parts) == 1 else Chain(tuple(parts))

    def of(self, file: Path, x: Tensor) -> tuple[Recipe, float, list[str]]:
        """Degradation and noise level of the photo x (1, 3, H, W), read from ``file``; and notes.

        ValueError for a photo that is too small, and with jpeg for a file that is none.
        """
        photo = Photo(x, file, noise_level=self.noise, kernel_size=self.kernel_size)
        found: dict[str, Recipe] = {}
        levels: list[float] = []
        notes: list[str] = []
        blurred = any(ESTIMATORS[name].place == "blur" for name in self.estimate)
        for name in self.estimate:
            if name == "noise" and blurred:
                continue  # The blur's estimator tells the noise as well.
            told = estimate(name, photo)
            found[ESTIMATORS[name].place] = told.recipe
            levels.append(told.noise_level)
            notes.append(told.report)
        # What the rounding of a JPEG took is more than the noise that it left.
        level = max(levels) if levels and self.noise is None else self.noise_level
        return self.recipe(found.get("blur"), found.get("jpeg")), level, notes


def recipe_from_picture(file: Path, make: Callable[[Tensor], Recipe]) -> Recipe:
    """What ``make`` makes of a grey picture; ValueError names the file."""
    picture = images.read_grey(file)
    try:
        return make(picture)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
