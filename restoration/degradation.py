"""How photos were damaged: as the command line says, and as each photo tells by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..estimation.blur import estimate_blur
from ..estimation.jpeg import read_jpeg
from ..estimation.noise import overall_noise
from ..estimation.rounding import rounded_away
from ..operators import Chain, Identity, Recipe
from . import images

ESTIMATES = ("noise", "blur", "jpeg")
NOISE = 0.03
"""The noise level where nobody says one."""


@dataclass(frozen=True)
class Damage:
    """What happened to every photo, in this order: ``blur``, ``task``, JPEG, ``mask``.

    estimate: what is read off each photo, of ``ESTIMATES``: blur in place of ``blur``, jpeg off the
        file's own tables; noise, which goes with both.
    noise: the level, for images in [-1, 1]; None: what was estimated, else 0.03.
    """

    blur: Recipe | None = None
    task: Recipe | None = None
    mask: Recipe | None = None
    estimate: tuple[str, ...] = ()
    noise: float | None = None

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
        blur = jpeg = found = None
        notes: list[str] = []
        if "blur" in self.estimate:
            seen = estimate_blur(x, self.noise)
            blur, found = seen.recipe, seen.noise_level
            notes.append(str(seen))
        elif "noise" in self.estimate:
            found = overall_noise(x)
            notes.append(f"noise {found:.4f}")
        if "jpeg" in self.estimate:
            told = read_jpeg(file)
            jpeg, lost = told.recipe, rounded_away(told.recipe, x)
            # What rounding took is more than the noise that it left.
            found = max(lost, found or 0.0)
            notes.append(f"{told}; it took about {lost:.4f}")
        if self.noise is not None or found is None:
            found = self.noise_level
        return self.recipe(blur, jpeg), found, notes


def recipe_from_picture(file: Path, make: Callable[[Tensor], Recipe]) -> Recipe:
    """What ``make`` makes of a grey picture; ValueError names the file."""
    picture = images.read_grey(file)
    try:
        return make(picture)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
