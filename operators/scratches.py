"""Synthetic scratches, as masks for inpainting."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .recipe import positive_integer


def scratches(
    height: int, width: int, *, count: int = 12, thickness: float = 2.0, seed: int = 0
) -> Tensor:
    """A mask of ``count`` slightly curved scratches, float32 (height, width): 1 on them, else 0.

    Every scratch is ``thickness`` pixels wide, between one third and the whole of the diagonal
    long, and has a random position and direction, drawn from ``seed``. ValueError for a size or
    count below 1, or a thickness that is not positive.
    """
    height, width = positive_integer(height, "the height"), positive_integer(width, "the width")
    count = positive_integer(count, "the number of scratches")
    if not (math.isfinite(thickness) and thickness > 0):
        raise ValueError(f"the thickness is {thickness}; expected a positive number of pixels")
    generator = torch.Generator().manual_seed(seed)
    diagonal = math.hypot(height, width)
    y = torch.arange(height, dtype=torch.float32)[:, None]
    x = torch.arange(width, dtype=torch.float32)
    mask = torch.zeros(height, width)
    for _ in range(count):
        u = torch.rand(5, generator=generator, dtype=torch.float64).tolist()
        down, right = height * u[0], width * u[1]
        angle = math.pi * u[2]
        half = diagonal * (1 + 2 * u[3]) / 6
        bend = 0.2 * (2 * u[4] - 1) / half
        # Coordinates along and across the scratch, which is a parabola through its middle.
        along = math.cos(angle) * (x - right) + math.sin(angle) * (y - down)
        beside = math.cos(angle) * (y - down) - math.sin(angle) * (x - right)
        slope = 2 * bend * along
        away = (beside - bend * along.square()).abs() / (1 + slope.square()).sqrt()
        mask[(along.abs() <= half) & (away <= thickness / 2)] = 1
    return mask
