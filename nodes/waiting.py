"""The host's progress bar and its Cancel, for work that is no sampling, and within its steps."""
# pyright: reportMissingImports=false

from __future__ import annotations

import time
from typing import Any

import comfy.model_management
import comfy.utils
import latent_preview
from torch import Tensor

from ..estimation.progress import Progress
from ..priors.tiling import Tile

OFTEN = 0.5
"""Seconds between two pictures within a step."""
FIRST = 6
"""Passes of every tile that a first step is thought to need; each other one, as the one before."""
FINE = 1000
"""Parts of a step that the bar tells apart."""


def waiting() -> Progress:
    """Progress that the host shows on the node, and that ends with its exception on Cancel."""
    bar, shown = comfy.utils.ProgressBar(100), -1

    def report(done: float) -> None:
        nonlocal shown
        comfy.model_management.throw_exception_if_processing_interrupted()
        if (percent := int(100 * done)) > shown:
            shown = percent
            bar.update_absolute(percent)

    return Progress(report)


class WithinSteps:
    """Shows on the host's node how far a step is whose picture is made tile by tile, and the tiles
    that are done. The host itself shows the steps.

    patcher: the host's MODEL. total: the number of steps.
    """

    def __init__(self, patcher: Any, total: int):
        self._bar, self._total = comfy.utils.ProgressBar(FINE * total), total
        form = patcher.get_model_object("latent_format")
        self._shows = latent_preview.get_previewer(patcher.load_device, form)
        self._picture: Tensor | None = None
        self._step, self._passes, self._expected, self._last = 0, 0, 0, time.monotonic()

    def step(self, denoised: Tensor) -> None:
        """A step is done, and found the clean latents ``denoised``."""
        self._picture = denoised.detach().clone()
        self._expected, self._passes, self._step = self._passes, 0, self._step + 1

    def __call__(self, tile: Tile, clean: Tensor | None) -> None:
        """One tile went through one network; ``clean`` are the latents that the model found."""
        if clean is not None:
            if self._picture is None:
                self._picture = clean.new_zeros(*clean.shape[:-2], *tile.whole)
            if self._picture.shape[:-2] == clean.shape[:-2]:
                tile.of(self._picture).copy_(clean)
        self._passes += 1
        now = time.monotonic()
        if now - self._last < OFTEN or self._step >= self._total:
            return
        self._last = now
        area = tile.whole[0] * tile.whole[1] / (tile.height * tile.width)
        part = self._passes / (self._expected or FIRST * max(2.0, area))
        done = int(FINE * (self._step + min(part, 0.95)))
        shown = None
        if self._shows is not None and self._picture is not None:
            shown = self._shows.decode_latent_to_preview_image("JPEG", self._picture)
        self._bar.update_absolute(done, FINE * self._total, shown)
