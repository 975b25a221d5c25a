"""Estimate how much a JPEG's compression removed."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from ..operators.jpeg import Jpeg
from .checks import check_photos

CLEAREST = 0.004
"""Half a step of 8 bits; no JPEG loses less."""


@torch.no_grad()
def rounded_away(recipe: Jpeg, y: Tensor) -> float:
    """Root mean square of what compression by ``recipe`` removed from images that became y
    (N, C, H, W), in [-1, 1] as y.

    Compressed again with its blocks shifted by half their width, a JPEG loses about as much as the
    original did (after Nosratinia 2001). ValueError for sides below 16 pixels.
    """
    check_photos(y, 16)
    # In the orientation of the file, whose first block starts in its top left corner.
    moved = recipe.stored(y.detach().float().cpu())[..., 4:, 4:]
    recipe = dataclasses.replace(recipe, orientation=1, inside=None)
    lost = recipe.bind(tuple(moved.shape[1:])).A(moved) - moved
    return max(float(lost.square().mean().sqrt()), CLEAREST)
