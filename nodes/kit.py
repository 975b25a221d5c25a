"""What the nodes share: socket types, schemas for both generations of the host, images."""
# pyright: reportMissingImports=false

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..operators import Chain, Recipe
from ..operators.observation import Observation

CATEGORY = "FlowDPS"
Operator = io.Custom("FLOWDPS_OPERATOR")
"""A ``Recipe``."""
MeasurementSocket = io.Custom("FLOWDPS_MEASUREMENT")
"""An ``Observation``."""

_KNOWN = {field.name for field in dataclasses.fields(io.Schema)}


def schema(node_id: str, **values: Any) -> io.Schema:
    """A schema in our category, without the fields that an older host does not know."""
    values.setdefault("category", CATEGORY)
    return io.Schema(
        node_id=f"FlowDPS_{node_id}", **{k: v for k, v in values.items() if k in _KNOWN}
    )


def complaint(check: Callable[[Any], None], value: Any) -> bool | str:
    """The result of a node's validation: True, or the message with which ``check`` fails.

    None stands for a value that another node will give, and is not checked here.
    """
    try:
        if value is not None:
            check(value)
    except ValueError as error:
        return str(error)
    return True


_KINDS: dict[str, Callable[[Any], bool]] = {
    "model": lambda value: hasattr(value, "model"),
    "vae": lambda value: hasattr(value, "spacial_compression_decode"),
    "conditioning": lambda value: isinstance(value, list),
    "measurement": lambda value: isinstance(value, Observation),
    "operator": lambda value: isinstance(value, Recipe),
}


def connected(**sockets: Any) -> None:
    """ValueError for an input, named after its kind, that holds something else: programs write
    workflows in which a number stands where a connection belongs, and the host passes it on.
    """
    for name, value in sockets.items():
        kind = name.rpartition("_")[2]
        if value is not None and not _KINDS[kind](value):
            raise ValueError(
                f"the {name.replace('_', ' ')} is {str(value)[:40]!r}; expected a connection to an"
                f" output of a node that gives a {kind}"
            )


def to_images(image: Tensor, what: str = "image") -> Tensor:
    """The host's IMAGE (N, H, W, C) in [0, 1] as float32 (N, 3, H, W) in [-1, 1].

    Grey becomes RGB and alpha is dropped. ValueError for NaN or infinite values.
    """
    if not isinstance(image, Tensor):
        raise ValueError(
            f"the {what} is {str(image)[:40]!r}; expected a connection to an output of a node that"
            " gives an image"
        )
    if image.ndim != 4 or image.shape[-1] not in (1, 3, 4):
        raise ValueError(
            f"the {what} has shape {tuple(image.shape)}; expected (N, height, width, 3)"
        )
    if not math.isfinite(float(image.float().sum())):
        raise ValueError(
            f"the {what} holds NaN or infinite values; expected numbers from 0 to 1: look at the"
            " node that made it"
        )
    x = image[..., :3].float().movedim(-1, 1).cpu()
    return x.expand(-1, 3, -1, -1).contiguous() * 2 - 1


def only(tensor: Tensor, what: str) -> Tensor:
    """The only item of ``tensor`` (N, ...); ValueError where there are several different ones."""
    if not len(tensor) or (len(tensor) > 1 and not bool((tensor == tensor[:1]).all())):
        raise ValueError(
            f"there are {len(tensor)} {what}s; expected one, which serves all pictures of a batch"
        )
    return tensor[0]


def from_images(x: Tensor) -> Tensor:
    """(N, 3, H, W) in [-1, 1] as the host's IMAGE, clamped to [0, 1]."""
    return ((x.float().cpu() + 1) / 2).clamp(0, 1).movedim(1, -1).contiguous()


def chained(recipe: Recipe, before: Recipe | None) -> Recipe:
    """The degradation ``before``, where there is one, followed by ``recipe``."""
    connected(operator=before)
    return recipe if before is None else Chain((before, recipe))
