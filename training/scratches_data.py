"""Photographs with scratches, creases, fibres and dust drawn over them, and where they are."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..operators.scratches import scratches

SIDE = 256


@dataclass
class Damaged:
    """A photo (3, H, W) in [-1, 1]; where it is damaged, (H, W) of 0 and 1; by how much it was
    changed there, in brightness; and which of that is dust, (H, W)."""

    photo: Tensor
    mask: Tensor
    change: Tensor
    dust: Tensor


def crop(path: Path, generator: torch.Generator) -> Tensor:
    """A square of a photo, 256 pixels wide and mostly made smaller: (3, 256, 256)."""
    with Image.open(path) as image:
        image = image.convert("RGB")
    u = torch.rand(3, generator=generator).tolist()
    short = min(image.size)
    side = round(min(short, max(SIDE, SIDE * 3.0 ** u[0])))
    left, top = round((image.width - side) * u[1]), round((image.height - side) * u[2])
    image = image.crop((left, top, left + side, top + side))
    image = image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 127.5 - 1


def _soft(mask: Tensor, sigma: float) -> Tensor:
    reach = max(1, math.ceil(2.5 * sigma))
    offsets = torch.arange(-reach, reach + 1.0)
    row = torch.exp(-offsets.square() / (2 * sigma * sigma))
    row = row / row.sum()
    padded = F.pad(mask[None, None], [reach] * 4)
    return F.conv2d(F.conv2d(padded, row[None, None, None]), row[None, None, :, None])[0, 0]


def _box(mask: Tensor) -> Tensor:
    return F.avg_pool2d(F.pad(mask[None, None], [1] * 4), 3, 1)[0, 0]


def _waves(height: int, width: int, generator: torch.Generator) -> Tensor:
    """A smooth random surface from 0 to 1: strength that changes along a scratch."""
    coarse = torch.rand(1, 1, 6, 6, generator=generator)
    return F.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)[0, 0]


def crease(height: int, width: int, thickness: float, generator: torch.Generator) -> Tensor:
    """A nearly straight line from edge to edge."""
    u = torch.rand(4, generator=generator).tolist()
    angle = math.pi / 2 * round(2 * u[0]) + 0.25 * (u[1] - 0.5) if u[3] < 0.7 else math.pi * u[0]
    down = torch.arange(height)[:, None] - height * (0.1 + 0.8 * u[1])
    right = torch.arange(width) - width * (0.1 + 0.8 * u[2])
    wobble = 1.5 * torch.sin(right / 23 + 6 * u[0]) * torch.cos(down / 31 + 6 * u[2])
    across = math.cos(angle) * down - math.sin(angle) * right + wobble * u[3]
    return (across.abs() <= thickness / 2).float()


def _fibre(height: int, width: int, thickness: float, generator: torch.Generator) -> Tensor:
    """A short curved hair."""
    u = torch.rand(6, generator=generator).tolist()
    y, x, angle = height * u[0], width * u[1], 2 * math.pi * u[2]
    turn = 0.12 * (u[3] - 0.5)
    mask = torch.zeros(height, width)
    reach = max(1, round(thickness / 2 + 0.2))
    for _ in range(round(12 + 60 * u[4])):
        y, x, angle = y + math.sin(angle), x + math.cos(angle), angle + turn
        i, j = round(y), round(x)
        if 0 <= i < height and 0 <= j < width:
            mask[max(0, i - reach + 1) : i + reach, max(0, j - reach + 1) : j + reach] = 1
    return mask


def specks(height: int, width: int, count: int, generator: torch.Generator) -> Tensor:
    """Dust: spots of 1 to 5 pixels, mostly not quite round, (H, W) of 0 and 1."""
    mask = torch.zeros(height, width)
    down, right = torch.arange(height)[:, None], torch.arange(width)
    for u in torch.rand(count, 5, generator=generator).tolist():
        y, x = down - height * u[0], right - width * u[1]
        angle, radius = math.pi * u[2], 0.6 + 1.9 * u[3] ** 2
        a = (math.cos(angle) * x + math.sin(angle) * y) / (1 + u[4])
        b = math.cos(angle) * y - math.sin(angle) * x
        mask[(a.square() + b.square()) <= radius * radius] = 1
    return mask


def _covered(x: Tensor, alpha: Tensor, dark: bool, generator: torch.Generator) -> Tensor:
    u = torch.rand(5, generator=generator)
    level = 0.5 + 0.5 * u[0]
    tint = 0.15 * (u[1:4] - 0.5) if u[4] < 0.4 else torch.zeros(3)
    colour = (-level if dark else level) + tint
    return x * (1 - alpha) + alpha * colour[:, None, None]


def damage(x: Tensor, seed: int) -> Damaged:
    """x (3, H, W) damaged at random: a fifth of the photos not at all."""
    g = torch.Generator().manual_seed(seed)
    height, width = x.shape[1:]
    u = torch.rand(12, generator=g).tolist()
    if u[0] < 0.25:
        x = x.mean(0, keepdim=True).expand(3, -1, -1).clone()
    if u[1] < 0.3:
        x = (x * (0.5 + 0.5 * u[2]) + 0.3 * (u[3] - 0.5)).clamp(-1, 1)
    y, mask, dust = x.clone(), torch.zeros(height, width), torch.zeros(height, width)
    if u[4] > 0.2:
        for k in range(1 + int(3 * u[5])):
            v = torch.rand(8, generator=g).tolist()
            thickness = (1.0, 2.0, 3.0, 4.0)[int(4 * v[0])] if v[1] < 0.7 else 0.7 + 5 * v[0]
            kind = v[2]
            if kind < 0.65:
                drawn = scratches(
                    height, width, count=1 + int(4 * v[3]), thickness=thickness, seed=seed * 8 + k
                )
            elif kind < 0.8:
                drawn = crease(height, width, thickness, g)
            else:
                some = [_fibre(height, width, thickness, g) for _ in range(1 + int(5 * v[3]))]
                drawn = torch.stack(some).amax(0)
            soft = _box(drawn) if v[4] < 0.6 else _soft(drawn, 0.4 + 0.9 * v[5])
            alpha = soft * (0.9 if v[6] < 0.5 else 0.25 + 0.75 * v[5])
            if v[7] < 0.4:
                alpha = alpha * (0.3 + 0.7 * _waves(height, width, g))
            dark = float(torch.rand(1, generator=g)) < 0.4
            y = _covered(y, alpha, dark, g)
            mask = torch.maximum(mask, drawn)
    if u[6] < 0.4:
        for dark in (False, True):
            drawn = specks(height, width, 1 + int(20 * u[7]), g)
            soft = _soft(drawn, 0.4 + 0.5 * u[8])
            y = _covered(y, soft * (0.4 + 0.6 * u[7]), dark, g)
            dust = torch.maximum(dust, drawn)
    change = (y - x).mean(0).abs()
    if u[9] < 0.3:
        grain = torch.randn(y.shape, generator=g)
        y = y + 0.06 * u[10] * (grain[:1] if u[0] < 0.25 else grain)
    pixels = ((y.clamp(-1, 1) + 1) * 127.5).round().byte()
    if u[11] < 0.15:
        file = io.BytesIO()
        quality = 80 + int(99 * u[11])
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
        pixels = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)
    return Damaged(pixels.float() / 127.5 - 1, mask, change, dust)
