"""Several degradations in a row."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import torch

from .base import LinearOperator, Recipe, Shape


@dataclasses.dataclass(frozen=True)
class Chain(Recipe):
    """``recipes`` one after another, the first one first: blur, then shrink.

    Its pseudo-inverse and prox are iterative. ValueError for an empty chain.
    """

    recipes: tuple[Recipe, ...]
    name: ClassVar[str] = "chain"

    def __post_init__(self) -> None:
        flat: list[Recipe] = []
        for recipe in self.recipes:
            flat += recipe.recipes if isinstance(recipe, Chain) else [recipe]
        if not flat:
            raise ValueError("the chain has no operators; expected at least one")
        object.__setattr__(self, "recipes", tuple(flat))

    @property
    def stride(self) -> int:
        return math.prod(recipe.stride for recipe in self.recipes)

    def _bind(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> LinearOperator:
        operator = self.recipes[0].bind(shape, device, dtype)
        for recipe in self.recipes[1:]:
            operator = recipe.bind(operator.out_shape, device, dtype) @ operator
        return operator

    def to_dict(self) -> dict[str, Any]:
        return {"operator": self.name, "recipes": [r.to_dict() for r in self.recipes]}
