"""Whether a photo is interlaced: whether its lines come from two instants in turn."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import check_photo

SIDE = 16
"""Side in pixels of the blocks that are judged."""
LEAST = 0.03
"""Root mean square difference between neighbouring lines below which a block tells nothing: about
four of 255 grey levels."""
MORE = 2.0
"""A block is combed where neighbouring lines differ by so many times more, in energy, than lines
two apart. For white noise, the two are equal; for nearly all else, the latter is larger."""


def _combed(grey: Tensor) -> Tensor:
    """Which of its blocks are combed along the last axis but one: bool, of grey (H, W)."""
    near, far = grey[1:] - grey[:-1], grey[2:] - grey[:-2]
    height = len(far) // SIDE * SIDE
    one, two = (F.avg_pool2d(each[None, :height].square(), SIDE)[0] for each in (near, far))
    return (one > MORE * two) & (one > LEAST**2)


@torch.no_grad()
def combed(x: Tensor) -> float:
    """Which part of one photo x (1, C, H, W) in [-1, 1] is combed as of interlaced video.

    That is the share of its 16 x 16 blocks in which neighbouring lines differ far more than lines
    two apart, less the share of those in which columns do, as in fabrics. ValueError below 48
    pixels a side.
    """
    check_photo(x, 48)
    grey = x.detach().float().cpu().mean(1)[0]
    lines, columns = (float(_combed(each).float().mean()) for each in (grey, grey.T))
    return max(0.0, lines - columns)
