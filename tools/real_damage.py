"""Restore the photographs with true damage, and show them before and after on one sheet.

``python -m comfyui_flowdps.tools.real_damage [--out FOLDER]`` restores every picture of
``pictures/real`` as ``flowdps restore`` does if nobody tells it what is wrong, with its results in
FOLDER, and writes ``docs/images/real_damage.jpg``. What FOLDER has already is not restored again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ..cli.command import main as flowdps

ROOT = Path(__file__).resolve().parents[1]
DAMAGED = ROOT / "pictures" / "real"
SHEET = ROOT / "docs" / "images" / "real_damage.jpg"
SIDE, GAP, LINE, COLUMNS = 256, 8, 18, 2


def sheet(pairs: Mapping[str, tuple[Image.Image, Image.Image]]) -> Image.Image:
    """Name to the picture before and after: both side by side under the name, two pairs a row."""
    wide, high = 2 * SIDE + 2 * GAP, SIDE + LINE + GAP
    rows = -(-len(pairs) // COLUMNS)
    drawn = Image.new("RGB", (COLUMNS * wide + GAP, rows * high + GAP), "white")
    draw, font = ImageDraw.Draw(drawn), ImageFont.load_default(13)
    for k, (name, pair) in enumerate(pairs.items()):
        left, top = GAP + k % COLUMNS * wide, GAP + k // COLUMNS * high
        draw.text((left, top), name, fill="black", font=font)
        for j, picture in enumerate(pair):
            tile = picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            drawn.paste(tile, (left + j * (SIDE + 2), top + LINE))
    return drawn


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("restored"))
    folder: Path = parser.parse_args().out
    failed = flowdps(["restore", str(DAMAGED), "--out", str(folder)])
    if failed:
        return failed
    pairs = {
        file.stem: (Image.open(file), Image.open(folder / f"{file.stem}_restored.png"))
        for file in sorted(DAMAGED.glob("*.webp"))
    }
    sheet(pairs).save(SHEET, quality=82)
    print(SHEET)
    return 0


if __name__ == "__main__":
    sys.exit(main())
