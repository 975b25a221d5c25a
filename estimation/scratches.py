"""Find thin scratches, dust and creases in a photo.

Scratches: pixels on the middle of lines (``ridges``) are judged three times by small networks, at
first each by itself, then by how well it goes on as a long smooth line (``linking``). Dust: small
spots (``dust``), judged once. All is done for bright and for dark ones, and at several sizes of
the photo. The networks' weights, in ``scratches.safetensors``, are made by
``python -m comfyui_flowdps.training.scratches``.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from . import dust, ridges
from .checks import check_photo
from .linking import LEAST, MOST, linked
from .progress import SILENT, Progress

BAND = 400_000
"""Pixels that are looked at together, to bound the memory."""
UNLIKELY = -3.5
"""Logarithm of odds below which a pixel is looked at no more."""
JUDGES = ("alone", "linked", "linked again")
"""The networks of lines, in the order in which they are asked."""
DUST = "dust"
DUST_FAINTER = 1.5
"""How much lower the odds of dust may be than those of scratches, as it covers little."""
CROWDED = 0.02
"""Length of lines of like directions per area, in pixels per pixel, from which on they are a
pattern: five that cross a square of 256 pixels."""
TURNS = 12
"""Parts of a right angle; directions are alike that are one part from each other at most."""
ALIKE = 0.5
"""The same as a part of all lines there."""
ALL_ALIKE = 0.75
"""The same, from which on the other lines there belong to it."""
AROUND = 260
"""Width in pixels of the neighbourhood in which a pattern is looked for."""
SOFTENED, STRONG, GROUND = 0.5, 0.75, 31
"""What stands out from the mean of so many pixels around by more than ``STRONG`` is looked for in
the photo with less contrast, too: the networks learned from fainter scratches, and take no heed of
white ones on plain ground."""
FAINTER = 2.0
"""How much lower the odds may be where a scratch that was found goes on."""
SMALLEST = 32
"""Shortest side in pixels of a photo that was made smaller."""
ACROSS = torch.arange(-20, 21) / 2
"""Where the width of a scratch is measured, in pixels from its middle."""

Weights = dict[str, Tensor]


@dataclass
class Line:
    """Points (N, 2) on lines, the direction of each in radians (N,), what was measured (N, K),
    and the logarithm of its odds (N,)."""

    at: Tensor
    angle: Tensor
    features: Tensor
    odds: Tensor

    def kept(self, which: Tensor) -> Line:
        return Line(self.at[which], self.angle[which], self.features[which], self.odds[which])


@functools.cache
def weights() -> Weights:
    """The networks' weights, by name."""
    return load_file(Path(__file__).with_name("scratches.safetensors"))


def judged(name: str, features: Tensor, table: Weights) -> Tensor:
    """Logarithm of the odds (N,), by the network ``name``, for features (N, K)."""
    hidden = torch.relu(F.linear(features, table[f"{name}.in"], table[f"{name}.in_bias"]))
    return F.linear(hidden, table[f"{name}.out"], table[f"{name}.out_bias"])[:, 0]


def with_size(features: Tensor, smallest: bool) -> Tensor:
    """The features, and whether they are of the smallest size of the photo."""
    return F.pad(features, (0, 1), value=float(smallest))


