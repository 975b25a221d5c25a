"""Reading and writing of image files, with notes on all conversions."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError
from torch import Tensor

_KINDS = "avif bmp gif jfif jp2 jpe jpeg jpg pbm pgm png ppm tga tif tiff webp"
SUFFIXES = frozenset(f".{kind}" for kind in _KINDS.split())
"""File name extensions of the images in a folder."""
SMALLEST = 16
"""Least height and width of an image in pixels."""

_NAMES = {"1": "black and white", "L": "grey", "LA": "grey", "P": "palette", "PA": "palette"}
_COLUMN = 128  # Least width of a sheet's column, so that its caption fits.


def find_images(inputs: Sequence[str | Path]) -> list[Path]:
    """The files given by ``inputs``, without duplicates, in order; folders yield their images.

    Files are not opened and need not exist. Raises ValueError for a folder without images.
    """
    found: dict[Path, Path] = {}
    for given in map(Path, inputs):
        files = [given]
        if given.is_dir():
            files = sorted(
                file
                for file in given.iterdir()
                if file.suffix.lower() in SUFFIXES and file.name[0] != "." and file.is_file()
            )
            if not files:
                raise ValueError(f"no images in the folder {given}; expected PNG, JPEG, WebP, ...")
        for file in files:
            found.setdefault(file.resolve(), file)
    return list(found.values())


def read_image(path: str | Path, smallest: int = SMALLEST) -> tuple[Tensor, list[str]]:
    """The image in a file, float32 (1, 3, H, W) in [-1, 1], and notes on conversions.

    Reads the first frame, applies the EXIF orientation, composites alpha on white, scales 16-bit
    and floating-point grey, and converts every other mode to RGB. Raises ValueError, in one
    sentence, for a file that is missing, not an image, truncated, smaller than ``smallest`` pixels
    on a side, or that has NaN or infinite values.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; expected an image file")
    if not path.exists():
        raise ValueError(f"no such file: {path}")
    notes: list[str] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on size and metadata.
            with Image.open(path) as image:
                frames = getattr(image, "n_frames", 1)
                if frames > 1:
                    notes.append(f"first of {frames} frames")
                # Pillow reduces 16-bit colour to 8 bits; only the tile layout reveals the depth.
                deep = any("16" in str(tile[3]) for tile in image.tile)
                image.load()
                upright = ImageOps.exif_transpose(image)
                if image.getexif().get(0x0112, 1) != 1:
                    notes.append("turned upright as its EXIF orientation says")
        x = _to_tensor(upright, deep, path, notes)
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is not an image that can be read (PNG, JPEG, ...)") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path} is too large an image; make it smaller first") from error
    except PermissionError as error:
        raise ValueError(f"{path} cannot be read: permission denied") from error
    except ValueError:
        raise
    except Exception as error:  # Decoders raise OSError, SyntaxError, EOFError, struct.error, ...
        raise ValueError(f"{path} is truncated or corrupt ({error})") from error
    if min(x.shape[2:]) < smallest:
        raise ValueError(
            f"{path} is {x.shape[2]}x{x.shape[3]} pixels; expected at least {smallest}x{smallest}"
        )
    return x, notes


def square(x: Tensor, side: int) -> Tensor:
    """The centre of images x (N, 3, H, W), their shorter side resized to ``side``."""
    height, width = x.shape[-2:]
    scale = side / min(height, width)
    if scale != 1:
        size = max(side, round(height * scale)), max(side, round(width * scale))
        x = F.interpolate(x, size=size, mode="bicubic", antialias=True).clamp(-1, 1)
    top, left = (x.shape[-2] - side) // 2, (x.shape[-1] - side) // 2
    return x[..., top : top + side, left : left + side]


def read_grey(path: str | Path) -> Tensor:
    """The mean of red, green and blue of the image in a file, float32 (H, W) from 0 (black) to 1.

    Any size; ValueError as from ``read_image``.
    """
    return (read_image(path, 1)[0][0].mean(0) + 1) / 2


def _to_tensor(image: Image.Image, deep: bool, path: Path, notes: list[str]) -> Tensor:
    mode = image.mode
    if mode == "F" or mode.startswith("I"):
        grey = torch.from_numpy(np.asarray(image).astype(np.float32))
        top = _white_level(grey, mode, path)
        notes.append(
            f"{'floating-point' if mode == 'F' else '16-bit'} grey, {top:g} taken as white"
        )
        return (grey / top * 2 - 1).expand(1, 3, -1, -1).clone()
    if deep:
        notes.append("16 bits per channel reduced to 8")
    if mode not in ("RGB", "RGBA"):
        notes.append(f"{_NAMES.get(mode, mode)} converted to RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
        notes.append("alpha composited on white")
    pixels = np.array(image.convert("RGB"), dtype=np.float32)
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous() / 127.5 - 1


def _white_level(grey: Tensor, mode: str, path: Path) -> float:
    """The value of white in ``grey``: 65535 for integers; 1, 255 or 65535 for floats."""
    if not bool(grey.isfinite().all()):
        raise ValueError(f"{path} holds NaN or infinite values; expected finite ones")
    low, high = float(grey.min()), float(grey.max())
    levels = (1.0, 255.0, 65535.0) if mode == "F" else (65535.0,)
    top = next((level for level in levels if low >= 0 and high <= level), None)
    if top is None:
        raise ValueError(
            f"{path} holds values from {low:g} to {high:g}; expected 0 to {levels[-1]:g}"
        )
    return top


def to_pil(x: Tensor) -> Image.Image:
    """8-bit RGB image of ``x`` (1, 3, H, W) or (3, H, W) in [-1, 1], clamped."""
    x = x.detach().reshape(x.shape[-3:]).float().cpu().clamp(-1, 1)
    return Image.fromarray(((x + 1) * 127.5).round().byte().permute(1, 2, 0).numpy(), "RGB")


def save_png(picture: Tensor | Image.Image, path: str | Path) -> None:
    """Write a PNG atomically: a temporary file replaces ``path`` once it is complete."""
    picture = picture if isinstance(picture, Image.Image) else to_pil(picture)
    part = Path(path).with_name(f".{Path(path).name}.{os.getpid()}.part")
    try:
        picture.save(part, format="PNG")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def sheet(columns: Sequence[tuple[str, Tensor]], per_row: int | None = None) -> Image.Image:
    """Captioned images side by side, all enlarged to the size of the largest by pixel repetition.

    columns: captions and images (1, 3, h, w), or (1, 1, h, w) for grey, in [-1, 1]. per_row: how
    many stand in a row; None: all of them.
    """
    height = max(x.shape[-2] for _, x in columns)
    width = max(x.shape[-1] for _, x in columns)
    zoom = max(1, math.ceil(_COLUMN / width))
    size = (height * zoom, width * zoom)
    gap, line = 8, 18
    across = min(per_row or len(columns), len(columns))
    down = math.ceil(len(columns) / across)
    cell = (size[0] + line + gap, size[1] + gap)
    result = Image.new("RGB", (across * cell[1] + gap, down * cell[0] + gap), "white")
    draw, font = ImageDraw.Draw(result), ImageFont.load_default()
    for k, (caption, x) in enumerate(columns):
        left, top = gap + k % across * cell[1], k // across * cell[0]
        draw.text((left, top + gap // 2), caption, fill="black", font=font)
        x = F.interpolate(x.reshape(1, *x.shape[-3:]).float(), size=size, mode="nearest-exact")
        result.paste(to_pil(x.expand(-1, 3, -1, -1)), (left, top + line + gap))
    return result
