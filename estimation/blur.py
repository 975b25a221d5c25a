"""Which blur a photo has: Gaussian, defocus, straight motion, or none that can be seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..operators import Identity, Recipe
from .families import FAMILIES, Values
from .noise import estimate_noise, overall_noise
from .spectrum import Spectrum

LEAST = 32
"""Pixels a side that a photo needs."""
FOUND, SURE = 0.06, 0.01
"""Gain in log-likelihood per frequency from which a blur is believed, and its family."""
CLEAR = 0.1
"""The same per frequency that stands out of the noise, which also suffices: photos of mostly sky
have few of these. Sharp ones came to 0.085 at most, but for one picture with 0.114, which was taken
to have moved by two pixels."""
SEVERAL = 4
BATCH = 48


@dataclass(frozen=True)
class Blur:
    """What was found. ``family`` is none, gaussian, defocus or motion, with its ``parameters``.

    ``kernel`` (odd, odd) is float64, of sum 1. ``score`` is the gain in log-likelihood per
    frequency over no blur; ``margin`` is that over the best kernel of any other family: below
    ``SURE`` the family is a guess, and kernels of both are alike. ``seen`` is the part of the
    frequencies that stands out of the noise.
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


def _losses(spectrum: Spectrum, family: str, tried: Sequence[Values]) -> Tensor:
    kernels = FAMILIES[family].kernel
    losses = []
    for first in range(0, len(tried), BATCH):
        batch = tried[first : first + BATCH]
        losses.append(spectrum.loss(torch.stack([spectrum.response(kernels(*v)) for v in batch])))
    return torch.cat(losses)


def _search(spectrum: Spectrum, family: str) -> tuple[Values, float]:
    """The best values of a family and their loss: a grid, then finer ones about its best values,
    several, since the zeros of a kernel nearly fit those of kernels a few times as wide.
    """
    kind = FAMILIES[family]
    tried = kind.start(spectrum.side)
    for keep, part in ((SEVERAL, 1.0), (1, 0.3)):
        losses = _losses(spectrum, family, tried)
        best = [tried[k] for k in losses.argsort()[:keep].tolist()]
        tried = best + [values for each in best for values in kind.near(each, part)]
    losses = _losses(spectrum, family, tried)
    return tried[int(losses.argmin())], float(losses.min())


@torch.no_grad()
def estimate_blur(
    x: Tensor, noise_level: float | None = None, families: Sequence[str] = tuple(FAMILIES)
) -> Blur:
    """The blur of one photo x (1, C, H, W) in [-1, 1], the same everywhere in it.

    Of the kernels of each of the ``families`` the one is taken under which the photo's spectrum is
    most likely, if natural scenes fall off as they do; see ``Spectrum``. ``noise_level`` is that of
    the single channels; None: measured, where the photo is flattest. ValueError for more than one
    photo, sides below 32, an unknown family, or a photo of a single colour.
    """
    if x.ndim != 4 or len(x) != 1 or min(x.shape[2:]) < LEAST:
        raise ValueError(
            f"the photo has shape {tuple(x.shape)}; expected (1, C, H, W), both sides at least"
            f" {LEAST}"
        )
    for family in families:
        if family not in FAMILIES:
            raise ValueError(f"unknown family {family!r}; expected one of {', '.join(FAMILIES)}")
    grey = x.detach().double().cpu().mean(1, keepdim=True)
    level = float(estimate_noise(grey))
    if noise_level is not None:
        level = noise_level / x.shape[1] ** 0.5
    if float(grey.std()) < 1e-6:
        raise ValueError("the photo is of a single colour; expected a scene with detail")
    spectrum = Spectrum(grey[0, 0], level)
    flat = torch.ones(1, spectrum.side, spectrum.side // 2 + 1, dtype=torch.float64)
    none = float(spectrum.loss(flat))
    candidates: dict[str, tuple[dict[str, float], float]] = {}
    found: dict[str, Values] = {}
    for family in families:
        kind = FAMILIES[family]
        best, least = _search(spectrum, family)
        found[family] = best
        candidates[family] = dict(zip(kind.names, best, strict=True)), none - least
    own = noise_level if noise_level is not None else overall_noise(x)
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
