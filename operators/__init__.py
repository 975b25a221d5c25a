"""Degradations: recipes (plain values), and the operators that they bind to."""

from __future__ import annotations

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
from .linear.linear_operator import LinearOperator
from .mask import Mask
from .measurement import Measurement, simulate
from .motion import MotionBlur
from .nonuniform import NonuniformBlur
from .operator import Operator
from .outpainting import Outpainting
from .recipe import Recipe
from .registry import REGISTRY, TASKS, recipe_for_task, recipe_from_dict
from .rounding import Clip, Quantise
from .sensor import Bayer, Interlace

__all__ = [
    "REGISTRY",
    "TASKS",
    "AnisotropicBlur",
    "AreaDownsample",
    "AveragePool",
    "Bayer",
    "BicubicDownsample",
    "BilinearDownsample",
    "BlockSensing",
    "BoxBlur",
    "Chain",
    "Clip",
    "Colorization",
    "DefocusBlur",
    "GaussianBlur",
    "Identity",
    "Interlace",
    "Jpeg",
    "Kernel",
    "LanczosDownsample",
    "LinearOperator",
    "Mask",
    "Measurement",
    "MotionBlur",
    "NearestDownsample",
    "NonuniformBlur",
    "Operator",
    "Outpainting",
    "Quantise",
    "Recipe",
    "WalshHadamard",
    "recipe_for_task",
    "recipe_from_dict",
    "simulate",
]
