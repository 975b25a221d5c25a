"""Reading and writing of image files, with notes on all conversions."""

from __future__ import annotations

import errno
import glob
import importlib
import io
import itertools
import math
import os
import re
import stat
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any
from uuid import uuid4

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from . import png, tiff
from .colour import Conversion, conversion_of

_KINDS = "avif bmp gif jfif jp2 jpe jpeg jpg pbm pgm png ppm tga tif tiff webp"
SUFFIXES = frozenset(f".{kind}" for kind in _KINDS.split())
"""File name extensions of the pictures in a folder."""
_RAW = "3fr arw cr2 cr3 dng nef orf pef raf rw2 srw"
RAW = frozenset(f".{kind}" for kind in _RAW.split())
"""Those of cameras' raw files, of which Pillow would read the small preview."""
UNREAD = frozenset([".heic", ".heif", ".hif", ".jxl", ".psd"]) | RAW
"""Those of further pictures in a folder, which are read where that is possible, or reported."""
LARGEST = 2 * 2**30
"""Most bytes of a file."""
WINDOWS = os.name == "nt"
TRIES = 20
"""Tenths of a second to wait for a file that another program has open."""
SMALLEST = 16
"""Least height and width of an image in pixels."""

_NAMES = {"1": "black and white", "L": "grey", "LA": "grey", "P": "palette", "PA": "palette"}
_COLUMN = 128  # Least width of a sheet's column, so that its caption fits.


def list_images(inputs: Sequence[str | Path]) -> tuple[list[Path], list[str]]:
    """The files given by ``inputs``, without duplicates, in order, and a sentence for each input
    that gives none; folders yield their pictures, also those that cannot be read here.

    Patterns such as ``*.png`` are understood, as not every console does that. Files are not opened.
    """
    found: dict[str, Path] = {}
    wrong: list[str] = []
    for given in itertools.chain.from_iterable(map(_expanded, map(Path, inputs))):
        try:
            files = _listed(given)
        except OSError as error:
            wrong.append(f"{given} cannot be read ({error.strerror or error})")
            continue
        if not files:
            wrong.append(f"no images in the folder {given}; expected PNG, JPEG, WebP, ...")
        for file in files:
            found.setdefault(os.path.realpath(file), file)
    return list(found.values()), wrong


def is_picture(name: str) -> bool:
    """Whether a file of a folder counts as one of its pictures, by its name."""
    return PurePath(name).suffix.lower() in SUFFIXES | UNREAD and name[0] != "."


def _expanded(given: Path) -> list[Path]:
    """The files that match ``given``, if it is no file and some do; else itself."""
    if glob.has_magic(str(given)) and not os.path.lexists(given):
        return sorted(map(Path, glob.glob(str(given)))) or [given]
    return [given]


def _listed(given: Path) -> list[Path]:
    if not given.is_dir():
        return [given]
    return sorted(f for f in given.iterdir() if is_picture(f.name) and not f.is_dir())


def find_images(inputs: Sequence[str | Path]) -> list[Path]:
    """As ``list_images``; ValueError for an input that gives no files."""
    files, wrong = list_images(inputs)
    if wrong:
        raise ValueError(wrong[0])
    return files


@dataclass(frozen=True)
class Picture:
    """A file that was read.

    pixels: float32 (1, 3, H, W) in [-1, 1], upright, transparent parts on white. notes: what was
    converted. content: the file's bytes. alpha: (H, W), 0 where nothing is, to 1; None: nothing is
    transparent. to_srgb: of the colours of ``pixels``; None: they are sRGB.
    """

    pixels: Tensor
    notes: list[str]
    content: bytes
    alpha: Tensor | None = None
    to_srgb: Conversion | None = None


def read_image(path: str | Path, smallest: int = SMALLEST) -> tuple[Tensor, list[str]]:
    """Pixels and notes of ``read``."""
    picture = read(path, smallest)
    return picture.pixels, picture.notes


