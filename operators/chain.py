"""Composition of several degradations."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from .operator import Cycle, Operator, Shape, cycle_of
from .recipe import Recipe


def _check_order(before: list[Recipe], recipe: Recipe) -> None:
    """ValueError unless ``recipe`` can damage what ``before`` makes of a picture in colour."""
    channels = 3
    for each in before:
        channels = each.channels(channels)
    if not channels:
        raise ValueError(
            f"{before[-1].name} measures numbers and no picture, so that {recipe.name} cannot"
            f" follow it: put {before[-1].name} last"
        )
    if channels != 3:
        try:
            recipe.channels(channels)
        except ValueError as error:
            raise ValueError(
                f"{recipe.name} needs a picture in colour, and what comes before it leaves"
                f" {channels} channel: leave one of the two out"
            ) from error


@dataclasses.dataclass(frozen=True)
class Chain(Recipe):
    """``recipes`` applied in order, such as a blur and then downsampling; nested chains are
    flattened.

    Linear if all of them are, with iterative pseudo-inverse and prox. ValueError for an empty
    chain, and for one in which an operator cannot follow those before it.
    """

    recipes: tuple[Recipe, ...]
    name: ClassVar[str] = "chain"

    def __post_init__(self) -> None:
        flat: list[Recipe] = []
        for recipe in self.recipes:
            flat += recipe.recipes if isinstance(recipe, Chain) else [recipe]
        if not flat:
            raise ValueError("the chain has no operators; expected at least one")
        for k in range(1, len(flat)):
            _check_order(flat[:k], flat[k])
        object.__setattr__(self, "recipes", tuple(flat))

    @property
    def cycle(self) -> Cycle | None:
        found: Cycle | None = None
        for recipe in self.recipes:
            found = cycle_of(found, recipe.cycle)
        return found

    @property
    def stride(self) -> int:
        return math.prod(recipe.stride for recipe in self.recipes)

    def _bind(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> Operator:
        operator = self.recipes[0].bind(shape, device, dtype)
        for recipe in self.recipes[1:]:
            operator = recipe.bind(operator.out_shape, device, dtype) @ operator
        return operator

    def channels(self, given: int) -> int:
        for recipe in self.recipes:
            given = recipe.channels(given)
        return given

    def measured_size(self, height: int, width: int) -> tuple[int, int]:
        for recipe in self.recipes:
            height, width = recipe.measured_size(height, width)
        return height, width

    def image_size(self, height: int, width: int) -> tuple[int, int]:
        for recipe in reversed(self.recipes):
            height, width = recipe.image_size(height, width)
        return height, width

    def for_padding(
        self, size: tuple[int, int], padded: tuple[int, int], multiple: int = 1
    ) -> Recipe:
        parts = []
        for k, recipe in enumerate(self.recipes):
            later = multiple * math.prod(each.stride for each in self.recipes[k + 1 :])
            parts.append(recipe.for_padding(size, padded, later))
            size, padded = recipe.measured_size(*size), parts[-1].measured_size(*padded)
        return Chain(tuple(parts))

    def from_photo(self, photo: Tensor) -> Tensor:
        for recipe in self.recipes[:-1]:
            photo = recipe.from_photo(photo) if recipe.partial else photo
        return self.recipes[-1].from_photo(photo)

    def to_dict(self) -> dict[str, Any]:
        return {"operator": self.name, "recipes": [r.to_dict() for r in self.recipes]}
