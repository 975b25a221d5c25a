"""Degradations: recipes (plain values), and the linear operators that they bind to."""

from __future__ import annotations

from typing import Any

from .average_pool import AveragePool
from .base import LinearOperator, Recipe
from .bicubic import BicubicDownsample
from .chain import Chain
from .gaussian import GaussianBlur
from .identity import Identity
from .measurement import Measurement, simulate
from .motion import MotionBlur
from .operator import Operator

REGISTRY: dict[str, type[Recipe]] = {
    cls.name: cls for cls in (AveragePool, BicubicDownsample, GaussianBlur, MotionBlur, Identity)
}
TASKS = tuple(REGISTRY)
"""Task names of the paper's command line."""


def _lookup(name: str) -> type[Recipe]:
    if name not in REGISTRY:
        raise ValueError(f"unknown task {name!r}; expected one of {', '.join(REGISTRY)}")
    return REGISTRY[name]


def recipe_for_task(task: str, deg_scale: float | None = None, *, seed: int = 0) -> Recipe:
    """The recipe of a task as in the paper's command line.

    ``deg_scale`` is the scale factor of super-resolution and the kernel size of blurs (None: the
    recipe's default), ``seed`` draws the motion kernel. ValueError names what is wrong.
    """
    cls: Any = _lookup(task)
    if cls is Identity:
        return Identity()
    values: dict[str, Any] = {"seed": seed} if cls is MotionBlur else {}
    if deg_scale is not None:
        values["size" if cls in (GaussianBlur, MotionBlur) else "scale"] = deg_scale
    return cls(**values)


def recipe_from_dict(values: dict[str, Any]) -> Recipe:
    """Inverse of ``Recipe.to_dict``; ValueError for an unknown operator or parameter."""
    rest = {k: v for k, v in values.items() if k != "operator"}
    if values.get("operator") == Chain.name:
        return Chain(tuple(recipe_from_dict(each) for each in rest.get("recipes", ())))
    cls: Any = _lookup(str(values.get("operator")))
    try:
        return cls(**rest)
    except TypeError as error:
        raise ValueError(f"cannot read the operator {values}: {error}") from error


__all__ = [
    "REGISTRY",
    "TASKS",
    "AveragePool",
    "BicubicDownsample",
    "Chain",
    "GaussianBlur",
    "Identity",
    "LinearOperator",
    "Measurement",
    "MotionBlur",
    "Operator",
    "Recipe",
    "recipe_for_task",
    "recipe_from_dict",
    "simulate",
]
