"""Pixels of a photo that may lie on the middle of a thin line, and what is measured there.

A line is looked for in ``ANGLES`` directions, brighter than both its sides. Its pixels are then
described in coordinates that follow it, so that what is learned of one direction holds for all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .progress import SILENT, Progress

ANGLES = 16
REACH = 7
"""Half the length in pixels of the lines along which brightness is averaged."""
SIDE = 3
"""Distance in pixels from the middle of a line to what is compared with it."""
CELL = 4
"""Side in pixels of the squares for which texture is told."""
TEXTURE = 9 * CELL
"""Width in pixels of the neighbourhood whose texture a line is compared with."""
ALONG = torch.arange(-10, 11)
"""Where a line is sampled, in pixels along it."""
ACROSS = torch.arange(-6, 7)
"""Where its profile is sampled, in pixels beside its middle."""
MARGIN = 10 * CELL
"""What is found at a pixel depends on so many around it, at most."""
FAINTEST = 0.02
"""Brightness, of 2 in all, by which a line stands out at least."""
RELATIVE = 2.0
"""The same as a part of the texture around it."""
CHUNK = 8192


@dataclass
class Ridges:
    """Pixels of lines: ``at`` (N, 2) rows and columns, ``angle`` (N,) in radians, and what was
    measured, ``features`` (N, K)."""

    at: Tensor
    angle: Tensor
    features: Tensor


def _lines() -> Tensor:
    """Kernels (ANGLES, 1, S, S), with sum 1, of soft lines through the middle."""
    down = torch.arange(-REACH, REACH + 1.0)[:, None]
    right = torch.arange(-REACH, REACH + 1.0)
    kernels = []
    for k in range(ANGLES):
        angle = math.pi * k / ANGLES
        along = math.cos(angle) * right + math.sin(angle) * down
        across = math.cos(angle) * down - math.sin(angle) * right
        kernel = torch.exp(-across.square() / 1.2) * (REACH + 0.5 - along.abs()).clamp(0, 1)
        kernels.append(kernel / kernel.sum())
    return torch.stack(kernels)[:, None]


def _beside(angle: Tensor, distance: float) -> tuple[Tensor, Tensor]:
    """Whole pixels down and to the right of a line by ``distance``."""
    down = (distance * angle.cos()).round().long()
    return down, (-distance * angle.sin()).round().long()


def _line_means(grey: Tensor) -> Tensor:
    """Means of (H, W) along the lines through each pixel and ``SIDE`` beyond its edges:
    (ANGLES, H + 2 SIDE, W + 2 SIDE)."""
    padded = F.pad(grey[None, None], [REACH + SIDE] * 4, mode="replicate")
    return F.conv2d(padded, _lines())[0]


def _scores(means: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """By how much the lines of ``_line_means`` are brighter than both sides, (ANGLES, H, W); the
    most of that, (H, W), and its direction's number, (H, W)."""
    height, width = (n - 2 * SIDE for n in means.shape[1:])
    scores = torch.empty(ANGLES, height, width)
    best = torch.full((height, width), -math.inf)
    best_at = torch.zeros(height, width, dtype=torch.uint8)
    for k, mean in enumerate(means):
        y, x = (int(n) for n in _beside(torch.tensor(math.pi * k / ANGLES), SIDE))
        one = mean[SIDE + y : SIDE + y + height, SIDE + x : SIDE + x + width]
        other = mean[SIDE - y : SIDE - y + height, SIDE - x : SIDE - x + width]
        middle = mean[SIDE : SIDE + height, SIDE : SIDE + width]
        torch.sub(middle, torch.maximum(one, other), out=scores[k])
        best_at.masked_fill_(scores[k] > best, k)
        torch.maximum(best, scores[k], out=best)
    return scores, best, best_at


