"""Entries of the registry of degradations."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .recipe import Recipe


@dataclass(frozen=True)
class Number:
    """The numeric parameter of a task: ``deg_scale`` on the command line.

    meaning: description of the number.
    values: the field of the recipe that it sets, or a function from the number to fields.
    small, large: its default for the built-in model, at about 128 pixels a side, and for large
        models; the latter is the paper's value for the paper's tasks.
    word: what it is called, if that is not the field that it sets.
    """

    meaning: str
    values: str | Callable[[float], dict[str, Any]]
    small: float
    large: float
    word: str = ""

    @property
    def name(self) -> str:
        """What the number is called where its task is known."""
        return self.word or str(self.values)

    def fields(self, number: float) -> dict[str, Any]:
        """Fields of the recipe for ``number``, as keyword arguments."""
        return {self.values: number} if isinstance(self.values, str) else self.values(number)


@dataclass(frozen=True)
class BenchCase:
    """A case of ``flowdps bench``, with parameters for its pictures of 128 x 128 pixels.

    recipe: the degradation, or a function that makes it from the seed of the benchmark.
    assumed_noise: noise level given to the methods when no noise is added, for operators whose
        rounding error acts as noise; None: the noise of the benchmark is added.
    blind: name of the estimator of degradation and noise in blind runs; "": no blind run, as for
        downsampling, whose measurements are too small for a noise estimate.
    paper: whether the case is from the paper; these run by default.
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
    """A picture of the gallery: its caption, and its degradation or a function that makes it."""

    caption: str
    recipe: Recipe | Callable[[], Recipe]

    def make(self) -> Recipe:
        """The degradation."""
        return self.recipe if isinstance(self.recipe, Recipe) else self.recipe()


@dataclass(frozen=True)
class Degradation:
    """A degradation as listed by command line, nodes, benchmark, gallery and documents.

    recipe: its class, whose ``name`` is the name of the task.
    description: what happened to the picture, in a few plain words.
    number: the numeric parameter of the task; None: it has none.
    file: the picture that the recipe is made from, "mask" or "kernel", or the "masks" of all frames
        of a film; "": none.
    bench, gallery: its cases in the benchmark and in the gallery.
    """

    recipe: type[Recipe]
    description: str
    number: Number | None = None
    file: str = ""
    bench: tuple[BenchCase, ...] = ()
    gallery: tuple[GalleryCase, ...] = ()

    @property
    def name(self) -> str:
        """The name of the task: that of the recipe class."""
        return self.recipe.name

    @property
    def seeded(self) -> bool:
        """Whether the recipe has a random seed."""
        return any(field.name == "seed" for field in dataclasses.fields(self.recipe))

    def default(self, *, large: bool) -> float | None:
        """Default of the number, for large models or the built-in one; None: it has no number."""
        if self.number is None:
            return None
        return self.number.large if large else self.number.small

    def make(self, number: float | None = None, *, seed: int = 0) -> Recipe:
        """The recipe of the task for its ``number``; None: the defaults of the recipe class.

        ``seed`` is used by random degradations only. ValueError for values out of range.
        """
        values: dict[str, Any] = {"seed": seed} if self.seeded else {}
        if number is not None and self.number is not None:
            values.update(self.number.fields(number))
        return self.recipe(**values)
