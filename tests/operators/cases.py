"""A recipe or more of every degradation, small enough for dense matrices."""

from __future__ import annotations

import torch
from comfyui_flowdps.operators import (
    AnisotropicBlur,
    AreaDownsample,
    AveragePool,
    Bayer,
    BicubicDownsample,
    BilinearDownsample,
    BlockSensing,
    BoxBlur,
    Clip,
    Colorization,
    DefocusBlur,
    GaussianBlur,
    Identity,
    Interlace,
    Jpeg,
    Kernel,
    LanczosDownsample,
    Mask,
    MotionBlur,
    NearestDownsample,
    NonuniformBlur,
    Outpainting,
    Quantise,
    Recipe,
    WalshHadamard,
)
from comfyui_flowdps.operators.grey import REC601

CASES: dict[str, Recipe] = {
    "pool3": AveragePool(3),
    "pool2": AveragePool(2),
    "bicubic2": BicubicDownsample(2),
    "bicubic3": BicubicDownsample(3),
    "gauss": GaussianBlur(5, sigma=0.8),
    "gauss-periodic": GaussianBlur(5, sigma=0.8, boundary="periodic"),
    "gauss-wide": GaussianBlur(31, sigma=3.0),
    "motion5": MotionBlur(5, seed=3),
    "motion-even": MotionBlur(6, seed=1),
    "motion-periodic": MotionBlur(7, seed=2, boundary="periodic"),
    "identity": Identity(),
    "lanczos2": LanczosDownsample(2),
    "lanczos3-points": LanczosDownsample(3, antialias=False),
    "bilinear3": BilinearDownsample(3),
    "bilinear2-points": BilinearDownsample(2, antialias=False),
    "area3": AreaDownsample(3),
    "nearest2": NearestDownsample(2),
    "nearest3": NearestDownsample(3),
    "box3": BoxBlur(3),
    "box-even": BoxBlur(4, boundary="periodic"),
    "aniso": AnisotropicBlur(5, along=0.9, across=0.4, angle=30),
    "aniso-periodic": AnisotropicBlur(7, along=1.2, across=0.5, angle=70, boundary="periodic"),
    "defocus": DefocusBlur(0.8),
    "defocus-periodic": DefocusBlur(2.3, boundary="periodic"),
    "kernel": Kernel.from_tensor(torch.tensor([[0.1, 0.7], [-0.2, 0.3], [0.0, 0.1]])),
    "nonuniform": NonuniformBlur("defocus", size=3, count=3),
    "nonuniform-motion": NonuniformBlur("motion", size=3, count=2, seed=4),
    "mask": Mask.from_tensor(torch.tensor([[1, 0, 1], [0, 1, 1], [1, 1, 0]])),
    "mask-weights": Mask.from_tensor(torch.tensor([[1, 0.4], [0.0, 0.8], [0.2, 1]])),
    "outpainting": Outpainting(1, 0, 2, 3),
    "colorization": Colorization(),
    "colorization-601": Colorization(REC601),
    "interlace-top": Interlace("top"),
    "interlace-bottom": Interlace("bottom"),
    "bayer": Bayer("RGGB"),
    "bayer-gbrg": Bayer("GBRG"),
    "hadamard": WalshHadamard(0.5, seed=3),
    "blocks": BlockSensing(0.5, block=3, seed=2),
    "jpeg": Jpeg(20),
    "jpeg-fine": Jpeg(90, "4:4:4"),
    "jpeg-tables": Jpeg(luma=(9,) * 64, chroma=(30,) * 64),
    "quantise": Quantise(),
    "clip": Clip(),
}
"""Cases of the tests that every operator has to pass, by a name; most pictures have 2 to 5 pixels a
side. One for each kind of parameter that matters."""


def channels(recipe: Recipe) -> int:
    """2 channels, or 3 where a recipe takes colours only."""
    height, width = recipe.image_size(8 * recipe.stride, 8 * recipe.stride)
    try:
        recipe.bind((2, height, width))
    except ValueError:
        return 3
    return 2


def shape_of(recipe: Recipe, size: tuple[int, int]) -> tuple[int, int, int]:
    """Shape of an image whose measurement has ``size``, or so many blocks."""
    height, width = recipe.image_size(*size)
    if recipe.image_size(1, 1) == (1, 1):
        height, width = height * recipe.stride, width * recipe.stride
    return channels(recipe), height, width


def is_linear(recipe: Recipe) -> bool:
    """Whether its operator is linear."""
    return recipe.bind(shape_of(recipe, (8, 8))).linear


LINEAR = {name: recipe for name, recipe in CASES.items() if is_linear(recipe)}
NONLINEAR = {name: recipe for name, recipe in CASES.items() if name not in LINEAR}
