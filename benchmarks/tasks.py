"""The tasks of ``flowdps bench``: the cases of the registry, those of the paper first."""

from __future__ import annotations

from torch import Tensor

from ..estimation.registry import ESTIMATORS, Photo, estimate
from ..operators import Recipe
from ..operators.degradation import BenchCase
from ..operators.registry import DEGRADATIONS

_CASES = [case for row in DEGRADATIONS for case in row.bench]
TASKS: dict[str, BenchCase] = {
    case.name: case for case in sorted(_CASES, key=lambda case: not case.paper)
}
"""Every case by its name."""
PAPER = [case.name for case in _CASES if case.paper]
"""The tasks in the README's table."""
KERNEL_SIZE = 19
"""Width in pixels of the free kernels that a blind run estimates."""


def found_in(y: Tensor, case: BenchCase, seed: int) -> tuple[Recipe, float]:
    """Degradation and noise of ``case`` as its estimator finds them in a measurement (1, C, h, w).

    An estimator of the noise alone is given the true degradation.
    """
    found = estimate(case.blind, Photo(y, kernel_size=KERNEL_SIZE))
    known = not ESTIMATORS[case.blind].place
    return case.make(seed) if known else found.recipe, found.noise_level