def read(
    path: str | Path,
    smallest: int = SMALLEST,
    *,
    srgb: bool = True,
    content: bytes | None = None,
) -> Picture:
    """The picture in a file, or in the bytes that were read from it (``content``).

    Reads the first frame, applies the EXIF orientation, converts colours to sRGB as the file's
    profile, gamma or EXIF data say, puts transparent parts on white, scales grey of 12, 16 and 32
    bits, and converts every other mode to RGB. ``srgb`` False keeps the colours of an RGB file
    as they are, as its compression needs them. Raises ValueError, in one sentence, for a file that
    is missing, no picture, truncated, smaller than ``smallest`` pixels on a side, or that has NaN
    or infinite values.
    """
    path = Path(path)
    content = content_of(path) if content is None else content
    notes: list[str] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on size and metadata.
            with _opened(path, content) as image:
                frames = getattr(image, "n_frames", 1)
                if frames > 1:
                    notes.append(f"first of {frames} frames")
                # Pillow reduces 16-bit colour to 8 bits; only the tile layout reveals the depth.
                deep = any(map(_is_deep, image.tile))
                white = _white_of_pgm(image)
                if image.getexif().get(0x0112) in range(2, 9):
                    notes.append("turned upright as its EXIF orientation says")
                tags = getattr(image, "tag_v2", {})
                bits, ground = tags.get(258, (16,))[0], tags.get(262)
                image.load()
                # Pillow turns a TIFF as it loads it, and before version 10.1 says so nowhere.
                turned = tags.get(0x0112) in range(2, 9)
                upright = image.copy() if turned else ImageOps.exif_transpose(image)
                upright.info = {**image.info, **upright.info}
            if deep:
                notes.append("16 bits per channel reduced to 8")
            told = bits, ground == 0, white
            x, alpha, conversion = _converted(image, upright, told, srgb, path, notes)
    except UnidentifiedImageError as error:
        raise ValueError(_unread(path, content)) from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path} is too large an image; make it smaller first") from error
    except MemoryError as error:
        raise ValueError(f"{path} does not fit into memory; make it smaller first") from error
    except _Refused as error:
        raise ValueError(str(error)) from error
    except Exception as error:  # Decoders raise OSError, SyntaxError, EOFError, struct.error, ...
        raise ValueError(f"{path} is truncated or corrupt ({error})") from error
    if min(x.shape[2:]) < smallest:
        raise ValueError(
            f"{path} is {x.shape[3]}x{x.shape[2]} pixels (width x height); expected at least"
            f" {smallest}x{smallest}"
        )
    return Picture(x, notes, content, alpha, conversion)


class _Refused(ValueError):
    """A picture that is not understood, with the sentence that says so."""


def check_kind(path: str | PurePath, size: int) -> None:
    """ValueError, in one sentence, for a file of ``size`` bytes that is not read at all."""
    if size > LARGEST:
        raise ValueError(
            f"{path} has {size / 2**30:.1f} GiB; expected at most {LARGEST // 2**30}: make it"
            " smaller first"
        )
    if PurePath(path).suffix.lower() in RAW:
        raise ValueError(f"{path} is a camera's raw file; develop it to a PNG or TIFF first")


def content_of(path: Path) -> bytes:
    """The bytes of an ordinary file; ValueError, in one sentence, for anything else."""
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise ValueError(f"{path} is a folder; expected an image file")
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{path} is a pipe or a device; expected an ordinary image file")
        check_kind(path, found.st_size)
        return path.read_bytes()
    except PermissionError as error:
        raise ValueError(f"{path} cannot be read: permission denied") from error
    except (FileNotFoundError, NotADirectoryError) as error:
        if path.is_symlink():
            raise ValueError(f"{path} is a link to nothing") from error
        raise ValueError(f"no such file: {path}") from error
    except (OSError, RuntimeError) as error:
        if path.is_symlink() and getattr(error, "errno", errno.ELOOP) == errno.ELOOP:
            raise ValueError(f"{path} is a link to itself") from error
        why = getattr(error, "strerror", None) or error
        raise ValueError(f"{path} cannot be read ({why})") from error


def _opened(path: Path, content: bytes) -> Image.Image:
    """The picture in ``content``, also of further kinds where a package for them is installed."""
    content, profile = png.readable(content)
    try:
        image = Image.open(io.BytesIO(content))
    except UnidentifiedImageError:
        if (inverted := tiff.black_is_zero(content)) is not None:
            image = Image.open(io.BytesIO(inverted))
            image.tag_v2[tiff.PHOTOMETRIC] = 0  # type: ignore[attr-defined]
            return image
        try:
            plugin = importlib.import_module(PLUGINS[_kind(path, content)].replace("-", "_"))
        except (KeyError, ImportError):
            plugin = None
        if plugin is None:
            raise
        getattr(plugin, "register_heif_opener", lambda: None)()
        image = Image.open(io.BytesIO(content))
    if profile:
        image.info["icc_profile"] = profile
    return image


PLUGINS = {"HEIC": "pillow-heif", "JPEG XL": "pillow-jxl"}
"""Packages that teach Pillow further kinds of files."""
_PIP = {"pillow-jxl": "pillow-jxl-plugin"}


