"""How well faults are found in photographs: scratches, creases and dust, and a JPEG's quality.

``python -m comfyui_flowdps.benchmarks.faults [--pictures FOLDER]`` prints two tables. The pictures
are the held-out photographs, or those of a folder; what is wrong with them is made here.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..estimation.jpeg_pixels import jpeg_from_pixels
from ..estimation.scratches import find_scratches
from ..operators.scratches import scratches
from ..restoration.images import find_images, read_image, to_pil
from ..training.scratches_data import crease, specks
from .command import pictures

SENSITIVITIES = (0.3, 0.5, 0.7)
QUALITIES = (10, 20, 30, 40, 50, 60, 70, 75, 80, 85, 90, 95)
REACH = 2
"""Pixels beside a scratch that may be marked as well."""
BRIGHT, DARK = 0.8, -0.8
"""Brightness of what covers a photo, of -1 to 1."""


def _none(height: int, width: int, seed: int) -> Tensor:
    return torch.zeros(height, width)


def _five(thickness: float) -> Callable[[int, int, int], Tensor]:
    return lambda height, width, seed: scratches(
        height, width, count=5, thickness=thickness, seed=seed
    )


def _creases(height: int, width: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.maximum(*(crease(height, width, 3.0, generator) for _ in range(2)))


def _specks(height: int, width: int, seed: int) -> Tensor:
    return specks(height, width, 30, torch.Generator().manual_seed(seed))


FAULTS: dict[str, tuple[Callable[[int, int, int], Tensor], float]] = {
    "none": (_none, BRIGHT),
    "thin": (_five(1), BRIGHT),
    "usual": (_five(2), BRIGHT),
    "wide": (_five(4), BRIGHT),
    "dark": (_five(2), DARK),
    "two creases": (_creases, BRIGHT),
    "two dark creases": (_creases, DARK),
    "30 specks": (_specks, BRIGHT),
    "30 dark specks": (_specks, DARK),
}
"""What is drawn, from height, width and seed; and its brightness."""


def scratched(x: Tensor, fault: str, seed: int) -> tuple[Tensor, Tensor]:
    """One photo (1, 3, H, W) with one of ``FAULTS`` with soft edges, of 8 bits, and where."""
    draw, level = FAULTS[fault]
    mask = draw(x.shape[2], x.shape[3], seed)
    soft = F.avg_pool2d(F.pad(mask[None, None], [1] * 4), 3, 1)
    y = x * (1 - 0.9 * soft) + level * soft
    return ((y.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1, mask


def found_and_true(found: Tensor, mask: Tensor) -> tuple[float, float, float]:
    """Numbers of marked pixels, of those near a scratch, and the share of scratches marked."""
    near = F.max_pool2d(mask[None], 2 * REACH + 1, 1, REACH)[0]
    seen = float((found * mask).sum() / mask.sum().clamp(min=1))
    return float(found.sum()), float((found * near).sum()), seen


def compressed(x: Tensor, quality: int) -> Tensor:
    """One photo as a JPEG shows it."""
    file = io.BytesIO()
    to_pil(x).save(file, "JPEG", quality=quality)
    pixels = np.asarray(Image.open(file).convert("RGB"))
    return torch.from_numpy(pixels.copy()).movedim(-1, 0)[None].float() / 127.5 - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=Path, help="folder; default: the held-out photographs")
    args = parser.parse_args()
    if args.pictures:
        photos = [read_image(file)[0] for file in find_images([args.pictures])]
    else:
        photos = list(pictures("photos/test").split(1))
    print("| drawn | sensitivity | precision | recall | marked |\n|---|---|---|---|---|")
    for name in FAULTS:
        damaged = [scratched(x, name, seed) for seed, x in enumerate(photos)]
        for sensitivity in SENSITIVITIES:
            told = [found_and_true(find_scratches(y, sensitivity), m) for y, m in damaged]
            marked, right = (sum(each[k] for each in told) for k in (0, 1))
            precision = f"{right / marked:.0%}" if marked and name != "none" else "–"
            recall = f"{sum(each[2] for each in told) / len(told):.0%}" if name != "none" else "–"
            share = marked / sum(m.numel() for _, m in damaged)
            print(f"| {name} | {sensitivity} | {precision} | {recall} | {share:.2%} |")
    print("\n| JPEG quality | found | another | nothing |\n|---|---|---|---|")
    for quality in QUALITIES:
        told = [jpeg_from_pixels(compressed(x, quality)) for x in photos]
        exact = sum(each is not None and each.quality == quality for each in told)
        none = sum(each is None for each in told)
        print(f"| {quality} | {exact} | {len(told) - exact - none} | {none} |")
    print(f"| no JPEG | {sum(jpeg_from_pixels(x) is not None for x in photos)} wrongly | | |")


if __name__ == "__main__":
    main()
