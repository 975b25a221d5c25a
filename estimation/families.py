"""Families of blur kernels with few parameters, and the parameters to try."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..operators import DefocusBlur, GaussianBlur, Kernel, Recipe
from ..operators.blurs import disk, line

Values = tuple[float, ...]


def gaussian(sigma: float) -> GaussianBlur:
    """A Gaussian blur whose kernel reaches four standard deviations."""
    return GaussianBlur(2 * math.ceil(4 * sigma) + 1, round(sigma, 4))


def _gaussian_kernel(sigma: float) -> Tensor:
    taps = gaussian(sigma).taps()
    return taps[:, None] * taps


@dataclass(frozen=True)
class Family:
    """Kernels that a few numbers define.

    about: the family in plain words. names: of the numbers. kernel, recipe: for given numbers.
    start: the numbers to try on tiles of n pixels. near: numbers around the best of those.
    """

    about: str
    names: tuple[str, ...]
    kernel: Callable[..., Tensor]
    recipe: Callable[..., Recipe]
    start: Callable[[int], list[Values]]
    near: Callable[[Values, float], list[Values]]


def _steps(low: float, high: float, ratio: float) -> list[float]:
    count = 1 + math.ceil(math.log(high / low) / math.log(ratio))
    return [low * (high / low) ** (k / (count - 1)) for k in range(count)]


RATIO = 1.15
"""Ratio of neighbouring widths on the first grid."""


def _around(values: Values, part: float) -> list[Values]:
    return [(values[0] * RATIO ** (part * k / 4),) for k in range(-4, 5)]


def _lines(n: int) -> list[Values]:
    return [
        (length, angle)
        for length in _steps(2.5, n / 3.2, RATIO)
        for angle in torch.linspace(0, 180, 1 + max(12, round(length)))[:-1].tolist()
    ]


def _lines_around(values: Values, part: float) -> list[Values]:
    length, angle = values
    step = part * min(15.0, 180 / length)
    return [
        (length * RATIO ** (part * k / 2), (angle + step * j / 3) % 180)
        for k in range(-3, 4)
        for j in range(-3, 4)
    ]


FAMILIES: dict[str, Family] = {
    "gaussian": Family(
        "soft (Gaussian)",
        ("sigma",),
        _gaussian_kernel,
        gaussian,
        lambda n: [(s,) for s in _steps(0.4, min(10.0, n / 12), RATIO)],
        _around,
    ),
    "defocus": Family(
        "a lens out of focus (a disk)",
        ("radius",),
        disk,
        lambda radius: DefocusBlur(round(radius, 4)),
        lambda n: [(r,) for r in _steps(0.7, min(24.0, n / 8), RATIO)],
        _around,
    ),
    "motion": Family(
        "a straight motion",
        ("length", "angle"),
        line,
        lambda length, angle: Kernel.from_tensor(line(length, angle)),
        _lines,
        _lines_around,
    ),
}
"""The families, by name."""
