"""Random scenes that resemble photos, from a seed."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor


@lru_cache
def _leaves(side: int, seed: int) -> Tensor:
    """(1, 3, side, side) in [-1, 1]: disks that cover each other, scale-free as natural scenes are
    (Lee, Mumford and Huang 2001).
    """
    g = torch.Generator().manual_seed(seed)
    n = 2 * side
    x, t = torch.zeros(3, n, n), torch.arange(n)
    free = torch.ones(n, n, dtype=torch.bool)
    small, large = 4.0, side / 1.5
    while bool(free.any()):
        u = torch.rand(6, generator=g)
        radius = 1 / math.sqrt(u[0] * (large**-2 - small**-2) + small**-2)
        (top, bottom), (left, right) = (
            (max(0, int(n * c - radius)), int(n * c + radius) + 1) for c in u[1:3].tolist()
        )
        at = (slice(top, bottom), slice(left, right))
        away = (t[at[0], None] - n * u[1]) ** 2 + (t[at[1]] - n * u[2]) ** 2
        here = free[at] & (away <= radius**2)
        x[:, at[0], at[1]][:, here] = (1.6 * u[3:] - 0.8)[:, None]
        free[at] &= ~here
    return F.avg_pool2d(x[None], 2)


def dead_leaves(side: int, seed: int) -> Tensor:
    """A copy of ``_leaves``, to change."""
    return _leaves(side, seed).clone()


def texture(side: int, seed: int, power: float = 2.5) -> Tensor:
    """(1, 3, side, side), grey: Gaussian noise; its spectrum falls with ``power``; flat nowhere."""
    g = torch.Generator().manual_seed(7919 + seed)
    f = torch.hypot(torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side))
    f[0, 0] = math.inf
    spectrum = torch.fft.rfft2(torch.randn(side, side, generator=g)) * f ** (-power / 2)
    x = torch.fft.irfft2(spectrum, s=(side, side))
    return (0.3 * x / x.std()).expand(1, 3, -1, -1).clone()


def noisy(x: Tensor, level: float, seed: int) -> Tensor:
    """``x`` with white noise of that standard deviation."""
    return x + level * torch.randn(x.shape, generator=torch.Generator().manual_seed(104_729 + seed))
