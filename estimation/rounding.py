"""Estimate how much a JPEG's compression removed."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from ..operators.jpeg import Jpeg
from .checks import check_photos
from .progress import SILENT, Progress

CLEAREST = 0.004
"""Half a step of 8 bits; no JPEG loses less."""
UNIT = 16
"""Rows of the largest block of a JPEG, that of halved colours."""
STRIP = 200_000
"""Pixels that are compressed at once."""


@torch.no_grad()
def rounded_away(recipe: Jpeg, y: Tensor, progress: Progress = SILENT) -> float:
    """Root mean square of what compression by ``recipe`` removed from images that became y
    (N, C, H, W), in [-1, 1] as y.

    Compressed again with its blocks shifted by half their width, a JPEG loses about as much as the
    original did (after Nosratinia 2001). ValueError for sides below 16 pixels. ``progress`` may
    stop it.
    """
    check_photos(y, 16)
    # In the orientation of the file, whose first block starts in its top left corner.
    moved = recipe.stored(y.detach().float().cpu())[..., 4:, 4:]
    recipe = dataclasses.replace(recipe, orientation=1, inside=None)
    rows = max(UNIT, STRIP // moved.shape[3] // UNIT * UNIT)
    lost, strips = 0.0, [strip for x in moved.split(1) for strip in x.split(rows, 2)]
    for k, strip in enumerate(strips):
        progress(k / len(strips))
        apart = recipe.bind(tuple(strip.shape[1:])).A(strip) - strip
        lost += float(apart.double().square().sum())
    return max(math.sqrt(lost / moved.numel()), CLEAREST)
