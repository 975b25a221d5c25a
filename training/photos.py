"""Folders of photographs as training data: reading, splitting, and crops at several scales."""

from __future__ import annotations

import fnmatch
import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from ..restoration import images

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"}
LONG_SIDE = 1024
"""Larger pictures are shrunk to this many pixels: a phone's full resolution is mostly blur."""
MEMORY = 4 * 1024**3
"""At most this many bytes of decoded pictures are held."""
HELD_OUT = 0.05
NEAR_DUPLICATE_MSE = 0.001


@dataclass(frozen=True)
class Photo:
    """One picture: its path below the folder, ``/`` between parts, and uint8 (3, H, W) pixels."""

    name: str
    pixels: Tensor

    @property
    def short_side(self) -> int:
        return min(self.pixels.shape[1:])


def read(path: Path) -> Tensor:
    """uint8 (3, H, W) in sRGB, on white, turned as the camera says, at most ``LONG_SIDE`` pixels
    long. Raises ValueError, in one sentence, for a file that cannot be read.
    """
    turned = _plain(path)
    if turned is None:
        turned = images.to_pil(images.read(path, 1).pixels)
    if max(turned.size) > LONG_SIDE:
        turned.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(turned)).permute(2, 0, 1).contiguous()


def _plain(path: Path) -> Image.Image | None:
    """A JPEG without a colour profile; None for all other files, which take longer."""
    try:
        with Image.open(path) as image:
            plain = image.format == "JPEG" and image.mode in ("L", "RGB")
            if not plain or image.info.get("icc_profile"):
                return None
            # Lets the JPEG decoder itself halve what is far too large.
            image.draft("RGB", (LONG_SIDE, LONG_SIDE))
            return ImageOps.exif_transpose(image).convert("RGB")
    except Exception:  # ``images.read`` has the sentence.
        return None


def held_out_by_content(path: Path) -> bool:
    """Whether a file is held out: 5 % are, chosen by what they contain, not by their names."""
    digest = hashlib.sha256(path.read_bytes()).digest()
    return int.from_bytes(digest[:4], "big") < HELD_OUT * 2**32


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _thumbnails(photos: Sequence[Photo]) -> Tensor:
    """(N, 768) in [0, 1]: every picture squeezed to 16x16 pixels."""
    small = [F.interpolate(p.pixels[None].float(), (16, 16), mode="area") for p in photos]
    return torch.cat(small).flatten(1) / 255


def load(
    folder: Path, held_out: Sequence[str] = (), exclude: Sequence[str] = ()
) -> tuple[list[Photo], list[Photo]]:
    """Pictures below ``folder`` to train on, and those that are held out for tuning.

    ``held_out`` and ``exclude`` are patterns for names such as ``scenes/*[05].jpg``; what is
    excluded is in neither list. Without ``held_out``, 5 % of the pictures are chosen by a hash of
    their content (at least one). Pictures that look the same as a held-out one do not train.
    """
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    names = {file: file.relative_to(folder).as_posix() for file in files}
    files = [file for file in files if not _matches(names[file], exclude)]
    if len(files) < 2:
        raise ValueError(f"{folder} has {len(files)} pictures to train on; at least 2 are needed")
    if held_out:
        chosen = {file for file in files if _matches(names[file], held_out)}
    else:
        chosen = {file for file in files if held_out_by_content(file)} or {files[0]}
    # Spread evenly over the folder, should they not all fit.
    order = sorted(files, key=lambda file: hashlib.sha256(names[file].encode()).digest())
    train: list[Photo] = []
    tune: list[Photo] = []
    held = 0
    for file in order:
        try:
            photo = Photo(names[file], read(file))
        except ValueError as error:
            print(f"left out: {error}")
            continue
        held += photo.pixels.numel()
        if held > MEMORY:
            print(f"{len(files) - len(train) - len(tune)} pictures do not fit in memory: left out")
            break
        (tune if file in chosen else train).append(photo)
    if not held_out and not tune and len(train) > 1:  # The only one cannot be read.
        train.sort(key=lambda p: p.name, reverse=True)
        tune.append(train.pop())
    if not tune or not train:
        raise ValueError(f"{len(train)} pictures to train on and {len(tune)} held out in {folder}")
    distance = torch.cdist(_thumbnails(train), _thumbnails(tune)).square() / 768
    apart = (distance.amin(1) > NEAR_DUPLICATE_MSE).tolist()
    train = [photo for photo, keep in zip(train, apart, strict=True) if keep]
    return sorted(train, key=lambda p: p.name), sorted(tune, key=lambda p: p.name)


def crop(
    pixels: Tensor, height: int, width: int, scale: float, generator: torch.Generator
) -> Tensor:
    """A random window of uint8 (3, H, W), shrunk by ``scale`` >= 1 to (3, height, width)."""
    high, wide = round(height * scale), round(width * scale)
    y = int(torch.randint(pixels.shape[1] - high + 1, (), generator=generator))
    x = int(torch.randint(pixels.shape[2] - wide + 1, (), generator=generator))
    window = pixels[:, y : y + high, x : x + wide]
    if (high, wide) == (height, width):
        return window
    small = F.interpolate(
        window[None].float(), (height, width), mode="bilinear", antialias=True, align_corners=False
    )
    return small[0].round().clamp(0, 255).to(torch.uint8)


class Crops:
    """Random crops of photographs, flipped half of the time.

    A photo is drawn in proportion to its pixels. Half of the crops show it at full resolution,
    the others shrunk by a factor that is log-uniform up to where the whole picture is seen.
    """

    def __init__(self, photos: Sequence[Photo], full_resolution: float = 0.5):
        self.photos = photos
        self.full_resolution = full_resolution

    def draw(self, count: int, side: int, generator: torch.Generator) -> Tensor:
        """uint8 (count, 3, side, side), from photos whose short side is at least ``side``."""
        fitting = [p for p in self.photos if p.short_side >= side]
        if not fitting:
            raise ValueError(f"no picture is {side} pixels high and wide")
        weights = torch.tensor([p.pixels.numel() for p in fitting], dtype=torch.float64)
        chosen = torch.multinomial(weights, count, replacement=True, generator=generator)
        result = []
        for index in chosen.tolist():
            pixels = fitting[index].pixels
            draw = torch.rand(3, generator=generator).tolist()
            most = fitting[index].short_side / side
            scale = 1.0 if draw[0] < self.full_resolution else math.exp(draw[1] * math.log(most))
            patch = crop(pixels, side, side, scale, generator)
            result.append(patch.flip(-1) if draw[2] < 0.5 else patch)
        return torch.stack(result)


def fixed_crops(photos: Sequence[Photo], side: int, count: int) -> Tensor:
    """uint8 (count, 3, side, side): the same crops every time, for measuring.

    They are spread evenly over the photos; every second crop is at full resolution, the others
    show a photo shrunk by two where it is large enough.
    """
    fitting = [p for p in photos if p.short_side >= side]
    if not fitting:
        raise ValueError(f"no held-out picture is {side} pixels high and wide")
    result = []
    for k in range(count):
        photo = fitting[k * max(1, len(fitting) // count) % len(fitting)]
        scale = 2.0 if k % 2 and photo.short_side >= 2 * side else 1.0
        generator = torch.Generator().manual_seed(k)
        result.append(crop(photo.pixels, side, side, scale, generator))
    return torch.stack(result)
