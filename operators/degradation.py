"""What a row of the registry says about one degradation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .recipe import Recipe


@dataclass(frozen=True)
class Number:
    """The one number that a task takes: ``deg_scale`` on the command line.

    meaning: what it says, in words.
    values: the field of the recipe that it sets, or a function from the number to fields.
    small, large: its default for the built-in model, on pictures of about 128 pixels, and for large
        models: that of the paper, for the paper's tasks.
    """

    meaning: str
    values: str | Callable[[float], dict[str, Any]]
    small: float
    large: float

    def fields(self, number: float) -> dict[str, Any]:
        """The recipe's fields that ``number`` sets."""
        return {self.values: number} if isinstance(self.values, str) else self.values(number)


@dataclass(frozen=True)
class BenchCase:
    """A case of ``flowdps bench``, at a size that suits its pictures of 128 x 128 pixels.

    recipe: the degradation, or a function that makes it from the seed of the benchmark.
    assumed_noise: the noise level that methods are told where no noise is added, because what the
        operator rounds is its noise; None: the benchmark's noise is added.
    blind: name of the estimator with which a blind run finds the degradation and its noise; "":
        there is no blind run, as for shrunk pictures, which are too small to tell their noise.
    paper: whether the case is one of the paper's, which run unless others are named.
    """

    name: str
    recipe: Recipe | Callable[[int], Recipe]
    assumed_noise: float | None = None
    blind: str = ""
    paper: bool = False

    def make(self, seed: int) -> Recipe:
        """The degradation for ``seed``."""
        return self.recipe if isinstance(self.recipe, Recipe) else self.recipe(seed)


@dataclass(frozen=True)
class GalleryCase:
    """A picture of the gallery: its caption, and the degradation or a function that makes it."""

    caption: str
    recipe: Recipe | Callable[[], Recipe]

    def make(self) -> Recipe:
        """The degradation."""
        return self.recipe if isinstance(self.recipe, Recipe) else self.recipe()


@dataclass(frozen=True)
class Degradation:
    """A degradation as command line, nodes, benchmark, gallery and documents know it.

    recipe: its class, whose ``name`` is the name of the task.
    description: what happened to the picture, in a few plain words.
    number: the number that the task takes; None: it takes none.
    file: what the recipe is made from where no number says it, "mask" or "kernel": a picture.
    bench, gallery: its cases there.
    """

    recipe: type[Recipe]
    description: str
    number: Number | None = None
    file: str = ""
    bench: tuple[BenchCase, ...] = ()
    gallery: tuple[GalleryCase, ...] = ()

    @property
    def name(self) -> str:
        """The name of the task, which is the recipe's."""
        return self.recipe.name

    @property
    def seeded(self) -> bool:
        """Whether the recipe draws something from a seed."""
        return any(field.name == "seed" for field in dataclasses.fields(self.recipe))

    def default(self, *, large: bool) -> float | None:
        """The usual number for a large model or for the built-in one; None: it takes none."""
        if self.number is None:
            return None
        return self.number.large if large else self.number.small

    def make(self, number: float | None = None, *, seed: int = 0) -> Recipe:
        """The recipe of the task for its ``number``; None: the recipe's own defaults.

        ``seed`` draws what is random. ValueError names what is wrong.
        """
        values: dict[str, Any] = {"seed": seed} if self.seeded else {}
        if number is not None and self.number is not None:
            values.update(self.number.fields(number))
        return self.recipe(**values)
