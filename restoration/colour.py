"""What a file says of its colours, and their conversion to sRGB."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

ADOBE_RGB = (
    (2.04158790, -0.56500697, -0.34473135),
    (-0.96924364, 1.87596750, 0.04155506),
    (0.01344428, -0.11836239, 1.01517499),
)
"""From CIE XYZ (D65) to linear Adobe RGB (1998); Adobe, May 2005, section 4.3.5.3."""
SRGB = (
    (3.2404542, -1.5371385, -0.4985314),
    (-0.9692660, 1.8760108, 0.0415560),
    (0.0556434, -0.2040259, 1.0572252),
)
"""From CIE XYZ (D65) to linear sRGB; IEC 61966-2-1."""
ADOBE_GAMMA = 563 / 256
USUAL_GAMMA = 1 / 2.2
"""That of files whose gamma is sRGB's, near enough."""
EXACT = 0x0100
"""Little CMS computes every colour; else it interpolates, 10 levels wrong in dark linear grey."""
SAME = 2
"""Colours that change by no more than these levels of 255 were sRGB already."""


@dataclass(frozen=True)
class Conversion:
    """Colours called ``name`` to sRGB: ``apply`` makes an RGB picture of one in mode ``mode``."""

    name: str
    mode: str
    apply: Callable[[Image.Image], Image.Image]

    @property
    def changes(self) -> bool:
        """Whether it changes colours visibly."""
        levels = np.linspace(0, 255, 9).round().astype(np.uint8)
        if self.mode == "RGB":
            grid = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(27, 27, 3)
            before = Image.fromarray(grid)
        elif self.mode == "L":
            before = Image.fromarray(levels[None])
        else:
            return True
        after = np.asarray(self.apply(before), int)
        return int(np.abs(after - np.asarray(before.convert("RGB"), int)).max()) > SAME

    def grey(self, values: np.ndarray) -> np.ndarray:
        """Grey ``values`` from 0 to 1, of any depth, in sRGB."""
        ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
        curve = np.asarray(self.apply(ramp), float)[0].mean(-1) / 255
        return np.interp(values, np.arange(256) / 255, curve)


def conversion_of(image: Image.Image, mode: str) -> tuple[Conversion | None, str]:
    """How the pixels of ``image``, in ``mode``, become sRGB, and what cannot be understood of what
    the file says; None where they are sRGB, or nothing is said.

    An ICC profile counts first, then the gamma of a PNG, then Adobe RGB in the EXIF data.
    """
    found, problem = None, ""
    if profile := image.info.get("icc_profile"):
        try:
            found = _of_profile(profile, mode)
        except Exception as error:  # Profiles have as many faults as files.
            problem = f"its colour profile cannot be used ({_first_line(error)}); taken as sRGB"
    elif mode == "LAB":
        found = _of_lab()
    elif (gamma := _gamma(image)) and mode in ("L", "RGB"):
        found = _of_curve(f"gamma {1 / gamma:.2g}", mode, 1 / gamma)
    elif mode == "RGB" and _is_adobe(image):
        matrix = np.array(SRGB) @ np.linalg.inv(np.array(ADOBE_RGB))
        found = _of_curve("Adobe RGB", mode, ADOBE_GAMMA, matrix)
    if found is not None and not found.changes:
        found = None
    return found, problem


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0] or type(error).__name__


def _transform(profile: Any, mode: str) -> Callable[[Image.Image], Image.Image]:
    from PIL import ImageCms

    transform = ImageCms.buildTransform(
        profile,
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=EXACT,  # type: ignore[arg-type]  # Pillow before 10.1 has no Flags.
    )

    def apply(image: Image.Image) -> Image.Image:
        done = ImageCms.applyTransform(image, transform)
        assert done is not None
        return done

    return apply


def _of_profile(content: bytes, mode: str) -> Conversion:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(io.BytesIO(content))
    name = (ImageCms.getProfileDescription(profile) or "").strip() or "an unnamed colour profile"
    return Conversion(name, mode, _transform(profile, mode))


def _of_lab() -> Conversion:
    from PIL import ImageCms

    return Conversion("CIELAB", "LAB", _transform(ImageCms.createProfile("LAB"), "LAB"))


def _gamma(image: Image.Image) -> float | None:
    """The gamma that a PNG without profile states, unless it is the usual one."""
    gamma = image.info.get("gamma")
    if image.format != "PNG" or "srgb" in image.info or not isinstance(gamma, float):
        return None
    return gamma if 0.1 < gamma < 10 and abs(gamma - USUAL_GAMMA) > 0.02 else None


def _interoperability(exif: Image.Exif) -> dict[int, object]:
    """EXIF's tags of that name; of a picture without them, Pillow up to 12.3 raises KeyError."""
    try:
        return exif.get_ifd(0xA005)
    except KeyError:
        return {}


def _is_adobe(image: Image.Image) -> bool:
    """Whether the EXIF data say Adobe RGB, as cameras do that embed no profile (DCF 2.0)."""
    exif = image.getexif()
    space = exif.get_ifd(0x8769).get(0xA001)
    index = str(_interoperability(exif).get(1, "")).strip("\0 ")
    return space == 2 or (index == "R03" and space != 1)


def _of_curve(name: str, mode: str, gamma: float, matrix: np.ndarray | None = None) -> Conversion:
    def apply(image: Image.Image) -> Image.Image:
        light = (np.asarray(image.convert("RGB"), float) / 255) ** gamma
        light = np.clip(light if matrix is None else light @ matrix.T, 0, 1)
        coded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
        return Image.fromarray((255 * coded).round().astype(np.uint8))

    return Conversion(name, mode, apply)
