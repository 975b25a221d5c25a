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
from ..operators.observation import Observation
from ..operators.registry import DEGRADATIONS
from ..restoration.images import read_image, to_pil
from . import HELD_OUT

OUT = Path(__file__).resolve().parents[1] / "docs" / "images" / "gallery.jpg"
SIDE, GAP, LINE, COLUMNS = 128, 8, 34, 6


CHAIN = ops.Chain((ops.DefocusBlur(2.0), ops.AreaDownsample(2), ops.Jpeg(20)))


def cases() -> list[tuple[str, ops.Recipe]]:
    """Captions and degradations: none, those of the registry, and a chain of three."""
    rows = [(case.caption, case.make()) for row in DEGRADATIONS for case in row.gallery]
    return [("the picture", ops.Identity()), *rows, ("blur, shrink, JPEG", CHAIN)]


def look(recipe: ops.Recipe, x: Tensor) -> Tensor:
    """The measurement of x (1, 3, H, W) as a picture of the same size."""
    seen = Observation.from_clean(x, recipe, 0.0, 1, [torch.Generator()]).measurement_picture
    if isinstance(recipe, ops.Outpainting):
        return F.pad(seen, (recipe.left, recipe.right, recipe.top, recipe.bottom))
    return F.interpolate(seen, x.shape[2:], mode="nearest-exact")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picture", type=Path, default=HELD_OUT / "test" / "1f63b.png")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    x = read_image(args.picture)[0]
    shown = cases()
    rows = -(-len(shown) // COLUMNS)
    size = (COLUMNS * (SIDE + GAP) + GAP, rows * (SIDE + LINE + GAP) + GAP)
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for k, (label, recipe) in enumerate(shown):
        left, top = GAP + k % COLUMNS * (SIDE + GAP), GAP + k // COLUMNS * (SIDE + LINE + GAP)
        draw.text((left, top), f"{recipe.name}\n{label}", fill="black", font=font, spacing=3)
        tile = to_pil(look(recipe, x)).resize((SIDE, SIDE), Image.Resampling.NEAREST)
        sheet.paste(tile, (left, top + LINE))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(args.out, quality=90, subsampling=0)
    print(args.out)


if __name__ == "__main__":
    main()