def surroundings(x: Tensor) -> Tensor:
    """Means of x (H, W) over about ``TEXTURE`` pixels around, the same for each ``CELL``: coarser
    than pixel by pixel, and much faster."""
    cells = F.avg_pool2d(x[None, None], CELL, ceil_mode=True)
    reach = min(TEXTURE // CELL // 2, min(cells.shape[2:]) - 1)
    cells = F.avg_pool2d(F.pad(cells, [reach] * 4, mode="reflect"), 2 * reach + 1, 1)[0, 0]
    repeated = cells.repeat_interleave(CELL, 0).repeat_interleave(CELL, 1)
    return repeated[: x.shape[0], : x.shape[1]]


def sample(planes: Tensor, at: Tensor, angle: Tensor, along: Tensor, across: Tensor) -> Tensor:
    """Nearest pixels of planes (C, H, W) along lines through ``at``: (C, N, U, V)."""
    height, width = planes.shape[1:]
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    u, v = along[:, None].float(), across.float()
    down = (at[:, :1, None] + (sin * u + cos * v)).round_().clamp_(0, height - 1)
    right = (at[:, 1:, None] + (cos * u - sin * v)).round_().clamp_(0, width - 1)
    # In single precision, whole numbers are exact up to 2**24: many more than a band's pixels.
    index = down.mul_(width).add_(right).long()
    return planes.flatten(1).index_select(1, index.flatten()).unflatten(1, index.shape)


def deviation(x: Tensor) -> Tensor:
    """Standard deviations of x (N, K, ...) over its second axis; no warning where N is 0."""
    away = x - x.mean(1, keepdim=True)
    return (away.square().sum(1) / (x.shape[1] - 1)).sqrt()


def _measured(x: Tensor, grey: Tensor, at: Tensor, angle: Tensor, seen: Tensor) -> Tensor:
    """The features (N, K) of lines; ``seen`` (N, 3): score, score across the line, texture."""
    bright = sample(grey[None], at, angle, ALONG, ACROSS)[0]
    middle = bright[:, :, 5:8].mean(2)
    left, right = bright[:, :, 1:4].mean(2), bright[:, :, 9:12].mean(2)
    step = middle - (left + right) / 2
    least = middle - torch.maximum(left, right)
    contrast = step.mean(1)
    scale = contrast.abs() + 0.02
    profile = bright.mean(1)
    one, other = profile[:, :6].flip(1), profile[:, 7:]
    rough = (left.diff(dim=1).abs().mean(1) + right.diff(dim=1).abs().mean(1)) / 2
    centre = middle.mean(1)
    score, across, texture = seen.unbind(1)
    spread = (deviation(left) + deviation(right)) / 2
    rises = [
        ((one + other) / 2 - profile[:, 6:7]) / scale[:, None],
        (one - other).abs() / scale[:, None],
    ]
    colours = sample(x, at, angle, ALONG[::2], torch.tensor([-4, -1, 0, 1, 4])).mean(2)
    inner, outer = colours[:, :, 1:4].mean(2), (colours[..., 0] + colours[..., 4]) / 2
    change = inner - outer
    lengths = step.unflatten(1, (3, 7)).mean(2)
    single = [
        (0.01 + contrast.clamp(min=0)).log(),
        least.mean(1) / scale,
        (least > 0).float().mean(1),
        (least > 0.5 * contrast[:, None]).float().mean(1),
        deviation(step) / scale,
        lengths.amin(1) / scale,
        lengths.amax(1) / scale,
        (left.mean(1) - right.mean(1)).abs() / scale,
        (left - right).abs().mean(1) / scale,
        spread / scale,
        (0.01 + spread).log(),
        (0.01 + rough).log(),
        rough / scale,
        (0.005 + score).log() - (0.005 + texture).log(),
        (0.005 + texture).log(),
        across / (score.abs() + 0.005),
        centre,
        deviation(middle) / scale,
        ((0.01 + deviation(middle)) / (0.01 + spread)).log(),
        bright[:, :, 6].diff(dim=1).abs().mean(1) / scale,
        inner.amax(0) - inner.amin(0),
        outer.amax(0) - outer.amin(0),
        (change.amax(0) - change.amin(0)) / scale,
    ]
    features = torch.cat([torch.stack(single, 1), *rises], 1)
    return features.clamp(-8, 8)


def _found(x: Tensor, grey: Tensor, means: Tensor, within: slice, progress: Progress) -> Ridges:
    scores, best, best_at = _scores(means)
    progress()
    texture = surroundings(best.clamp(min=0))
    likely = (best > FAINTEST) & (best > RELATIVE * texture)
    likely[: within.start] = False
    likely[within.stop :] = False
    at = likely.nonzero()
    height, width = grey.shape
    index, score = best_at[likely].long(), best[likely]
    # Only the middle of a line, not what lies beside it.
    down, right = _beside(index * (math.pi / ANGLES), 1.0)
    peak = torch.ones(len(at), dtype=torch.bool)
    for side in (1, -1):
        y = (at[:, 0] + side * down).clamp(0, height - 1)
        z = (at[:, 1] + side * right).clamp(0, width - 1)
        peak &= scores[index, y, z] <= score
    at, index, score = at[peak], index[peak], score[peak]
    across, before, after = (
        scores[(index + k) % ANGLES, at[:, 0], at[:, 1]] for k in (ANGLES // 2, -1, 1)
    )
    # Between the directions, by a parabola through the three best.
    bend = (2 * score - before - after).clamp(min=1e-4)
    angle = (index + ((after - before) / 2 / bend).clamp(-0.5, 0.5)) * (math.pi / ANGLES)
    seen = torch.stack([score, across, texture[at[:, 0], at[:, 1]]], 1)
    pieces = []
    for a, b, c in zip(at.split(CHUNK), angle.split(CHUNK), seen.split(CHUNK), strict=True):
        progress()
        pieces.append(_measured(x, grey, a, b, c))
    return Ridges(at, angle, torch.cat(pieces))


def find_ridges(x: Tensor, within: slice, progress: Progress = SILENT) -> tuple[Ridges, Ridges]:
    """The bright lines in the rows ``within`` of x (C, H, W), and the dark ones.

    What is said of the dark ones is what would be said of bright ones in -x.
    """
    grey = x.mean(0)
    means = _line_means(grey)
    progress()
    bright = _found(x, grey, means, within, progress)
    dark = _found(-x, -grey, -means, within, progress)
    return bright, dark