def _bands(height: int, width: int, margin: int):
    """Rows to look at, and which of those to report, and the part that is then done."""
    rows = max(2 * margin, BAND // width // ridges.CELL * ridges.CELL)
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        first = max(0, top - margin)
        yield first, slice(first, bottom + margin), slice(top - first, bottom - first)


def find_lines(x: Tensor, smallest: bool, progress: Progress = SILENT) -> tuple[Line, Line]:
    """Points on bright and on dark lines of x (C, H, W), not yet judged."""
    found: tuple[list[ridges.Ridges], list[ridges.Ridges]] = ([], [])
    height, width = x.shape[1:]
    for first, rows, within in _bands(height, width, ridges.MARGIN):
        progress(first / height)
        both = ridges.find_ridges(x[:, rows], within, progress)
        for kept, each in zip(found, both, strict=True):
            each.at[:, 0] += first
            kept.append(each)
    lines = []
    for each in found:
        at, angle, features = (
            torch.cat([getattr(piece, key) for piece in each])
            for key in ("at", "angle", "features")
        )
        lines.append(Line(at, angle, with_size(features, smallest), torch.zeros(len(at))))
    return lines[0], lines[1]


def _elsewhere(line: Line, size: torch.Size, other: Line, other_size: torch.Size) -> Tensor:
    """The best odds (N,) of the points ``other``, found at another size, near those of ``line``."""
    width, reach = other_size[1], 2 if other_size[0] > size[0] else 1
    canvas = torch.full((other_size[0] * width,), LEAST)
    canvas[other.at[:, 0] * width + other.at[:, 1]] = other.odds.clamp(LEAST, MOST)
    if other_size[0] > size[0]:
        near = F.max_pool2d(canvas.view(1, *other_size), 2 * reach + 2, 2, reach)[0]
        at = line.at
    else:
        near = F.max_pool2d(canvas.view(1, *other_size), 3, 1, 1)[0]
        at = line.at // 2
    down, right = (at[:, k].clamp(max=near.shape[k] - 1) for k in (0, 1))
    return near[down, right]


def link(lines: list[Line], sizes: list[torch.Size], progress: Progress = SILENT) -> list[Line]:
    """The likely ones of ``lines``, one for each size of the photo, whose features (N, K) are
    joined by what their neighbours say, and those at the next size: (N, K + COUNT)."""
    told = []
    for level, line in enumerate(lines):
        other = level + 1 if level + 1 < len(lines) else level - 1
        elsewhere = torch.full((len(line.at),), LEAST)
        if other >= 0:
            elsewhere = _elsewhere(line, sizes[level], lines[other], sizes[other])
        likely = line.odds > UNLIKELY
        kept, size = line.kept(likely), (sizes[level][0], sizes[level][1])
        around = linked(kept.at, kept.angle, kept.odds, size, progress)
        features = torch.cat([kept.features, around, elsewhere[likely, None] / 2], 1)
        told.append(Line(kept.at, kept.angle, features, kept.odds))
    return told


def _judge(lines: list[Line], sizes: list[torch.Size], progress: Progress) -> list[Line]:
    """The likely ones of lines, with their final odds."""
    table = weights()
    for line in lines:
        line.odds = judged(JUDGES[0], line.features, table)
    for name in JUDGES[1:]:
        known = [line.features.shape[1] for line in lines]
        lines = link(lines, sizes, progress)
        for line, count in zip(lines, known, strict=True):
            line.odds = judged(name, line.features, table)
            line.features = line.features[:, :count]
    return lines


def _grown(line: Line, threshold: float, size: torch.Size) -> Line:
    """The points above a threshold, and the fainter ones that join them."""
    line = line.kept(line.odds > threshold - FAINTER)
    good = line.odds > threshold
    height, width = size[0] + 4, size[1] + 4
    flat = (line.at[:, 0] + 2) * width + line.at[:, 1] + 2
    square = (torch.arange(-2, 3)[:, None] * width + torch.arange(-2, 3)).flatten()
    canvas = torch.zeros(height * width, dtype=torch.bool)
    canvas[flat[good]] = True
    for _ in range(ridges.TEXTURE):
        rest = (~good).nonzero()[:, 0]
        joins = rest[canvas[flat[rest, None] + square].any(1)]
        if not len(joins):
            break
        good[joins] = True
        canvas[flat[joins]] = True
    return line.kept(good)


def _without_patterns(line: Line, size: torch.Size, level: int) -> Line:
    """The points that are not of a wall of bricks, a fence or a net: many lines close together that
    are parallel, or at right angles to each other. Scratches have all directions."""
    down, right = (-(-n // ridges.CELL) for n in size)
    cell = (line.at[:, 0] // ridges.CELL) * right + line.at[:, 1] // ridges.CELL
    turn = (line.angle * (2 * TURNS / math.pi)).round().long() % TURNS
    reach = AROUND // ridges.CELL // 2**level // 2

    def density(which: Tensor) -> Tensor:
        count = torch.bincount(cell[which], minlength=down * right).float().view(1, 1, down, right)
        for axis in (0, 1):
            side, pad = [1, 1], [0, 0]
            pad[axis] = min(reach, (down, right)[axis] // 2)
            side[axis] = 2 * pad[axis] + 1
            count = F.avg_pool2d(count, side, 1, pad, count_include_pad=False)
        return count.flatten()[cell] / ridges.CELL**2

    lines = density(torch.ones_like(turn, dtype=torch.bool))
    crowded = torch.zeros(len(cell), dtype=torch.bool)
    for k in turn.unique().tolist():
        alike = density((turn - k + 1) % TURNS <= 2)
        pattern = (alike > CROWDED * 2**level) & (alike > ALIKE * lines)
        crowded |= pattern & ((turn == k) | (alike > ALL_ALIKE * lines))
    return line.kept(~crowded)


def _paint_lines(mask: Tensor, grey: Tensor, line: Line, finer: int, widest: float) -> None:
    """Set the pixels of mask (H, W) that the points of ``line`` cover, as wide as they are in the
    photo ``grey`` (H, W), which is ``finer`` times as large as that in which they were found."""
    height, width = grey.shape
    cos, sin = line.angle.cos()[:, None, None], line.angle.sin()[:, None, None]
    middle = (line.at * finer + (finer - 1) / 2)[..., None, None]

    def places(along: Tensor, across: Tensor) -> tuple[Tensor, Tensor]:
        down = middle[:, 0] + sin * along + cos * across
        right = middle[:, 1] + cos * along - sin * across
        return down.round().long(), right.round().long()

    across = ACROSS * finer
    down, right = places(torch.arange(-3, 4)[:, None] * finer, across)
    bright = grey[down.clamp(0, height - 1), right.clamp(0, width - 1)].mean(1)
    outside = (across.abs() >= 3 * finer + 1) & (across.abs() <= 5 * finer + 1)
    left, other = (bright[:, outside & (across * side > 0)].mean(1) for side in (-1, 1))
    ground = torch.maximum(left, other)
    inside = bright.masked_fill(across.abs() > finer, -math.inf)
    top, peak = inside.max(1, keepdim=True)
    below = bright <= (ground[:, None] + top) / 2
    order = torch.arange(len(across))
    start = torch.where(below & (order < peak), order, -1).amax(1) + 1
    end = torch.where(below & (order > peak), order, len(across)).amin(1) - 1
    start, end = across[start], across[end]
    # The mask is widened by a pixel in the end.
    shrink = ((end - start) / 2).clamp(max=0.5)
    start, end = start + shrink, end - shrink
    seen = (top[:, 0] > ground + 0.01) & (end - start + 1 <= widest)
    down, right = places(torch.arange(-2, 3)[:, None] / 2, across)
    covered = (across >= start[:, None, None]) & (across <= end[:, None, None])
    covered = covered & seen[:, None, None] & (down >= 0) & (down < height)
    covered = covered & (right >= 0) & (right < width)
    mask[down[covered], right[covered]] = True


def _dust(
    x: Tensor, smallest: bool, threshold: float, widest: float, progress: Progress = SILENT
) -> Tensor:
    """Where x (C, H, W) has bright or dark dust, (H, W) of bool."""
    height, width = x.shape[1:]
    mask = torch.zeros(height, width, dtype=torch.bool)
    for first, rows, within in _bands(height, width, dust.MARGIN):
        for sign in (1.0, -1.0):
            progress(first / height)
            spots = dust.find_spots(sign * x[:, rows], within)
            odds = judged(DUST, with_size(spots.features, smallest), weights())
            small = 2 * spots.reach.float().mean(1) + 1 <= widest
            good = (odds > threshold) & small
            down, right = dust.rays()
            down = (spots.at[good, :1, None] + first + down).clamp(0, height - 1)
            right = (spots.at[good, 1:, None] + right).clamp(0, width - 1)
            covered = torch.arange(down.shape[2]) < spots.reach[good][..., None]
            mask[down[covered], right[covered]] = True
            mask[spots.at[good, 0] + first, spots.at[good, 1]] = True
    return mask


def _enlarged(mask: Tensor, size: torch.Size) -> Tensor:
    """mask (H, W) at another size, whose sides are those of mask times a power of two or so."""
    times = round(size[0] / mask.shape[0])
    mask = mask.repeat_interleave(times, 0).repeat_interleave(times, 1)
    return F.pad(mask, (0, size[1] - mask.shape[1], 0, size[0] - mask.shape[0]))


def pyramid(x: Tensor, thickness: float = 5.0) -> list[Tensor]:
    """x (1, C, H, W) at its own size, half of it..., until scratches are thin: each (C, H, W)."""
    sizes = [x[0]]
    while len(sizes) < 2 or 3 * 2 ** (len(sizes) - 1) < thickness:
        if min(sizes[-1].shape[1:]) < 2 * SMALLEST:
            break
        sizes.append(F.avg_pool2d(sizes[-1][None], 2)[0])
    return sizes


@torch.no_grad()
def find_scratches(
    x: Tensor, sensitivity: float = 0.5, thickness: int = 5, progress: Progress = SILENT
) -> Tensor:
    """Where one photo x (1, C, H, W) in [-1, 1] is scratched: float32 (H, W), 1 there, else 0.

    A scratch or crease is brighter or darker than both its sides, at most about ``thickness``
    pixels wide, and long; dust is as small, and brighter or darker than all around it.
    ``sensitivity``, 0 to 1: a higher one finds fainter ones and takes more hairs, wires and glints
    for one. The mask is one pixel wider than what was found. ``progress`` may stop it. ValueError
    for values out of range, and for another shape.
    """
    check_photo(x, 32)
    if not 0 <= sensitivity <= 1:
        raise ValueError(f"the sensitivity is {sensitivity}; expected a number from 0 to 1")
    if not 1 <= thickness <= 25:
        raise ValueError(f"the thickness is {thickness}; expected 1 to 25 pixels")
    threshold, x = 5.0 - 7.0 * sensitivity, x.detach().float().cpu()
    mask = _marked(x, threshold, thickness, progress.part(0, 0.5))
    fainter = _marked(SOFTENED * x, threshold, thickness, progress.part(0.5, 1))
    apart = x - F.avg_pool2d(x, GROUND, 1, GROUND // 2, count_include_pad=False)
    mask |= fainter & (apart.mean(1)[0].abs() > STRONG)
    return F.max_pool2d(mask[None].float(), 3, 1, 1)[0]


def _marked(x: Tensor, threshold: float, thickness: int, progress: Progress) -> Tensor:
    """Where the photo x (1, C, H, W) is scratched, bool (H, W), without the wider rim."""
    widest = 1.25 * thickness + 2
    levels = pyramid(x, thickness)
    sizes = [each.shape[1:] for each in levels]
    last = len(levels) - 1
    shares = [sum(0.6 * 0.25**j for j in range(k)) for k in range(len(levels) + 1)]
    found = [
        find_lines(each, 0 < k == last, progress.part(shares[k], shares[k + 1]))
        for k, each in enumerate(levels)
    ]
    mask = torch.zeros(sizes[0], dtype=torch.bool)
    rest = progress.part(0.8, 0.9)
    for k, sign in enumerate((1.0, -1.0)):
        rest(k / 2)
        lines = _judge([both[k] for both in found], sizes, rest)
        for level, line in enumerate(lines):
            rest()
            line = _without_patterns(_grown(line, threshold, sizes[level]), sizes[level], level)
            at = max(0, level - 1)
            painted = torch.zeros(sizes[at], dtype=torch.bool)
            grey = sign * levels[at].mean(0)
            _paint_lines(painted, grey, line, 2 ** (level - at), widest / 2**at)
            mask |= _enlarged(painted, sizes[0])
    for level, each in enumerate(levels):
        part = progress.part(0.9 + 0.1 * level / (last + 1), 0.9 + 0.1 * (level + 1) / (last + 1))
        least = threshold - DUST_FAINTER
        found_dust = _dust(each, 0 < level == last, least, widest / 2**level, part)
        mask |= _enlarged(found_dust, sizes[0])
    progress(1.0)
    return mask
