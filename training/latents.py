"""Latents of photographs for the training of a flow: windows on disk, crops in batches.

Encoding costs more than a training step, so windows larger than a training crop are encoded once
and cropped anew for every batch. They come in shards; a new shard is made from time to time, so
that training starts early and its variety grows with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from .photos import Photo, crop
from .taesd import STRIDE, Autoencoder

WINDOW = 48
"""Largest side of a window, in latent cells (384 pixels)."""
EXACT = 0.25
"""Part of the windows that are exactly as large as a training crop, with its borders."""


def shapes(side: int) -> dict[tuple[int, int], float]:
    """Height and width of training crops in cells, and how often they are drawn.

    Most are square with the given side; some are twice as large, or in between.
    """
    large, middle = 2 * side, 3 * side // 2 // 2 * 2
    return {
        (side, side): 0.75,
        (large, large): 0.13,
        (side, large): 0.04,
        (large, side): 0.04,
        (middle, middle): 0.04,
    }


def draw_window(
    photos: Sequence[Photo], weights: Tensor, side: int, generator: torch.Generator
) -> Tensor:
    """A uint8 (3, H, W) window: full resolution half of the time, or shrunk; flipped or not.

    Both sides are multiples of 8, at least ``side`` and at most ``WINDOW`` cells.
    """
    photo = photos[int(torch.multinomial(weights, 1, generator=generator))]
    draw = torch.rand(5, generator=generator).tolist()
    most = photo.short_side / (side * STRIDE)
    scale = 1.0 if draw[0] < 0.5 else math.exp(draw[1] * math.log(most))
    height, width = (
        min(WINDOW, int(full / scale / STRIDE)) * STRIDE for full in photo.pixels.shape[1:]
    )
    if draw[2] < EXACT:
        double = min(height, width) >= 2 * side * STRIDE and draw[3] < 0.5
        height = width = (2 if double else 1) * side * STRIDE
    window = crop(photo.pixels, height, width, scale, generator)
    return window.flip(-1) if draw[4] < 0.5 else window


def encode(autoencoder: Autoencoder, image: Tensor) -> Tensor:
    """Latents (16, H/8, W/8), float16, of a uint8 image (3, H, W)."""
    device = next(autoencoder.parameters()).device
    with torch.no_grad():
        return autoencoder.encode(image[None].to(device).float() / 255)[0].half().cpu()


class Shards:
    """Encoded windows in files ``shard-000.pt`` and so on, each drawn from its own seed.

    A shard depends on its number, the photos and the autoencoder alone: an interrupted training
    finds the shards that it had, or makes the same ones again.
    """

    def __init__(
        self,
        folder: Path,
        autoencoder: Autoencoder,
        photos: Sequence[Photo],
        windows: int,
        side: int = 16,
    ):
        self.folder, self.autoencoder, self.windows = folder, autoencoder, windows
        self.side, self.shapes = side, shapes(side)
        self.photos = [p for p in photos if p.short_side >= side * STRIDE]
        if not self.photos:
            raise ValueError(f"no picture is {side * STRIDE} pixels high and wide")
        self.weights = torch.tensor([float(p.pixels.numel()) for p in self.photos])
        self.latents: list[Tensor] = []
        self.count = 0
        folder.mkdir(parents=True, exist_ok=True)

    def grow(self, count: int) -> None:
        """Read or make shards until there are ``count``."""
        while self.count < count:
            path = self.folder / f"shard-{self.count:03}.pt"
            if not path.exists():
                part = path.with_suffix(".part")
                torch.save(self._make(self.count), part)
                part.replace(path)
            self.latents += torch.load(path, weights_only=True)
            self.count += 1

    def _make(self, number: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(1000 + number)
        return [
            encode(self.autoencoder, draw_window(self.photos, self.weights, self.side, generator))
            for _ in range(self.windows)
        ]

    def draw(self, count: int, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
        """``count`` random crops (count, 16, *shape), float32.

        A window is drawn in proportion to its cells.
        """
        height, width = shape
        fitting = [z for z in self.latents if z.shape[1] >= height and z.shape[2] >= width]
        if not fitting:
            raise ValueError(f"no window has {height} x {width} cells")
        weights = torch.tensor([float(z[0].numel()) for z in fitting])
        chosen = torch.multinomial(weights, count, replacement=True, generator=generator)
        result = []
        for index in chosen.tolist():
            z = fitting[index]
            y = int(torch.randint(z.shape[1] - height + 1, (), generator=generator))
            x = int(torch.randint(z.shape[2] - width + 1, (), generator=generator))
            result.append(z[:, y : y + height, x : x + width])
        return torch.stack(result).float()

    def batch(self, cells: int, generator: torch.Generator) -> Tensor:
        """Crops of one random shape, about ``cells`` latent cells in all."""
        shapes = [s for s in self.shapes if any(_fits(z, s) for z in self.latents)]
        odds = torch.tensor([self.shapes[s] for s in shapes])
        shape = shapes[int(torch.multinomial(odds, 1, generator=generator))]
        return self.draw(max(1, cells // (shape[0] * shape[1])), shape, generator)


def _fits(z: Tensor, shape: tuple[int, int]) -> bool:
    return z.shape[1] >= shape[0] and z.shape[2] >= shape[1]
