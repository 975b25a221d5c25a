"""The degradation of photos: given by the user, or estimated from each photo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..estimation.progress import SILENT, Progress
from ..estimation.registry import ESTIMATORS, KERNEL_SIZE, Photo, estimate
from ..operators import Chain, Identity, Mask, Recipe

ESTIMATES = tuple(name for name in ESTIMATORS if name != "point")
"""Estimators that need only the photo and its file."""
NOISE = 0.03
"""Default noise level: standard deviation for images in [-1, 1]."""


@dataclass(frozen=True)
class Damage:
    """The degradation of every photo, in this order: ``blur``, ``task``, JPEG, ``mask``.

    estimate: estimators applied to each photo, of ``ESTIMATES``; an estimated blur replaces
        ``blur``.
    noise: noise level for images in [-1, 1]; None: the estimated one, else 0.03.
    kernel_size: width in pixels of an estimated nonparametric kernel.
    notes: how the pictures of mask and kernel were understood.
    """

    blur: Recipe | None = None
    task: Recipe | None = None
    mask: Recipe | None = None
    estimate: tuple[str, ...] = ()
    noise: float | None = None
    kernel_size: int = KERNEL_SIZE
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        blurs = [name for name in self.estimate if ESTIMATORS[name].place == "blur"]
        if len(blurs) > 1:
            raise ValueError(f"{' and '.join(blurs)} both estimate the blur: choose one")

    @property
    def noise_level(self) -> float:
        """The noise level if none is estimated."""
        return NOISE if self.noise is None else self.noise

    def recipe(self, blur: Recipe | None = None, jpeg: Recipe | None = None) -> Recipe:
        """The degradation, with the estimated ``blur`` and ``jpeg`` if given."""
        parts = [p for p in (blur or self.blur, self.task, jpeg, self.mask) if p is not None]
        # Identities are left out.
        parts = [part for part in parts if part != Identity()] or [Identity()]
        return parts[0] if len(parts) == 1 else Chain(tuple(parts))

    def stretched(self, height: int, width: int) -> list[str]:
        """A note if the mask is stretched to fit a photo of ``height`` x ``width``."""
        mask = self.mask
        if (
            not isinstance(mask, Mask)
            or abs(mask.height * width / (mask.width * height) - 1) < 0.03
        ):
            return []
        return [f"the mask of {mask.width}x{mask.height} is stretched to {width}x{height}"]

    def of(
        self,
        file: str | Path,
        x: Tensor,
        content: bytes | None = None,
        progress: Progress = SILENT,
    ) -> tuple[Recipe, float, list[str]]:
        """Degradation, noise level and notes for the photo x (1, 3, H, W), read from ``file``,
        whose bytes are ``content``. ``progress`` may stop it.

        ValueError for a photo that is too small, and for the estimator jpeg if the file is no JPEG.
        """
        photo = Photo(
            x,
            file,
            noise_level=self.noise,
            kernel_size=self.kernel_size,
            progress=progress,
            content=content,
        )
        found: dict[str, Recipe] = {}
        levels: list[float] = []
        notes: list[str] = []
        blurred = any(ESTIMATORS[name].place == "blur" for name in self.estimate)
        for name in self.estimate:
            if name == "noise" and blurred:
                continue  # The estimators of blur estimate the noise as well.
            told = estimate(name, photo)
            found[ESTIMATORS[name].place] = told.recipe
            levels.append(told.noise_level)
            notes.append(told.report)
        # The quantisation error of JPEG exceeds the noise that is left after it.
        level = max(levels) if levels and self.noise is None else self.noise_level
        return self.recipe(found.get("blur"), found.get("jpeg")), level, notes
