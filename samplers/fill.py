"""Smooth filling of what a measurement does not show."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def filled(x: Tensor, known: Tensor) -> Tensor:
    """Images x (N, C, H, W), replaced by a smooth surface as far as they are not known.

    ``known`` (1 or N, C, H, W) from 0 to 1 is how far. Averages of ever larger blocks, of what is
    known in them, are enlarged again, and each fills what the finer one leaves open (Gortler et
    al., The Lumigraph, 1996: push and pull). Where nothing is known anywhere, the result is 0.
    """
    known = known.expand_as(x)
    levels = [(x * known, known)]
    while max(levels[-1][0].shape[-2:]) > 1:
        levels.append(_halved(*levels[-1]))
    total, weight = levels.pop()
    surface = _mean(total, weight)
    for total, weight in reversed(levels):
        size = (total.shape[-2], total.shape[-1])
        surface = F.interpolate(surface, size, mode="bilinear")
        surface = torch.lerp(surface, _mean(total, weight), weight)
    return surface


def _halved(total: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Both in blocks of 2 x 2: sums where the block is little known, weighted means at most."""
    sides = (0, total.shape[-1] % 2, 0, total.shape[-2] % 2)
    total, weight = (4 * F.avg_pool2d(F.pad(a, sides), 2) for a in (total, weight))
    most = weight.clamp(min=1)
    return total / most, weight / most


def _mean(total: Tensor, weight: Tensor) -> Tensor:
    return torch.where(weight > 0, total / weight.clamp(min=1e-12), 0.0)
