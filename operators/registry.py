"""Every kind of degradation by its name, and recipes from plain values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .blocks import BlockSensing
from .blurs import AnisotropicBlur, BoxBlur, DefocusBlur, GaussianBlur
from .chain import Chain
from .downsampling import (
    AreaDownsample,
    AveragePool,
    BicubicDownsample,
    BilinearDownsample,
    LanczosDownsample,
    NearestDownsample,
)
from .grey import Colorization
from .hadamard import WalshHadamard
from .identity import Identity
from .jpeg import Jpeg
from .kernel import Kernel
from .mask import Mask
from .motion import MotionBlur
from .nonuniform import NonuniformBlur
from .outpainting import Outpainting
from .recipe import Recipe
from .rounding import Clip, Quantise
from .sensor import Bayer, Interlace

REGISTRY: dict[str, type[Recipe]] = {
    cls.name: cls
    for cls in (
        AveragePool,
        BicubicDownsample,
        LanczosDownsample,
        BilinearDownsample,
        AreaDownsample,
        NearestDownsample,
        GaussianBlur,
        MotionBlur,
        BoxBlur,
        AnisotropicBlur,
        DefocusBlur,
        Kernel,
        NonuniformBlur,
        Mask,
        Outpainting,
        Colorization,
        Interlace,
        Bayer,
        WalshHadamard,
        BlockSensing,
        Jpeg,
        Quantise,
        Clip,
        Identity,
    )
}
"""Every kind of degradation, by the name in ``to_dict``."""


def lookup(name: str, names: tuple[str, ...]) -> type[Recipe]:
    """The recipe's class; ValueError for a name that is not one of ``names``."""
    if name not in names:
        raise ValueError(f"unknown task {name!r}; expected one of {', '.join(names)}")
    return REGISTRY[name]


def recipe_from_dict(values: dict[str, Any]) -> Recipe:
    """Inverse of ``Recipe.to_dict``; ValueError for an unknown operator or parameter."""
    rest = {k: v for k, v in values.items() if k != "operator"}
    if values.get("operator") == Chain.name:
        return Chain(tuple(recipe_from_dict(each) for each in rest.get("recipes", ())))
    cls: Any = lookup(str(values.get("operator")), tuple(REGISTRY))
    try:
        return cls(**rest)
    except TypeError as error:
        raise ValueError(f"cannot read the operator {values}: {error}") from error


def _named(field: str) -> Callable[[float], dict[str, Any]]:
    return lambda value: {field: value}


def _margins(value: float) -> dict[str, Any]:
    return dict.fromkeys(("left", "top", "right", "bottom"), value)


def _ratio(value: float) -> dict[str, Any]:
    if not value >= 1:
        raise ValueError(f"deg_scale is {value}; expected how many times fewer numbers to keep")
    return {"ratio": 1 / value}


# What the number of a task on the command line means; None: nothing.
_DEG_SCALE: dict[str, Callable[[float], dict[str, Any]] | None] = {
    **{name: _named("scale") for name in REGISTRY if name.startswith("sr_")},
    **dict.fromkeys(
        ("deblur_gauss", "deblur_motion", "deblur_uni", "deblur_aniso"), _named("size")
    ),
    "deblur_defocus": _named("radius"),
    "deblur_nonuniform": _named("size"),
    "outpainting": _margins,
    "colorization": None,
    "interlace": None,
    "bayer": None,
    "cs_walshhadamard": _ratio,
    "cs_blockbased": _ratio,
    "jpeg": _named("quality"),
    "quantise": _named("levels"),
    "clip": None,
    "identity": None,
}
TASKS = tuple(_DEG_SCALE)
"""Task names of the command line: the paper's, and all others that need no mask or kernel."""
_SEEDED = ("deblur_motion", "deblur_nonuniform", "cs_walshhadamard", "cs_blockbased")


def recipe_for_task(task: str, deg_scale: float | None = None, *, seed: int = 0) -> Recipe:
    """The recipe of a task as in the paper's command line.

    ``deg_scale`` is the scale factor of super-resolution, the kernel size of blurs (the radius of
    ``deblur_defocus``), the margins of outpainting, how many times fewer numbers compressed sensing
    keeps, the quality of jpeg, the levels of quantise (None: the recipe's default), and ignored by
    the rest; ``seed`` draws what is random. ValueError names what is wrong.
    """
    cls: Any = lookup(task, TASKS)
    values: dict[str, Any] = {"seed": seed} if task in _SEEDED else {}
    meaning = _DEG_SCALE[task]
    if deg_scale is not None and meaning is not None:
        values.update(meaning(deg_scale))
    return cls(**values)
