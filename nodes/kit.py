"""What the nodes share: socket types, schemas for both generations of the host, images."""
# pyright: reportMissingImports=false

from __future__ import annotations

import dataclasses
import enum
import inspect
import logging
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from comfy_api.latest import io
from torch import Tensor

from ..operators import Chain, Recipe
from ..operators.observation import Observation

log = logging.getLogger(__name__)


class Folder(enum.Enum):
    """Where a node stands in the host's menu."""

    TOP = "FlowDPS"
    LOAD = "FlowDPS/Load"
    DEGRADATION = "FlowDPS/Degradation"
    ESTIMATE = "FlowDPS/Estimate"
    SAMPLE = "FlowDPS/Sample"
    DETAIL = "FlowDPS/Detail"
    FILM = "FlowDPS/Film"
    CHECK = "FlowDPS/Check"
    ADVANCED = "FlowDPS/Advanced"


Operator = io.Custom("FLOWDPS_OPERATOR")
"""A ``Recipe``."""
MeasurementSocket = io.Custom("FLOWDPS_MEASUREMENT")
"""An ``Observation``."""

_KNOWN = {field.name for field in dataclasses.fields(io.Schema)}
ADVANCED: dict[str, Any] = (
    {"advanced": True} if "advanced" in inspect.signature(io.Int.Input).parameters else {}
)
"""What declares a widget that is folded away at first, on hosts that know such widgets."""


def schema(node_id: str, folder: Folder, **values: Any) -> io.Schema:
    """A schema in a folder of the menu, without the fields that an older host does not know."""
    known = {key: value for key, value in values.items() if key in _KNOWN}
    return io.Schema(node_id=f"FlowDPS_{node_id}", category=folder.value, **known)


def telling(given: io.Input, **values: Any) -> io.Input:
    """The input, of which the host tells the editor these values as well."""
    if hasattr(given, "extra_dict"):
        given.extra_dict = {**(given.extra_dict or {}), **values}
    return given


def complaint(check: Callable[[Any], object], value: Any) -> bool | str:
    """The result of a node's validation: True, or the message with which ``check`` fails.

    None stands for a value that another node will give, and is not checked here.
    """
    try:
        if value is not None:
            check(value)
    except ValueError as error:
        return str(error)
    return True


def check_own(value: Any, kind: type, what: str) -> None:
    """ValueError, by name and version, for what was made by another copy of this pack."""
    if isinstance(value, kind):
        return
    ours, theirs = (module.split(".")[0] for module in (__name__, type(value).__module__))
    if ours == theirs or kind.__name__ not in (base.__name__ for base in type(value).__mro__):
        raise ValueError(_unconnected(what, value))
    raise ValueError(
        f"the {what} comes from another copy of this pack ({_copy(theirs)}; this is"
        f" {_copy(ours)}): keep only one of them in custom_nodes, and restart ComfyUI"
    )


def _copy(package: str) -> str:
    """Folder and version of the copy of this pack that was imported as ``package``."""
    module = sys.modules.get(package)
    folder = Path(getattr(module, "__file__", None) or package).resolve().parent.name
    return f"{folder} {getattr(module, '__version__', 'of unknown version')}"


_OWN = {"measurement": Observation, "operator": Recipe}
_KINDS: dict[str, Callable[[Any], bool]] = {
    "model": lambda value: hasattr(value, "model"),
    "vae": lambda value: hasattr(value, "spacial_compression_decode"),
    "conditioning": lambda value: isinstance(value, list),
}


def _unconnected(what: str, value: Any, kind: str = "") -> str:
    kind = kind or what.split()[-1]
    return (
        f"the {what} is {str(value)[:40]!r}; expected a connection to an output of a node that"
        f" gives {'an' if kind[0] in 'aeiou' else 'a'} {kind}"
    )


def connected(**sockets: Any) -> None:
    """ValueError for an input, named after its kind, that holds something else: programs write
    workflows in which a number stands where a connection belongs, and the host passes it on; or
    what another copy of this pack made. None is allowed.
    """
    for name, value in sockets.items():
        what, kind = name.replace("_", " "), name.rpartition("_")[2]
        if value is None:
            continue
        if kind in _OWN:
            check_own(value, _OWN[kind], what)
        elif not _KINDS[kind](value):
            raise ValueError(_unconnected(what, value))


def required(**sockets: Any) -> None:
    """``connected``; ValueError also for None, which programs write where nothing is connected."""
    for name, value in sockets.items():
        if value is None:
            raise ValueError(_unconnected(name.replace("_", " "), value))
    connected(**sockets)


def opaque(image: Tensor, what: str) -> Tensor:
    """An IMAGE without transparency: transparent parts are put on white, and the log says so."""
    if image.shape[-1] != 4 or not bool((image[..., 3:] < 1).any()):
        return image
    log.warning("the transparent parts of the %s are put on white", what)
    alpha = image[..., 3:].float().clamp(0, 1)
    return alpha * image[..., :3].float() + (1 - alpha)


def to_images(image: Tensor, what: str = "image", *, ground: bool = True) -> Tensor:
    """The host's IMAGE (N, H, W, C) in [0, 1] as float32 (N, 3, H, W) in [-1, 1].

    Grey becomes RGB. Transparent parts are put on white, as the command does, and the log says so;
    without ``ground``, their colours are taken as they are. ValueError for another layout, an empty
    batch, and NaN or infinite values.
    """
    numbers(image, what, "image")
    if image.ndim != 4 or image.shape[-1] not in (1, 3, 4):
        raise ValueError(
            f"the {what} is no picture of 1, 3 or 4 channels (its numbers are"
            f" {' x '.join(map(str, image.shape))}): connect an IMAGE, such as that of Load Image"
        )
    if not image.numel():
        raise ValueError(
            f"the {what} holds no picture: look at the node that made it, which passes on an empty"
            " batch"
        )
    if not math.isfinite(float(image.float().sum())):
        raise ValueError(
            f"the {what} holds NaN or infinite values; expected numbers from 0 to 1: look at the"
            " node that made it"
        )
    x = (opaque(image, what) if ground else image)[..., :3].float().movedim(-1, 1).cpu()
    return x.expand(-1, 3, -1, -1).contiguous() * 2 - 1


def numbers(value: Any, what: str, kind: str) -> Tensor:
    """``value``, a tensor that is ``what``; ValueError for anything else, as of ``connected``."""
    if not isinstance(value, Tensor):
        raise ValueError(_unconnected(what, value, kind))
    return value


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


def side_by_side(before: Tensor, after: Tensor) -> Tensor:
    """IMAGE of the photos, enlarged to the results' size, left of the results (N, H, W, C).

    The results are as many as the photos, or all of them several times over.
    """
    seen = F.interpolate(before.movedim(-1, 1), after.shape[1:3], mode="nearest-exact")
    return torch.cat([seen.movedim(1, -1).repeat(len(after) // len(seen), 1, 1, 1), after], 2)
