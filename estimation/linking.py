"""How well the pixels of a line go on, as a slightly curved line, to both sides of each."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .progress import SILENT, Progress
from .ridges import CELL

FAR = 40
"""Pixels to each side in which a line is followed."""
STEPS = torch.arange(2, FAR + 1, 2).float()
COURSES = [(turn, bend) for turn in (-2.5, 0.0, 2.5) for bend in (-4.5, 0.0, 4.5)]
"""Pixels by which a line may have left its course after ``FAR`` pixels: evenly, by a wrong angle;
and as a parabola."""
LEAST, MOST = -4.0, 4.0
"""A single pixel counts no more than this, for or against, in natural logarithms of odds."""
UNITS = 16
"""In as many parts of one the odds are counted."""
TURNED = 12.0
"""How much less a pixel counts whose line crosses at a right angle."""
BINS = 16
"""Directions for which the pixels are laid out."""
CLUTTER = 9
"""Width in cells of the neighbourhood in which other lines are counted."""
PAD = 12 * CELL
CHUNK = 4096
BAND = 1_000_000
"""Pixels that are laid out at a time, to bound the memory."""
COUNT = 16
"""Number of features."""


def _density(at: Tensor, height: int, width: int) -> Tensor:
    """Which part of the pixels around is among ``at`` (N, 2), for cells of ``CELL`` pixels."""
    down, right = -(-height // CELL), -(-width // CELL)
    cell = (at[:, 0] // CELL) * right + at[:, 1] // CELL
    count = torch.bincount(cell, minlength=down * right).float().view(1, 1, down, right)
    return F.avg_pool2d(count, CLUTTER, 1, CLUTTER // 2)[0, 0] / CELL**2


def _laid_out(flat: Tensor, angle: Tensor, odds: Tensor, height: int, width: int) -> Tensor:
    """The odds for a line of each direction at each pixel or beside it, in ``UNITS``, int8
    (BINS * height * width)."""
    directions = torch.arange(BINS) * (math.pi / BINS)
    turned = TURNED * torch.sin(directions - angle[:, None]).square()
    each = odds[:, None] - turned
    point, direction = (each > LEAST).nonzero(as_tuple=True)
    index = direction * (height * width) + flat[point]
    values = (each[point, direction] * UNITS).round().to(torch.int8)
    canvas = torch.full((BINS * height * width,), round(LEAST * UNITS), dtype=torch.int8)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            canvas.scatter_reduce_(0, index + (down * width + right), values, "amax")
    return canvas


def _followed(canvas: Tensor, at: Tensor, angle: Tensor, height: int, width: int) -> Tensor:
    """The odds along the best course through each point, (N, 2 len(STEPS))."""
    steps = torch.cat([-STEPS, STEPS])
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    best, profile = torch.empty(0), torch.empty(0)
    for turn, bend in COURSES:
        beside = turn * steps / FAR + bend * (steps / FAR) ** 2
        slope = torch.atan(turn / FAR + 2 * bend * steps / FAR**2)
        direction = ((angle[:, None] + slope) * (BINS / math.pi)).round().long() % BINS
        down = (at[:, :1] + sin * steps + cos * beside).round().long().clamp(0, height - 1)
        right = (at[:, 1:] + cos * steps - sin * beside).round().long().clamp(0, width - 1)
        odds = canvas.take((direction * height + down) * width + right).float() / UNITS
        total = odds.sum(1)
        if not len(best):
            best, profile = total, odds
            continue
        better = total > best
        best = torch.where(better, total, best)
        profile = torch.where(better[:, None], odds, profile)
    return profile


def _told(profile: Tensor) -> list[Tensor]:
    """What the odds along a course, (N, 2 len(STEPS)), say: the better side of it first."""
    one, other = profile.chunk(2, 1)
    swap = (one.sum(1) > other.sum(1))[:, None]
    told = []
    for side in (torch.where(swap, one, other), torch.where(swap, other, one)):
        told += [
            side[:, :4].mean(1),
            side[:, 4:10].mean(1),
            side[:, 10:].mean(1),
            side[:, :10].amin(1),
            4 * (side > 0).float().mean(1),
        ]
    return [*told, profile.mean(1), profile.std(1)]


def linked(
    at: Tensor, angle: Tensor, odds: Tensor, size: tuple[int, int], progress: Progress = SILENT
) -> Tensor:
    """What the neighbours of points say of each: features (N, COUNT - 1).

    at: rows and columns (N, 2), sorted by row, in a picture of ``size``; angle (N,): direction of
    the line through each, in radians; odds (N,): natural logarithm of the odds that it is part of
    a line that is looked for. Nothing is known beyond the picture's edges.
    """
    rows = CELL * max(CLUTTER, BAND // size[1] // CELL)
    width = size[1] + 2 * PAD
    counted = odds.clamp(LEAST, MOST)
    rising = at[:, 0].contiguous()
    found = [torch.empty(0, COUNT - 1)]
    for top in range(0, size[0], rows):
        progress()
        bottom = min(size[0], top + rows)
        height = bottom - top + 2 * PAD
        edges = torch.tensor([top - PAD + 1, top, bottom, bottom + PAD - 1])
        before, first, last, after = torch.searchsorted(rising, edges).tolist()
        near = at[before:after] + torch.tensor([PAD - top, PAD])
        flat = near[:, 0] * width + near[:, 1]
        near_odds = counted[before:after]
        strong, weak = (_density(near[near_odds > least], height, width) for least in (0, -2))
        canvas = _laid_out(flat, angle[before:after], near_odds, height, width)
        here = near[first - before : last - before]
        for a, b, c in zip(
            here.split(CHUNK),
            angle[first:last].split(CHUNK),
            odds[first:last].split(CHUNK),
            strict=True,
        ):
            progress()
            if len(a):
                profile = _followed(canvas, a, b, height, width)
                y, z = (a // CELL).unbind(1)
                told = [c.clamp(-9, 9) / 4, *_told(profile), 20 * strong[y, z], 10 * weak[y, z]]
                found.append(torch.stack(told, 1))
    return torch.cat(found)
