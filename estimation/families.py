"""Kernels of a few numbers, and where to look for them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..operators import DefocusBlur, GaussianBlur, Kernel, Recipe
from ..operators.blurs import disk

Values = tuple[float, ...]


def line(length: float, angle: float) -> Tensor:
    """Kernel (odd, odd), float64, sum 1: a straight motion over ``length`` pixels through the
    middle, ``angle`` degrees counter-clockwise from horizontal, drawn anti-aliased.
    """
    reach = math.ceil(length / 2) + 1
    along = length * torch.linspace(-0.5, 0.5, 2 * math.ceil(8 * length) + 1, dtype=torch.float64)
    turn = math.radians(angle)
    # Rows count downwards, so that up is −y.
    place = torch.stack([-math.sin(turn) * along, math.cos(turn) * along], -1) + reach
    kernel = torch.zeros(2 * reach + 1, 2 * reach + 1, dtype=torch.float64)
    for corner in itertools.product((0, 1), repeat=2):
        cell = place.floor() + torch.tensor(corner)
        weight = (1 - (place - cell).abs()).clamp(0).prod(1)
        rows, columns = cell.long().clamp(0, 2 * reach).unbind(1)
        kernel.index_put_((rows, columns), weight, accumulate=True)
    return kernel / kernel.sum()


def gaussian(sigma: float) -> GaussianBlur:
    """The recipe with room for four deviations."""
    return GaussianBlur(2 * math.ceil(4 * sigma) + 1, round(sigma, 4))


def _gaussian_kernel(sigma: float) -> Tensor:
    taps = gaussian(sigma).taps()
    return taps[:, None] * taps


@dataclass(frozen=True)
class Family:
    """Kernels by some numbers: ``names`` of these, kernel and recipe for them, values to try on
    tiles of n pixels, and values about the best of those.
    """

    names: tuple[str, ...]
    kernel: Callable[..., Tensor]
    recipe: Callable[..., Recipe]
    start: Callable[[int], list[Values]]
    near: Callable[[Values, float], list[Values]]


def _steps(low: float, high: float, ratio: float) -> list[float]:
    count = 1 + math.ceil(math.log(high / low) / math.log(ratio))
    return [low * (high / low) ** (k / (count - 1)) for k in range(count)]


RATIO = 1.15
"""Between neighbouring widths that are tried first."""


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
        ("sigma",),
        _gaussian_kernel,
        gaussian,
        lambda n: [(s,) for s in _steps(0.4, min(10.0, n / 12), RATIO)],
        _around,
    ),
    "defocus": Family(
        ("radius",),
        disk,
        lambda radius: DefocusBlur(round(radius, 4)),
        lambda n: [(r,) for r in _steps(0.7, min(24.0, n / 8), RATIO)],
        _around,
    ),
    "motion": Family(
        ("length", "angle"),
        line,
        lambda length, angle: Kernel.from_tensor(line(length, angle)),
        _lines,
        _lines_around,
    ),
}
"""The kinds of blur that are looked for, by name."""
