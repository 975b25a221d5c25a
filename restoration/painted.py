"""Masks and kernels from the pictures in which people paint them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..operators import Kernel, Mask
from ..operators.kernel import light_on_black, on_black, trimmed
from . import images

ONE_COLOUR = 0.1
"""Range, from 0 to 1, within which paint has one colour."""
JPEG_NOISE = 4 / 255
"""Grey that the compression of a black ground leaves."""


def mask_in(file: Path) -> tuple[Mask, list[str]]:
    """The mask painted in ``file``, and how it was understood.

    White is unknown. On a transparent ground, paint of one colour is; in a picture with
    transparent parts, as ComfyUI's mask editor saves it, these are. ValueError, in one sentence,
    for a file that cannot be read, and for a mask that calls nothing or everything unknown.
    """
    painted, alpha, notes = _read(file)
    if alpha is not None:
        shades = painted[:, alpha > 0.5]
        if not shades.numel():
            raise ValueError(
                f"{file} is transparent everywhere; expected white where it is unknown"
            )
        if bool((shades.amax(1) - shades.amin(1) <= ONE_COLOUR).all()):
            grey, told = alpha, "what is painted on the transparent ground is unknown"
        elif bool(((shades < ONE_COLOUR) | (shades > 1 - ONE_COLOUR)).all()):
            grey, told = painted.mean(0) * alpha, "white is unknown, transparent parts are known"
        else:
            grey, told = 1 - alpha, "its transparent parts are unknown"
        notes.append(f"mask: {told}")
    else:
        grey = painted.mean(0)
    try:
        mask = Mask.from_painted(grey)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    unknown = float((mask.mask() == 0).double().mean())
    if unknown > 0.5:
        notes.append(
            f"mask: {unknown:.0%} of the picture is unknown; if it shows what to keep, invert it"
        )
    return mask, notes


def kernel_in(file: Path) -> tuple[Kernel, list[str]]:
    """The kernel painted in ``file``, and how it was understood.

    White on black or on a transparent ground, or dark paint on a light or transparent one.
    ValueError, in one sentence, for a file that cannot be read, and for one flat area.
    """
    painted, alpha, notes = _read(file)
    grey = painted.mean(0)
    if alpha is not None:
        grey = on_black(grey, alpha)
        notes.append("kernel: the transparent ground is taken as black")
    try:
        kernel, told = light_on_black(grey)
        recipe = Kernel.from_tensor(trimmed(kernel))
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    return recipe, [*notes, *([told] if told else [])]


def _read(file: Path) -> tuple[Tensor, Tensor | None, list[str]]:
    """Colours (3, H, W) from 0 to 1 as they were painted, how opaque (H, W), and notes."""
    picture = images.read(file, 1)
    painted, alpha = (picture.pixels[0] + 1) / 2, picture.alpha
    if alpha is not None:
        # From paint on white back to the paint itself.
        seen = (painted - (1 - alpha)) / alpha.clamp(min=1 / 255)
        painted = torch.where(alpha > 0, seen.clamp(0, 1), 0.0)
    if picture.content.startswith(b"\xff\xd8"):
        painted = torch.where(painted.mean(0) < JPEG_NOISE, 0.0, painted)
    dull = ("alpha composited", "converted to RGB", "16-bit grey")
    return (
        painted,
        alpha,
        [f"{file.name}: {n}" for n in picture.notes if not any(d in n for d in dull)],
    )
