"""How a JPEG file was compressed: its own tables and colour sampling."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..operators.jpeg import SUBSAMPLING, Jpeg
from ..operators.jpeg_tables import CHROMA, LUMA, scaled
from ..operators.orientation import TURNS

_FRAMES = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)
"""Markers of baseline, extended and progressive frames, whose coefficients are rounded alike,
whichever code they are then written in.
"""
_OTHERS = (0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF)
"""Those of lossless and hierarchical frames."""
AGAIN = "save it again at quality 95"
NEUTRAL = (1,) * 64
"""The chroma table of a grey file: its colours are known to the level, there are none."""


def _zigzag() -> list[int]:
    """Position, row by row, of the k-th value of a table as it stands in the file."""
    diagonals = sorted(
        ((r, c) for r in range(8) for c in range(8)),
        key=lambda at: (sum(at), at[0] if sum(at) % 2 else at[1]),
    )
    return [8 * r + c for r, c in diagonals]


ZIGZAG = _zigzag()


@dataclass(frozen=True)
class JpegFile:
    """``recipe`` does to a picture what the file's encoder did; ``quality`` is the nearest of the
    Independent JPEG Group, and ``exact`` says that its tables are the file's.
    """

    recipe: Jpeg
    quality: int
    exact: bool

    def __str__(self) -> str:
        about = "" if self.exact else "about "
        tables = "" if self.exact else ", tables of its own"
        colours = "grey" if self.recipe.chroma == NEUTRAL else self.recipe.subsampling
        return f"JPEG, quality {about}{self.quality}, {colours}{tables}"


def nearest_quality(luma: tuple[int, ...], chroma: tuple[int, ...] | None = None) -> int:
    """The quality from 1 to 100 whose tables are nearest, by the relative difference of steps."""

    def distance(quality: int) -> float:
        usual = scaled(LUMA, quality) + (scaled(CHROMA, quality) if chroma else ())
        return sum(abs(a - b) / (a + b) for a, b in zip(luma + (chroma or ()), usual, strict=True))

    return min(range(100, 0, -1), key=distance)


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and content of every segment before the compressed data."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        (length,) = struct.unpack(">H", data[at + 2 : at + 4])
        yield marker, data[at + 4 : at + 2 + length]
        if marker == 0xDA:
            return
        at += 2 + length


def _tables(content: bytes) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Number and values, row by row, of the tables of a DQT segment."""
    while content:
        wide, number = content[0] >> 4, content[0] & 15
        size = 128 if wide else 64
        steps = struct.unpack(">64H" if wide else ">64B", content[1 : 1 + size])
        table = [0] * 64
        for place, step in zip(ZIGZAG, steps, strict=True):
            table[place] = step
        yield number, tuple(table)
        content = content[1 + size :]


def read_jpeg(path: str | Path, data: bytes | None = None) -> JpegFile:
    """How the JPEG file at ``path`` was compressed: tables, colour sampling and orientation.

    ``data``: the bytes of the file, where they were read already.

    Tables are the file's own, whatever wrote it. A grey file counts as 4:4:4 with colours that are
    kept exactly. ValueError, in one sentence, for a file that is missing, not a JPEG, damaged, or
    of a kind (RGB, CMYK, 12 bits, lossless, other sampling) that the operator does not know.
    """
    path = Path(path)
    if data is None:
        if not path.is_file():
            raise ValueError(f"no such file: {path}")
        data = path.read_bytes()
    if data[:2] != b"\xff\xd8":
        raise ValueError(
            f"{path} is not a JPEG file; expected one, straight from where it was made"
        )
    found: dict[int, tuple[int, ...]] = {}
    parts: list[tuple[int, int, int, int]] = []
    jfif, adobe = False, None
    try:
        for marker, content in _segments(data):
            if marker == 0xDB:
                found.update(_tables(content))
            elif marker == 0xE0 and content[:5] == b"JFIF\0":
                jfif = True
            elif marker == 0xEE and content[:5] == b"Adobe":
                adobe = content[11]
            elif marker in _OTHERS:
                raise ValueError(f"{path} is a lossless or hierarchical JPEG; {AGAIN}")
            elif marker in _FRAMES:
                if content[0] != 8:
                    raise ValueError(
                        f"{path} has {content[0]} bits per channel; expected 8: {AGAIN}"
                    )
                parts = [
                    (content[k], content[k + 1] >> 4, content[k + 1] & 15, content[k + 2])
                    for k in range(6, 6 + 3 * content[5], 3)
                ]
        tables = [found[table] for *_, table in parts]
    except (struct.error, IndexError, KeyError) as error:
        raise ValueError(f"{path} is truncated or corrupt (its tables cannot be read)") from error
    if len(parts) not in (1, 3):
        raise ValueError(
            f"{path} has {len(parts)} colour components; expected 3, or 1 for grey: save it as an"
            " RGB JPEG"
        )
    # As libjpeg decides it: JFIF is YCbCr; else Adobe's word counts, then the components' names.
    letters = bytes(name for name, *_ in parts) == b"RGB"
    if len(parts) == 3 and not jfif and (letters if adobe is None else adobe == 0):
        raise ValueError(f"{path} keeps its colours as RGB; expected YCbCr, as usual: {AGAIN}")
    return _described(path, [part[1:] for part in parts], tables, _orientation(data))


def _orientation(data: bytes) -> int:
    """How the picture in the file lies, by its EXIF data: 1 to 8."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            found = image.getexif().get(0x0112, 1)
    except (OSError, SyntaxError, ValueError):
        return 1
    return found if found in TURNS else 1


def _described(
    path: Path,
    parts: list[tuple[int, int, int]],
    tables: list[tuple[int, ...]],
    orientation: int,
) -> JpegFile:
    luma, chroma = tables[0], tables[-1]
    if len(parts) == 1:
        quality = nearest_quality(luma)
        exact = luma == scaled(LUMA, quality)
        recipe = Jpeg(quality, "4:4:4", None if exact else luma, NEUTRAL, orientation)
        return JpegFile(recipe, quality, exact)
    names = [
        name
        for name, (rows, columns) in SUBSAMPLING.items()
        if parts[0][:2] == (columns * parts[1][0], rows * parts[1][1])
    ]
    if not names or parts[1][:2] != parts[2][:2] or tables[1] != tables[2]:
        raise ValueError(
            f"the colours of {path} are kept in a rare way, or not both alike; expected"
            f" {', '.join(SUBSAMPLING)}: {AGAIN}"
        )
    quality = nearest_quality(luma, chroma)
    exact = (luma, chroma) == (scaled(LUMA, quality), scaled(CHROMA, quality))
    own = (None, None) if exact else (luma, chroma)
    return JpegFile(Jpeg(quality, names[0], *own, orientation), quality, exact)
