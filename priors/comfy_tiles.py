"""Cropping of ComfyUI's spatial conditioning to one tile.

Uses the host's objects by their attributes only, without importing the host.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import Tensor

from .gradients.inference_mode import without_inference_mode
from .tiling import Tile

Resize = Callable[[Tensor, int, int, str], Tensor]
"""Resize function of the host: (picture, width, height, name of the algorithm) to a tensor."""


def _is_spatial(value: Any, tile: Tile) -> bool:
    return isinstance(value, Tensor) and tuple(value.shape[-2:]) == tile.whole


def cut_area(area: tuple[int, ...], tile: Tile) -> tuple[int, ...] | None:
    """An area (..., h, w, ..., y, x) in cells, cropped to ``tile``; None if they do not overlap."""
    axes = len(area) // 2
    cut = list(area)
    for axis, first, length in ((-2, tile.top, tile.height), (-1, tile.left, tile.width)):
        size, start = axes + axis, 2 * axes + axis
        begin, end = area[start], area[start] + area[size]
        begin, end = max(begin, first), min(end, first + length)
        if end <= begin:
            return None
        cut[size], cut[start] = end - begin, begin - first
    return tuple(cut)


def cut_condition(condition: dict[str, Any], tile: Tile) -> dict[str, Any] | None:
    """A condition cropped to ``tile``; None if its area does not overlap the tile.

    Tensors of the latents' size are cropped: masks, and inputs concatenated with the latents.
    """
    cut = dict(condition)
    if "area" in cut:
        cut["area"] = cut_area(cut["area"], tile)
        if cut["area"] is None:
            return None
    if _is_spatial(cut.get("mask"), tile):
        cut["mask"] = tile.of(cut["mask"])
    if "model_conds" in cut:
        cut["model_conds"] = {
            name: each._copy_with(tile.of(each.cond))
            if _is_spatial(getattr(each, "cond", None), tile) and each.cond.ndim >= 4
            else each
            for name, each in cut["model_conds"].items()
        }
    return cut


def cut_conditions(groups: dict[str, Any], tile: Tile) -> dict[str, Any]:
    """The conditions of a guider, cropped to ``tile``."""
    return {
        name: group
        if group is None
        else [cut for each in group if (cut := cut_condition(each, tile)) is not None]
        for name, group in groups.items()
    }


def is_placed(groups: dict[str, Any], cells: tuple[int, int]) -> bool:
    """Whether any condition of a guider depends on the position in latents of ``cells``."""
    whole = Tile(0, 0, *cells, cells)
    for condition in (each for group in groups.values() for each in group or ()):
        if any(condition.get(name) is not None for name in ("control", "area", "mask", "gligen")):
            return True
        inputs = (condition.get("model_conds") or {}).values()
        if any(_is_spatial(getattr(each, "cond", None), whole) for each in inputs):
            return True
    return False


def controls_of(groups: dict[str, Any]) -> list[Any]:
    """All control networks of a guider's conditions, chained ones included, without duplicates."""
    found: dict[int, Any] = {}
    for condition in (each for group in groups.values() for each in group or ()):
        control = condition.get("control")
        while control is not None and id(control) not in found:
            found[id(control)] = control
            control = control.previous_controlnet
    return list(found.values())


class Hints:
    """The hint pictures of control networks, cropped to a tile at a time.

    Hints that a network encodes with an autoencoder are cached per tile.
    """

    def __init__(self, resize: Resize):
        self._resize = resize
        self._whole: dict[tuple[int, int], Tensor] = {}
        self._made: dict[tuple[int, Tile], Any] = {}

    def _cut(self, control: Any, which: int, picture: Tensor, tile: Tile, unit: int) -> Tensor:
        """``picture``, resized to the whole image as the host does and cropped to ``tile``;
        ``unit`` is in pixels of the picture per latent cell."""
        height, width = (n * unit for n in tile.whole)
        if tuple(picture.shape[-2:]) != (height, width):
            key = (id(control), which)
            if key not in self._whole:
                algorithm = control.upscale_algorithm
                self._whole[key] = self._resize(picture, width, height, algorithm)
            picture = self._whole[key]
        return tile.of(picture, unit)

    @contextlib.contextmanager
    def within(self, controls: Iterable[Any], tile: Tile) -> Iterator[None]:
        """Context in which the hints of ``controls`` are cropped to ``tile``."""
        names = ("cond_hint_original", "cond_hint", "extra_concat_orig")
        held: list[tuple[Any, dict[str, Any]]] = []
        try:
            for control in controls:
                if getattr(control, "cond_hint_original", None) is None:
                    continue
                values = {name: getattr(control, name) for name in names if hasattr(control, name)}
                held.append((control, values))
                ratio = control.compression_ratio
                vae = getattr(control, "vae", None)
                unit = ratio * (1 if vae is None else int(vae.spacial_compression_encode()))
                picture = control.cond_hint_original
                control.cond_hint_original = self._cut(control, -1, picture, tile, unit)
                control.cond_hint = self._made.get((id(control), tile))
                more = getattr(control, "extra_concat_orig", None)
                if more:
                    control.extra_concat_orig = [
                        self._cut(control, k, each, tile, ratio) for k, each in enumerate(more)
                    ]
            yield
            for control, _ in held:
                if getattr(control, "vae", None) is not None and control.cond_hint is not None:
                    self._made.setdefault(
                        (id(control), tile), without_inference_mode(control.cond_hint)
                    )
        finally:
            for control, values in held:
                for name, value in values.items():
                    setattr(control, name, value)
