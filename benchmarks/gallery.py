"""Every degradation on one held-out picture, without noise: docs/images/gallery.jpg.

``python -m comfyui_flowdps.benchmarks.gallery [--picture FILE] [--out FILE]``
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .. import operators as ops
from ..operators.observation import degraded
from ..restoration.images import read_image, to_pil
from . import HELD_OUT
from .tasks import scratched, three_taps

OUT = Path(__file__).resolve().parents[1] / "docs" / "images" / "gallery.jpg"
SIDE, GAP, LINE, COLUMNS = 128, 8, 34, 6


CASES: list[tuple[str, ops.Recipe]] = [
    ("the picture", ops.Identity()),
    ("scale 4", ops.AveragePool(4)),
    ("scale 4", ops.BicubicDownsample(4)),
    ("scale 4", ops.LanczosDownsample(4)),
    ("4, antialias off", ops.LanczosDownsample(4, antialias=False)),
    ("scale 4", ops.BilinearDownsample(4)),
    ("scale 4", ops.AreaDownsample(4)),
    ("scale 4", ops.NearestDownsample(4)),
    ("size 19, sigma 3", ops.GaussianBlur(19, 3.0)),
    ("size 17, seed 0", ops.MotionBlur(17)),
    ("size 7", ops.BoxBlur(7)),
    ("6 along, 0.8 across", ops.AnisotropicBlur(31, 6.0, 0.8)),
    ("radius 4", ops.DefocusBlur(4.0)),
    ("three dots", three_taps()),
    ("defocus, size 15", ops.NonuniformBlur("defocus", 15)),
    ("motion, size 15", ops.NonuniformBlur("motion", 15)),
    ("a mask of scratches", scratched()),
    ("margins of 24", ops.Outpainting(24, 24, 24, 24)),
    ("equal weights", ops.Colorization()),
    ("top field", ops.Interlace()),
    ("RGGB", ops.Bayer()),
    ("ratio 0.25, projected", ops.WalshHadamard(0.25)),
    ("ratio 0.25, projected", ops.BlockSensing(0.25)),
    ("quality 10, 4:2:0", ops.Jpeg(10)),
    ("4 levels", ops.Quantise(4)),
    ("high 0.3", ops.Clip()),
    ("blur, shrink, JPEG", ops.Chain((ops.DefocusBlur(2.0), ops.AreaDownsample(2), ops.Jpeg(20)))),
]


def look(recipe: ops.Recipe, x: Tensor) -> Tensor:
    """The measurement of x (1, 3, H, W) as a picture of the same size."""
    seen = degraded(x, recipe, 0.0, 1, [torch.Generator()]).seen
    if isinstance(recipe, ops.Outpainting):
        return F.pad(seen, (recipe.left, recipe.right, recipe.top, recipe.bottom))
    return F.interpolate(seen, x.shape[2:], mode="nearest-exact")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picture", type=Path, default=HELD_OUT / "test" / "1f63b.png")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    x = read_image(args.picture)[0]
    rows = -(-len(CASES) // COLUMNS)
    size = (COLUMNS * (SIDE + GAP) + GAP, rows * (SIDE + LINE + GAP) + GAP)
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for k, (label, recipe) in enumerate(CASES):
        left, top = GAP + k % COLUMNS * (SIDE + GAP), GAP + k // COLUMNS * (SIDE + LINE + GAP)
        draw.text((left, top), f"{recipe.name}\n{label}", fill="black", font=font, spacing=3)
        tile = to_pil(look(recipe, x)).resize((SIDE, SIDE), Image.Resampling.NEAREST)
        sheet.paste(tile, (left, top + LINE))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(args.out, quality=90, subsampling=0)
    print(args.out)


if __name__ == "__main__":
    main()
