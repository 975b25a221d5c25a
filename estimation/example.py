"""The kernel and the noise between a clean and a degraded picture of the same scene."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..operators import Chain, Kernel, NearestDownsample, Recipe
from .checks import check_photos
from .progress import SILENT, Progress

ROWS = 40_000
"""Largest number of pixels of the degraded picture that are used, evenly spread."""
CHUNK = 4096
LARGEST = 41
"""Largest width of the kernel, in pixels: its square is the side of a dense matrix."""
ROUNDS = 20
RELATED = 0.45
"""Least part of the degraded picture that the clean one explains where both show one scene. Pairs
of different pictures reached 0.35 (both on white); one scene in noise of 0.3 had 0.76."""


@dataclass(frozen=True)
class Example:
    """What turns the clean picture into the degraded one.

    ``kernel`` (size, size), float64, sum 1, acts before every ``scale``-th pixel is kept;
    ``noise_level`` is the standard deviation of the rest, for images in [-1, 1]; ``shift`` is the
    kernel's centre of mass, (down, right) in pixels of the clean picture, which is near 0 where the
    pictures lie on each other; ``gain`` is how much contrast was kept, 1 for all;
    ``explained`` is the part of the degraded picture's variance that the clean one explains.
    """

    recipe: Recipe
    kernel: Tensor
    noise_level: float
    scale: int
    shift: tuple[float, float]
    gain: float
    explained: float

    def __str__(self) -> str:
        down, right = self.shift
        small = "" if self.scale == 1 else f", then {self.scale} times smaller"
        moved = ""
        if max(abs(down), abs(right)) > 0.5:
            moved = f"; the pictures are shifted by {down:.1f} down and {right:.1f} right"
        contrast = "" if abs(self.gain - 1) < 0.05 else f"; contrast changed by {self.gain:.2f}"
        side = len(self.kernel)
        return f"a kernel of {side}x{side}{small}, noise {self.noise_level:.4f}{moved}{contrast}"


def _scale(clean: Tensor, degraded: Tensor) -> int:
    (height, width), (tall, wide) = clean.shape[2:], degraded.shape[2:]
    scale = height // max(tall, 1)
    if scale < 1 or (tall * scale, wide * scale) != (height, width):
        raise ValueError(
            f"the clean picture is {width}x{height} and the degraded one {wide}x{tall}; expected"
            " the same size, or a clean one that is a whole number of times larger: crop them alike"
        )
    return scale


def _rows(clean: Tensor, degraded: Tensor, size: int, scale: int) -> tuple[Tensor, Tensor]:
    """Patches (P, size²) of the clean picture, backwards as convolution reads them, and the value
    (P,) that became of each; only what no border has touched, each channel about its mean.
    """
    reach = size // 2
    first = -(-(reach - scale // 2) // scale) if reach > scale // 2 else 0
    last = [(n - 1 - reach - scale // 2) // scale for n in clean.shape[2:]]
    if min(last) - first < 4:
        raise ValueError(
            f"the picture is {clean.shape[3]}x{clean.shape[2]}, too small for a kernel of {size};"
            " choose a smaller kernel or a larger picture"
        )
    patches, values = [], []
    count = len(clean) * clean.shape[1] * math.prod(end - first + 1 for end in last)
    step = math.ceil(math.sqrt(max(1.0, count / ROWS)))
    at = [torch.arange(first, end + 1, step) for end in last]
    for x, y in zip(clean.flatten(0, 1), degraded.flatten(0, 1), strict=True):
        windows = x.unfold(0, size, 1).unfold(1, size, 1)
        rows, columns = (scale * i + scale // 2 - reach for i in at)
        found = windows[rows[:, None], columns]
        seen = y[at[0][:, None], at[1]]
        found = found.flatten(0, 1).flip((1, 2)).flatten(1)
        patches.append(found - found.mean(0))
        values.append(seen.flatten() - seen.mean())
    return torch.cat(patches), torch.cat(values)


def _priors(size: int) -> list[Tensor]:
    """Factors L (size², size²) of prior covariances L Lᵀ: taps that are alike over some pixels, in
    an envelope of some width.
    """
    t = torch.arange(size, dtype=torch.float64) - size // 2
    found = []
    for alike in (0.0, 0.8, 1.6):
        near = torch.eye(size, dtype=torch.float64)
        if alike:
            near = torch.exp(-((t[:, None] - t) ** 2) / (2 * alike**2))
        values, vectors = torch.linalg.eigh(near)
        root = vectors * values.clamp(min=0).sqrt()
        for width in (size / 8, size / 4, math.inf):
            one = torch.exp(-(t**2) / (2 * width**2))[:, None] * root
            found.append(torch.kron(one, one))
    return found


def _spectrum(root: Tensor, normal: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, and eigenvectors as columns, of the normal equations in terms of a prior."""
    spectrum, basis = torch.linalg.eigh(root.mT @ normal @ root)
    return spectrum, basis


