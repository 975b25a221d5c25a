"""How much smaller a photo could be without losing detail, as one that was enlarged."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import check_photo

SCALES = (8, 6, 4, 3, 2)
SIDE = 16
"""Side in pixels of the blocks that are judged."""
DETAILED = 0.1
"""Share of the blocks that are looked at: those with the most contrast."""
EMPTY = 0.03
"""Part of the contrast of such a block that is finer than a smaller photo could show, up to which
it is taken for empty."""
LOOKED_AT = 512
"""Side in pixels of the middle part that is looked at."""


def _energy(plane: Tensor) -> Tensor:
    return F.avg_pool2d(plane[None, None], SIDE).flatten()


@torch.no_grad()
def could_be_smaller(x: Tensor) -> int:
    """By which of ``SCALES`` one photo x (1, C, H, W) in [-1, 1] could be smaller without losing
    detail; 1: by none.

    Detail is lost where the part of the contrast, root mean square, that a smaller photo cannot
    hold is more than ``EMPTY``: the median over the blocks of most contrast, which is about 0.2 for
    a sharp photo and half its size. ValueError below 48 pixels a side.
    """
    check_photo(x, 48)
    top, left = (max(0, n - LOOKED_AT) // 2 for n in x.shape[2:])
    grey = x[..., top : top + LOOKED_AT, left : left + LOOKED_AT].detach().float().cpu().mean(1)[0]
    contrast = (_energy(grey.square()) - _energy(grey).square()).clamp(min=0)
    most = contrast.topk(max(1, int(DETAILED * len(contrast)))).indices
    if not float(contrast[most].min()):
        return 1
    # Mirrored, so that opposite sides agree.
    whole = torch.cat([grey, grey.flip(0)])
    whole = torch.cat([whole, whole.flip(1)], 1)
    spectrum = torch.fft.rfft2(whole)
    down = torch.fft.fftfreq(whole.shape[0])[:, None].abs()
    highest = torch.maximum(down, torch.fft.rfftfreq(whole.shape[1])[None])
    for scale in SCALES:
        lost = torch.fft.irfft2(spectrum * (highest > 0.5 / scale), whole.shape)
        lost = _energy(lost[: grey.shape[0], : grey.shape[1]].square())
        if float((lost[most] / contrast[most]).median().sqrt()) < EMPTY:
            return scale
    return 1
