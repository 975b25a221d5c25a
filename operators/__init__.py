"""Degradations: recipes (plain values), and the operators that they bind to."""

from __future__ import annotations

from .average_pool import AveragePool
from .base import LinearOperator, Recipe
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
from .measurement import Measurement, simulate
from .motion import MotionBlur
from .nonuniform import NonuniformBlur
from .operator import Operator
from .outpainting import Outpainting
from .registry import REGISTRY, recipe_from_dict
from .resample import (
    AreaDownsample,
    BilinearDownsample,
    LanczosDownsample,
    NearestDownsample,
)
from .rounding import Clip, Quantise
from .sensor import Bayer, Interlace
from .tasks import TASKS, recipe_for_task

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
