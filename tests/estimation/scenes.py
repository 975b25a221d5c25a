"""Scenes with detail at every scale, drawn from a seed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def detailed(seed: int, height: int = 192, width: int = 256, texture: float = 0.15) -> Tensor:
    """An 8-bit picture (1, 3, height, width) in [-1, 1]: areas of colour, with 1/f texture."""
    generator = torch.Generator().manual_seed(seed)
    down, right = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
    frequency = (down.square() + right.square()).sqrt().clamp(min=1 / width)
    areas = torch.zeros(1, 3, height, width)
    for _ in range(24):
        top, left, tall, wide = (torch.rand(4, generator=generator) * 0.7).tolist()
        rows = slice(int(top * height), int((top + tall) * height) + 8)
        columns = slice(int(left * width), int((left + wide) * width) + 8)
        areas[..., rows, columns] = 1.2 * torch.rand(1, 3, 1, 1, generator=generator) - 0.6
    white = torch.randn(1, 3, height, width, generator=generator)
    grey = white.mean(1, keepdim=True) + 0.3 * white
    rough = torch.fft.irfft2(torch.fft.rfft2(grey) / frequency, s=(height, width))
    x = F.avg_pool2d(F.pad(areas, [1] * 4, mode="replicate"), 3, 1) + texture * rough / rough.std()
    return ((x.clamp(-0.95, 0.95) + 1) * 127.5).round() / 127.5 - 1
