"""Inputs and outputs that the degradation nodes share."""
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Sequence

import torch
from comfy_api.latest import io
from torch import Tensor

from ..operators.recipe import BOUNDARIES
from ..restoration.diagnosis import EFFORTS, STRENGTHS
from .kit import ADVANCED, Operator

SEED = {"min": 0, "max": 0xFFFFFFFF, "control_after_generate": False}


def before() -> io.Input:
    return Operator.Input(
        "operator",
        optional=True,
        tooltip="A degradation that happened before this one, such as a blur before shrinking."
        " Nothing connected: this is the only one.",
    )


def scale() -> io.Input:
    return io.Int.Input(
        "scale",
        default=4,
        min=1,
        max=64,
        tooltip="How many times smaller each side became. 1 shrinks nothing; 2 needs little new"
        " detail; 12 and more leave almost everything to the model.",
    )


def sampling_seed(tooltip: str) -> io.Input:
    """The seed of a sampler, which the host may change after every run."""
    return io.Int.Input(
        "seed",
        default=0,
        min=0,
        max=0xFFFFFFFFFFFFFFFF,
        control_after_generate=True,
        tooltip=tooltip,
    )


def effort(default: str) -> io.Input:
    """How much work a node does that decides by itself."""
    return io.Combo.Input(
        "effort",
        options=list(EFFORTS),
        default=default,
        tooltip="fast: a third of the work; normal; thorough: twice the work, and a little better.",
    )


def strength(found: str, *, optional: bool = False) -> io.Input:
    """How much a node repairs of what it found; ``found`` says what "as found" is."""
    return io.Combo.Input(
        "strength",
        options=list(STRENGTHS),
        default="as found",
        optional=optional,
        tooltip="How much is repaired. gentle: leaves some grain and softness; as found:"
        f" {found}; strong: smoother and sharper.",
        **(ADVANCED if optional else {}),
    )


def _share(name: str, tooltip: str, optional: bool) -> io.Input:
    """A number from 0 to 1, in the middle unless it is given."""
    return io.Float.Input(
        name,
        default=0.5,
        min=0.0,
        max=1.0,
        step=0.05,
        optional=optional,
        tooltip=tooltip,
        **(ADVANCED if optional else {}),
    )


def invent(tooltip: str, *, optional: bool = False) -> io.Input:
    """How much a node invents, from 0 to 1."""
    return _share("invent", tooltip, optional)


def sensitivity(tooltip: str, *, optional: bool = False) -> io.Input:
    """Of the search for scratches."""
    return _share("sensitivity", tooltip, optional)


def boundary() -> io.Input:
    return io.Combo.Input(
        "boundary",
        options=list(BOUNDARIES),
        default="symmetric",
        tooltip="What the blur sees beyond the border. symmetric: the picture mirrored, right for"
        " photos. periodic: the picture repeated, right for textures that tile.",
        **ADVANCED,
    )


def output() -> io.Output:
    return Operator.Output(
        display_name="operator",
        tooltip="The degradation, for Encode Measurement or another degradation node.",
    )


def kernel_output(tooltip: str) -> io.Output:
    return io.Image.Output(display_name="kernel", tooltip=tooltip)


def kernel_picture(*kernels: Tensor) -> Tensor:
    """Kernels (h, w) of odd or equal sides as an IMAGE; the brightest tap of each is white.

    All are padded to the size of the largest one, around the same centre.
    """
    return torch.cat([_padded(kernel, kernels) for kernel in kernels])


def _padded(kernel: Tensor, kernels: Sequence[Tensor]) -> Tensor:
    height, width = (max(each.shape[axis] for each in kernels) for axis in (0, 1))
    picture = torch.zeros(height, width)
    top, left = height // 2 - kernel.shape[0] // 2, width // 2 - kernel.shape[1] // 2
    kernel = (kernel / kernel.max()).clamp(0, 1)
    picture[top : top + kernel.shape[0], left : left + kernel.shape[1]] = kernel
    return picture[None, ..., None].repeat(1, 1, 1, 3)
