"""How much compression took from a JPEG, from what it left."""

from __future__ import annotations

import torch
from torch import Tensor

from ..operators.jpeg import Jpeg

CLEAREST = 0.004
"""Half a step of 8 bits: no JPEG took less."""


@torch.no_grad()
def rounded_away(recipe: Jpeg, y: Tensor) -> float:
    """Root mean square of what compression by ``recipe`` took from images, whose remains are y
    (N, C, H, W) in [-1, 1]: in the same unit.

    Compressed again with its blocks moved by half their width, a JPEG loses about as much as the
    original lost (after Nosratinia 2001). ValueError for sides below 16 pixels.
    """
    if y.ndim != 4 or min(y.shape[2:]) < 16:
        raise ValueError(
            f"the image has shape {tuple(y.shape)}; expected (N, C, H, W), both sides at least 16"
        )
    moved = y.detach().float().cpu()[..., 4:, 4:]
    lost = recipe.bind(tuple(moved.shape[1:])).A(moved) - moved
    return max(float(lost.square().mean().sqrt()), CLEAREST)