def _solve(patches: Tensor, values: Tensor, size: int, progress: Progress) -> tuple[Tensor, float]:
    """Kernel (size, size) and noise variance. Of the Gaussian priors, their strengths and the noise
    those are taken that maximise the evidence (MacKay 1992).
    """
    normal = torch.zeros(size**2, size**2, dtype=torch.float64)
    right = torch.zeros(size**2, dtype=torch.float64)
    for rows, seen in zip(patches.split(CHUNK), values.split(CHUNK), strict=True):
        progress()
        normal += (rows.mT @ rows).double()
        right += (rows.mT @ seen).double()
    energy, count = float(values.double().square().sum()), len(values)
    if not energy or not float(normal.diagonal().max()):
        raise ValueError("one of the pictures is of a single colour; expected a scene with detail")
    best = -math.inf, right, 0.0
    priors = progress.during(partial(_priors, size))
    for k, root in enumerate(priors):
        progress(k / len(priors))
        spectrum, basis = progress.during(partial(_spectrum, root, normal))
        spectrum, along = spectrum.clamp(min=0), basis.mT @ (root.mT @ right)
        noise, width = 1e-3 * energy / count, 1.0
        for _ in range(ROUNDS):
            weights = along / (spectrum + noise / width)
            used = float((spectrum / (spectrum + noise / width)).sum())
            rest = energy - 2 * float(weights @ along) + float(spectrum @ weights.square())
            noise = max(rest, 1e-10 * energy) / max(count - used, 1.0)
            width = max(float(weights.square().sum()), 1e-12) / max(used, 1e-6)
        fit = (energy - float((along**2 / (spectrum + noise / width)).sum())) / noise
        complexity = float(torch.log1p(spectrum * (width / noise)).sum())
        evidence = -0.5 * (count * math.log(noise) + fit + complexity)
        if evidence > best[0]:
            best = evidence, root @ (basis @ weights), noise
    return best[1].view(size, size), best[2]


@torch.no_grad()
def operator_from_example(
    clean: Tensor, degraded: Tensor, size: int = 25, progress: Progress = SILENT
) -> Example:
    """Kernel of ``size`` x ``size`` taps (odd) and noise level that best explain ``degraded``.

    clean: (N, C, H, W), degraded: (N, C, H / s, W / s) for a whole s, both in [-1, 1] and of the
    same scene, pixel on pixel; ``size`` is odd and at most ``LARGEST``. Bayesian least squares
    over what the border has not touched. ValueError for sizes that do not fit, another ``size``,
    pictures without detail and pictures of different scenes. ``progress`` may stop it.
    """
    check_photos(clean, 1)
    check_photos(degraded, 1)
    if clean.shape[:2] != degraded.shape[:2]:
        raise ValueError(
            f"there are {len(clean)} clean pictures of {clean.shape[1]} channels and"
            f" {len(degraded)} degraded ones of {degraded.shape[1]}; expected as many of either,"
            " with the same channels"
        )
    if size % 2 == 0 or not 1 <= size <= LARGEST:
        raise ValueError(f"the kernel size is {size}; expected an odd number from 1 to {LARGEST}")
    scale = _scale(clean, degraded)
    pair = clean.float().cpu(), degraded.float().cpu()
    patches, values = progress.during(partial(_rows, *pair, size, scale))
    kernel, noise = _solve(patches, values, size, progress)
    explained = 1 - noise / float(values.double().square().mean())
    if explained < RELATED:
        raise ValueError(
            f"the clean picture explains {max(explained, 0.0):.0%} of the degraded one; expected at"
            f" least {RELATED:.0%}: give two pictures of the same scene that lie on each other, or"
            " a larger kernel for a wider blur"
        )
    gain = float(kernel.sum())
    if not abs(gain) > 1e-3:
        raise ValueError("the pictures have nothing in common; expected two of the same scene")
    kernel = kernel / gain
    t = torch.arange(size, dtype=torch.float64) - size // 2
    # Of an even scale, the pixel that is kept lies half a pixel behind its block's middle.
    middle = 0.0 if scale % 2 else 0.5
    shift = float(kernel.sum(1) @ t) - middle, float(kernel.sum(0) @ t) - middle
    recipe: Recipe = Kernel.from_tensor(kernel)
    if scale > 1:
        recipe = Chain((recipe, NearestDownsample(scale)))
    return Example(recipe, kernel, math.sqrt(noise), scale, shift, gain, explained)
