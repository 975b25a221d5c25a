"""What ``flowdps bench`` measures: the cases of the registry, those of the paper first."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..estimation.blur import estimate_blur
from ..estimation.free import free_kernel
from ..estimation.noise import overall_noise
from ..operators import Kernel, Recipe
from ..operators.degradation import BenchCase
from ..operators.registry import DEGRADATIONS

_CASES = [case for row in DEGRADATIONS for case in row.bench]
TASKS: dict[str, BenchCase] = {
    case.name: case for case in sorted(_CASES, key=lambda case: not case.paper)
}
"""Every case by its name."""
PAPER = [case.name for case in _CASES if case.paper]
"""What the README's table shows."""


def blur_of(y: Tensor, _: Recipe) -> tuple[Recipe, float]:
    """The blur of one of the known families, and the noise."""
    found = estimate_blur(y)
    return found.recipe, found.noise_level


def shake_of(y: Tensor, _: Recipe) -> tuple[Recipe, float]:
    """A blur of any shape, and the noise."""
    return Kernel.from_tensor(free_kernel(y, 19)), overall_noise(y)


def noise_of(y: Tensor, recipe: Recipe) -> tuple[Recipe, float]:
    """The noise alone; the degradation is known."""
    return recipe, overall_noise(y)


ESTIMATORS: dict[str, Callable[[Tensor, Recipe], tuple[Recipe, float]]] = {
    "blur": blur_of,
    "free": shake_of,
    "noise": noise_of,
}
"""What a measurement (1, C, h, w) tells of its degradation and its noise, by the name in a case.

Shrunk pictures of 128 pixels are too small to tell their noise.
"""
