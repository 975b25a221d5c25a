"""Estimate the blur of a photo: Gaussian, defocus, straight motion, or none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..operators import Identity, Recipe
from .checks import check_photo
from .families import FAMILIES, Values
from .noise import estimate_noise, overall_noise
from .progress import SILENT, Progress
from .spectrum import Spectrum

LEAST = 32
"""Shortest side of a photo, in pixels."""
FOUND, SURE = 0.06, 0.01
"""Smallest gain in log-likelihood per frequency for which a blur, and its family, is accepted."""
CLEAR = 0.1
"""Smallest gain per frequency that exceeds the noise. It suffices as well, since few frequencies of
a photo that is mostly sky do. Sharp test photos reached 0.085, but for one with 0.114."""
SEVERAL = 4
"""Largest number of widths around which is searched more finely."""
READ = 0.3
"""Roughly the part of the work that reading the photo's spectrum is."""
BATCH = 48


@dataclass(frozen=True)
class Blur:
    """The blur that was found.

    family: none, gaussian, defocus or motion, with its ``parameters``.
    kernel: float64 (h, w), odd sides, sum 1.
    score: gain in log-likelihood per frequency over no blur.
    margin: gain over the best kernel of any other family; below ``SURE`` the family is uncertain.
    noise_level: standard deviation of the noise, for images in [-1, 1].
    candidates: parameters and score of the best kernel of every family.
    seen: fraction of the frequencies whose power exceeds the noise.
    """

    family: str
    parameters: dict[str, float]
    kernel: Tensor
    recipe: Recipe
    score: float
    margin: float
    noise_level: float
    candidates: dict[str, tuple[dict[str, float], float]]
    seen: float = 1.0

    def __str__(self) -> str:
        noise = f"noise {self.noise_level:.4f}"
        if self.family == "none":
            least = min(FOUND, CLEAR * self.seen)
            return f"no blur found (gain {self.score:.3f}, needs {least:.3f}); {noise}"
        values = ", ".join(f"{name} {value:.2f}" for name, value in self.parameters.items())
        doubt = ""
        if self.margin < SURE:
            other = max((f for f in self.candidates if f != self.family), key=self._gain)
            also = ", ".join(f"{k} {v:.2f}" for k, v in self.candidates[other][0].items())
            doubt = f"; or {other} with {also}, which explains it as well"
        return f"{self.family} blur, {values} (gain {self.score:.3f}); {noise}{doubt}"

    def _gain(self, family: str) -> float:
        return self.candidates[family][1]


def _losses(spectrum: Spectrum, family: str, tried: Sequence[Values], progress: Progress) -> Tensor:
    kernels = FAMILIES[family].kernel
    losses = []
    for first in range(0, len(tried), BATCH):
        progress(first / len(tried))
        batch = tried[first : first + BATCH]
        responses = torch.stack([spectrum.response(kernels(*v)) for v in batch])
        losses.append(spectrum.loss(responses, progress))
    return torch.cat(losses)


def _several(tried: Sequence[Values], losses: Sequence[float]) -> list[Values]:
    """The best parameters, and those of other widths that are better than the widths next to them:
    at most ``SEVERAL``, the best first. The very best alone may all be of nearly one width.
    """
    best: dict[float, tuple[float, Values]] = {}
    for loss, values in zip(losses, tried, strict=True):
        best[values[0]] = min(best.get(values[0], (loss, values)), (loss, values))
    rows = [best[width] for width in sorted(best)]
    lost = [math.inf, *(loss for loss, _ in rows), math.inf]
    valleys = [row for k, row in enumerate(rows) if row[0] <= min(lost[k], lost[k + 2])]
    return [values for _, values in sorted(valleys)[:SEVERAL]]


def _search(spectrum: Spectrum, family: str, progress: Progress) -> tuple[Values, float]:
    """The best parameters of a family and their loss, by a grid, and two finer ones around several
    of its best parameters.

    Several, since the zeros in the spectrum of a kernel nearly coincide with those of kernels a few
    times as wide; and each to its end, since between the points of the grid the likelihood of a
    long motion rises steeply.
    """
    kind = FAMILIES[family]
    tried = kind.start(spectrum.side)
    losses = _losses(spectrum, family, tried, progress.part(0, 1 / 3))
    starts = _several(tried, losses.tolist())
    found = []
    for k, values in enumerate(starts):
        for j, part in enumerate((1.0, 0.3)):
            near = [values, *kind.near(values, part)]
            share = 1 / 3 / len(starts)
            done = 1 / 3 + (2 * k + j) * share
            losses = _losses(spectrum, family, near, progress.part(done, done + share))
            values = near[int(losses.argmin())]
        found.append((float(losses.min()), values))
    loss, values = min(found)
    return values, loss


@torch.no_grad()
def estimate_blur(
    x: Tensor,
    noise_level: float | None = None,
    families: Sequence[str] = tuple(FAMILIES),
    progress: Progress = SILENT,
) -> Blur:
    """Estimate the blur of one photo x (1, C, H, W) in [-1, 1], which is the same everywhere in it.

    Returns the kernel, among those of the ``families``, that makes the photo's power spectrum most
    likely under a model of natural scenes; see ``Spectrum``. ``noise_level`` is the standard
    deviation of the noise of a single channel; None: it is measured. ``progress`` may stop it.
    ValueError for more than one photo, sides below 32 pixels, an unknown family, or a photo of a
    single colour.
    """
    check_photo(x, LEAST)
    for family in families:
        if family not in FAMILIES:
            raise ValueError(f"unknown family {family!r}; expected one of {', '.join(FAMILIES)}")
    grey = x.detach().cpu().double().mean(1, keepdim=True)
    progress(0)
    level = float(estimate_noise(grey, progress=progress))
    if noise_level is not None:
        level = noise_level / x.shape[1] ** 0.5
    if float(grey.std()) < 1e-6:
        raise ValueError("the photo is of a single colour; expected a scene with detail")
    spectrum = Spectrum(grey[0, 0], level, progress.part(0, READ))
    flat = torch.ones(1, spectrum.side, spectrum.side // 2 + 1, dtype=torch.float64)
    none = float(spectrum.loss(flat))
    candidates: dict[str, tuple[dict[str, float], float]] = {}
    found: dict[str, Values] = {}
    for k, family in enumerate(families):
        kind = FAMILIES[family]
        share = (1 - READ) / len(families)
        part = progress.part(READ + k * share, READ + (k + 1) * share)
        best, least = _search(spectrum, family, part)
        found[family] = best
        candidates[family] = dict(zip(kind.names, best, strict=True)), none - least
    own = noise_level if noise_level is not None else overall_noise(x, progress.part(1, 1))
    order = sorted(candidates, key=lambda family: -candidates[family][1])
    parameters, score = candidates[order[0]]
    seen = spectrum.seen
    short = min(FOUND, CLEAR * seen) - score
    if short > 0:
        one = torch.ones(1, 1, dtype=torch.float64)
        return Blur("none", {}, one, Identity(), score, short, own, candidates, seen)
    margin = score - (candidates[order[1]][1] if len(order) > 1 else 0.0)
    kind, values = FAMILIES[order[0]], found[order[0]]
    kernel, recipe = kind.kernel(*values), kind.recipe(*values)
    return Blur(order[0], parameters, kernel, recipe, score, margin, own, candidates, seen)
