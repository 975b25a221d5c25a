"""Every kind of degradation by its name, and recipes from plain values."""

from __future__ import annotations

from typing import Any

from .average_pool import AveragePool
from .base import Recipe
from .bicubic import BicubicDownsample
from .blocks import BlockSensing
from .chain import Chain
from .gaussian import GaussianBlur
from .grey import Colorization
from .hadamard import WalshHadamard
from .identity import Identity
from .jpeg import Jpeg
from .kernel import Kernel
from .kernels import AnisotropicBlur, BoxBlur, DefocusBlur
from .mask import Mask
from .motion import MotionBlur
from .nonuniform import NonuniformBlur
from .outpainting import Outpainting
from .resample import (
    AreaDownsample,
    BilinearDownsample,
    LanczosDownsample,
    NearestDownsample,
)
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
