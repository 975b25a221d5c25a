"""Draw the pack's icon and banner for the Comfy registry from its own pictures.

``python -m comfyui_flowdps.tools.brand`` writes ``docs/images/icon.png``, 400 x 400, and
``docs/images/banner.jpg``, 21:9. The banner's photographs are those of ``docs/images/photos.jpg``,
before and after.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "docs" / "images"
SIDE, BANNER = 400, (1260, 540)
FINER = 4
"""Edges are drawn so many times larger, and shrunk."""
CELLS = 16
"""Squares a side of the damaged half of the icon."""
DARK, LIGHT = (24, 28, 38), (245, 246, 250)
PAIRS = ((1, 0), (2, 0), (2, 1))
"""Photographs of the banner by column and row of ``photos.jpg``: shaken, grainy and small."""
WORDS = ("Photos restored", "by flow models,", "and checked against", "the photo itself.")


def shape(size: tuple[int, int], outline: Sequence[tuple[float, float]]) -> Image.Image:
    """A mask, white within the corners of ``outline``, with smooth edges."""
    large = Image.new("L", (size[0] * FINER, size[1] * FINER))
    ImageDraw.Draw(large).polygon([(x * FINER, y * FINER) for x, y in outline], fill=255)
    return large.resize(size, Image.Resampling.LANCZOS)


def icon() -> Image.Image:
    """A butterfly, coarse on the left of a slanted line and whole on the right."""
    picture = Image.open(ROOT / "pictures" / "butterfly.png").convert("RGB")
    whole = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    coarse = picture.resize((CELLS, CELLS), Image.Resampling.BOX)
    coarse = coarse.resize((SIDE, SIDE), Image.Resampling.NEAREST)
    middle, lean, thick = SIDE / 2, SIDE / 10, SIDE / 60
    left = [(0, 0), (middle + lean, 0), (middle - lean, SIDE), (0, SIDE)]
    whole.paste(coarse, mask=shape((SIDE, SIDE), left))
    line = [
        (middle + lean - thick, 0),
        (middle + lean + thick, 0),
        (middle - lean + thick, SIDE),
        (middle - lean - thick, SIDE),
    ]
    whole.paste(LIGHT, mask=shape((SIDE, SIDE), line))
    corners = Image.new("L", (SIDE * FINER, SIDE * FINER))
    ImageDraw.Draw(corners).rounded_rectangle(
        (0, 0, SIDE * FINER - 1, SIDE * FINER - 1), SIDE * FINER // 6, fill=255
    )
    whole.putalpha(corners.resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    return whole


def banner() -> Image.Image:
    """The name, what the pack does, and three photographs, each before above and after below."""
    sheet = Image.open(OUT / "photos.jpg").convert("RGB")
    across, down, photo = sheet.width // 3, sheet.height // 2, sheet.width // 6 - 3
    side = round(0.9 * photo)  # Below lies a label.
    width, height = BANNER
    made = Image.new("RGB", BANNER, DARK)
    half = height // 2
    first = width - len(PAIRS) * half
    for place, (column, row) in enumerate(PAIRS):
        for after in (0, 1):
            left = column * across + 3 + after * photo + (photo - side) // 2
            top = row * down + 3
            part = sheet.crop((left, top, left + side, top + side))
            part = part.resize((half, half), Image.Resampling.LANCZOS)
            made.paste(part, (first + place * half, after * half))
    pen = ImageDraw.Draw(made)
    pen.rectangle((first, half - 2, width, half + 1), fill=LIGHT)
    pen.text((44, 130), "FlowDPS", LIGHT, ImageFont.load_default(80))
    pen.multiline_text((48, 250), "\n".join(WORDS), LIGHT, ImageFont.load_default(34), spacing=12)
    return made


def main() -> None:
    icon().save(OUT / "icon.png", optimize=True)
    banner().save(OUT / "banner.jpg", quality=90)


if __name__ == "__main__":
    main()
