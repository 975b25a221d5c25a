"""Small spots of a photo that may be dust, and what is measured there."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .ridges import CELL, deviation, surroundings

RAYS = 16
RADII = torch.arange(1, 9)
"""Distances in pixels from the middle of a spot at which it is sampled."""
AROUND = 5
"""The distance from which on there is background."""
FAINTEST = 0.03
"""Brightness, of 2 in all, by which a spot stands out at least, over 3 by 3 pixels."""
MARGIN = 8 * CELL
"""What is found at a pixel depends on so many around it, at most."""
CHUNK = 16384


@dataclass
class Spots:
    """``at`` (N, 2), rows and columns; ``features`` (N, K); and how far each spot reaches in
    each of ``RAYS`` directions, in pixels, (N, RAYS)."""

    at: Tensor
    features: Tensor
    reach: Tensor


def rays() -> tuple[Tensor, Tensor]:
    """Pixels down and to the right at every distance of every ray, (RAYS, len(RADII)) each."""
    angle = torch.arange(RAYS)[:, None] * (2 * math.pi / RAYS)
    return (angle.sin() * RADII).round().long(), (angle.cos() * RADII).round().long()


def _measured(x: Tensor, grey: Tensor, texture: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """Features (N, K) and reaches (N, RAYS) of the spots at ``at``."""
    height, width = grey.shape
    down, right = rays()
    y = (at[:, :1, None] + down).clamp(0, height - 1)
    z = (at[:, 1:, None] + right).clamp(0, width - 1)
    around, centre = grey.take(y * width + z), grey[at[:, 0], at[:, 1]]
    ring = around[:, :, AROUND - 1 :].flatten(1)
    ground = ring.median(1).values
    contrast = centre - ground
    scale = contrast.clamp(min=0.02)
    relative = (around - ground[:, None, None]) / scale[:, None, None]
    reach = (relative > 0.5).int().cumprod(2).sum(2)
    inner = x[:, at[:, 0], at[:, 1]]
    outer = x[:, y[:, :, AROUND], z[:, :, AROUND]].mean(2)
    change = inner - outer
    nearby = texture[at[:, 0], at[:, 1]]
    single = [
        (0.01 + scale).log(),
        (0.005 + scale).log() - (0.005 + nearby).log(),
        (0.005 + nearby).log(),
        (0.005 + deviation(ring)).log(),
        (centre - ring.amax(1)) / scale,
        (ring.amax(1) - ring.amin(1)) / scale,
        centre,
        reach.float().mean(1),
        deviation(reach.float()),
        inner.amax(0) - inner.amin(0),
        outer.amax(0) - outer.amin(0),
        (change.amax(0) - change.amin(0)) / scale,
    ]
    features = [torch.stack(single, 1), relative.mean(1), deviation(relative), relative.amax(1)]
    return torch.cat(features, 1).clamp(-8, 8), reach


def find_spots(x: Tensor, within: slice) -> Spots:
    """The bright spots in the rows ``within`` of x (C, H, W)."""
    grey = x.mean(0)
    soft = F.avg_pool2d(F.pad(grey[None, None], [1] * 4, mode="replicate"), 3, 1)[0, 0]
    highest = F.max_pool2d(F.max_pool2d(soft[None], (5, 1), 1, (2, 0)), (1, 5), 1, (0, 2))[0]
    texture = surroundings((grey - soft).abs())
    wide = F.avg_pool2d(soft[None, None], 2 * AROUND + 1, CELL, AROUND, True, False)[0, 0]
    ground = wide.repeat_interleave(CELL, 0).repeat_interleave(CELL, 1)
    ground = ground[: soft.shape[0], : soft.shape[1]]
    likely = (soft == highest) & (soft - ground > FAINTEST)
    likely[: within.start] = False
    likely[within.stop :] = False
    at = likely.nonzero()
    pieces = [_measured(x, grey, texture, a) for a in at.split(CHUNK)]
    features, reach = (torch.cat([piece[k] for piece in pieces]) for k in (0, 1))
    return Spots(at, features, reach)