def _kind(path: Path, content: bytes) -> str:
    """The kind of a file that Pillow alone does not read, by its first bytes; empty if unknown."""
    brands = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
    if content[4:8] == b"ftyp" and content[8:12] in brands:
        return "HEIC"
    if content[:2] == b"\xff\x0a" or content[:12] == b"\0\0\0\x0cJXL \r\n\x87\n":
        return "JPEG XL"
    if content[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    return ""


def _unread(path: Path, content: bytes) -> str:
    kind = _kind(path, content)
    if kind in PLUGINS:
        package = _PIP.get(PLUGINS[kind], PLUGINS[kind])
        return f"{path} is {kind}, which needs a package: pip install {package}; or save it as JPEG"
    if kind == "TIFF":
        return (
            f"{path} is a TIFF with pixels of a kind that cannot be read; save it with 8 or 16 bits"
            " per channel"
        )
    return f"{path} is not an image that can be read (PNG, JPEG, ...)"


def _is_deep(tile: Any) -> bool:
    """Whether a tile has 16 bits per colour channel, by the name of its layout."""
    given = tile[3]
    layout = given[0] if isinstance(given, tuple | list) and given else given
    if str(tile[0]).startswith("ppm") and isinstance(given, tuple):
        return layout in ("RGB", "RGBA", "CMYK") and given[-1] > 255
    return re.match(r"(RGB|RGBA|RGBX|RGBa|CMYK|LA|LAB|YCbCr);16", str(layout)) is not None


def _white_of_pgm(image: Image.Image) -> int | None:
    """The number that a PGM of more than 8 bits states for white, which Pillow scales to 65535."""
    tiles: list[Any] = getattr(image, "tile", [])
    if image.mode != "I" or not tiles or tiles[0][0] != "ppm":
        return None
    given = tiles[0][3]
    return int(given[-1]) if isinstance(given, tuple) else None


def _converted(
    image: Image.Image,
    upright: Image.Image,
    told: tuple[int, bool, int | None],
    srgb: bool,
    path: Path,
    notes: list[str],
) -> tuple[Tensor, Tensor | None, Conversion | None]:
    """Pixels, alpha, and the conversion to sRGB that is left to do; see ``Picture``.

    told: what the file says of grey; see ``_grey``.
    """
    mode = upright.mode
    deep = mode == "F" or mode.startswith("I")
    base = {"1": "L", "L": "L", "LA": "L", "La": "L", "CMYK": "CMYK", "LAB": "LAB"}.get(mode, "RGB")
    conversion, problem = conversion_of(image, "L" if deep else base)
    if problem:
        notes.append(problem)
    if deep:
        grey = _grey(upright, *told, path, notes)
        if conversion is not None:
            grey = conversion.grey(grey)
            notes.append(f"{conversion.name} converted to sRGB")
        found = torch.from_numpy(grey.astype(np.float32))
        return (found * 2 - 1).expand(1, 3, -1, -1).clone(), None, None
    if mode not in ("RGB", "RGBA"):
        notes.append(f"{_NAMES.get(mode, mode)} converted to RGB")
    alpha = _alpha(upright)
    if base == "RGB" and mode != "RGB":
        # Through RGBA, as the transparent colour of a palette is else not told apart.
        upright = upright.convert("RGBA").convert("RGB") if alpha else upright.convert("RGB")
    elif mode != base:
        upright = (upright.convert("LA") if mode == "La" else upright).convert(base)
    left = None
    if conversion is not None and not srgb and base == "RGB":
        notes.append(f"colours are those of the file, {conversion.name}")
        left = conversion
    elif conversion is not None:
        upright = conversion.apply(upright)
        notes.append(f"{conversion.name} converted to sRGB")
    upright = upright.convert("RGB")
    if alpha is None:
        return _tensor(upright), None, left
    upright.putalpha(alpha)
    white = Image.new("RGBA", upright.size, "white")
    notes.append("alpha composited on white")
    kept = torch.from_numpy(np.asarray(alpha, dtype=np.float32) / 255)
    return _tensor(Image.alpha_composite(white, upright).convert("RGB")), kept, left


def _alpha(image: Image.Image) -> Image.Image | None:
    """How opaque the pixels are, in mode L; None if all of them are."""
    if not {"A", "a"} & set(image.getbands()) and "transparency" not in image.info:
        return None
    alpha = image.convert("RGBA").getchannel("A")
    return alpha if np.asarray(alpha).min() < 255 else None


def _tensor(image: Image.Image) -> Tensor:
    pixels = np.array(image, dtype=np.float32)
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous() / 127.5 - 1


def _grey(
    image: Image.Image, bits: int, inverted: bool, white: int | None, path: Path, notes: list[str]
) -> np.ndarray:
    """Grey of more than 8 bits as numbers from 0 (black) to 1 (white). inverted: 0 is white. white:
    what stands for white in the file, where Pillow has scaled it.
    """
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise _Refused(f"{path} holds NaN or infinite values; expected finite ones")
    low, high = float(values.min()), float(values.max())
    floating = image.mode == "F"
    top = _float_white(low, high) if floating else _integer_white(low, high, bits)
    if top is None:
        expected = "about 0 to 1, 255 or 65535" if floating else "0 to 65535"
        raise _Refused(f"{path} holds values from {low:g} to {high:g}; expected {expected}")
    kind = "floating-point" if floating else f"{int(white or top).bit_length()}-bit"
    notes.append(
        f"{kind} grey, {'0' if inverted else f'{white or top:g}'} taken as white"
        + (f" and {top:g} as black" if inverted else "")
    )
    if low < 0 or high > top:
        notes.append(f"values from {low:g} to {high:g} clipped to 0 to {top:g}")
    values = np.clip(values / top, 0, 1)
    return 1 - values if inverted else values


def _integer_white(low: float, high: float, bits: int) -> float | None:
    """The value of white, which the number of bits tells; None if the values lie outside."""
    top = float(2**bits - 1) if 8 < bits <= 16 else 65535.0
    return top if low >= 0 and high <= top else None


def _float_white(low: float, high: float) -> float | None:
    """The value of white: 1, 255 or 65535, around which the largest values lie; None if that cannot
    be told, or if much is below black.
    """
    top = next((t for t in (1.0, 255.0, 65535.0) if high <= 1.5 * t), None)
    if top is None or low < -0.1 * top or (top > 1 and high < top / 16):
        return None
    return top


def in_srgb(x: Tensor, conversion: Conversion | None) -> Tensor:
    """A picture x (1, 3, H, W) in [-1, 1] in sRGB; ``conversion`` is that of its colours."""
    return x if conversion is None else _tensor(conversion.apply(to_pil(x)))


def square(x: Tensor, side: int) -> Tensor:
    """The centre of images x (N, 3, H, W), their shorter side resized to ``side``."""
    height, width = x.shape[-2:]
    scale = side / min(height, width)
    if scale != 1:
        size = max(side, round(height * scale)), max(side, round(width * scale))
        x = F.interpolate(x, size=size, mode="bicubic", antialias=True).clamp(-1, 1)
    top, left = (x.shape[-2] - side) // 2, (x.shape[-1] - side) // 2
    return x[..., top : top + side, left : left + side]


def to_pil(x: Tensor) -> Image.Image:
    """8-bit RGB image of ``x`` (1, 3, H, W) or (3, H, W) in [-1, 1], clamped."""
    x = x.detach().reshape(x.shape[-3:]).float().cpu().clamp(-1, 1)
    return Image.fromarray(((x + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())


def as_png(picture: Tensor | Image.Image, text: Mapping[str, str] | None = None) -> bytes:
    """The PNG file of a picture; ``text``: what it carries beside the pixels, in Latin-1."""
    picture = picture if isinstance(picture, Image.Image) else to_pil(picture)
    said = PngInfo()
    for key, value in (text or {}).items():
        said.add_text(key, value)
    stream = io.BytesIO()
    picture.save(stream, format="PNG", pnginfo=said)
    return stream.getvalue()


def write_file(path: Path, content: bytes) -> None:
    """Write a file atomically: a temporary file replaces ``path`` once it is complete."""
    # Short, so that the name fits wherever that of ``path`` does.
    part = path.with_name(f".flowdps-{os.getpid()}-{uuid4().hex[:8]}.part")
    try:
        part.write_bytes(content)
        _replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _replace(part: Path, path: Path) -> None:
    """Rename ``part`` to ``path``. On Windows, a scanner or a viewer may have the old file open for
    a moment; PermissionError if it is longer.
    """
    for _ in range(TRIES if WINDOWS else 0):
        try:
            part.replace(path)
            return
        except PermissionError:
            time.sleep(0.1)
    part.replace(path)


def save_png(
    picture: Tensor | Image.Image, path: str | Path, text: Mapping[str, str] | None = None
) -> None:
    """Write a PNG atomically; ``text`` as in ``as_png``."""
    write_file(Path(path), as_png(picture, text))


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
