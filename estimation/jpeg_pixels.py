"""How a picture was compressed as JPEG, from its pixels alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..operators.hadamard import cosine
from ..operators.jpeg import SUBSAMPLING, Jpeg
from ..operators.jpeg_tables import CHROMA, LUMA, scaled
from ..operators.orientation import stored
from .checks import check_photo
from .progress import SILENT, Progress

MOST = 4000
"""Largest number of blocks that are looked at."""
ROUNDING = 0.35
"""Standard deviation of a coefficient of luma after the picture was rounded to 8 bits a colour."""
OUTLIERS = 0.05
"""Fraction of the coefficients that may be off, as where pixels were clipped."""
LEAST_GAIN = 0.15
"""Smallest gain in log-likelihood per used coefficient for which a compression is accepted."""
LEAST_COUNT = 60
"""Smallest number of coefficients away from zero that can show their steps."""
FULL_CHROMA = 0.6
"""Largest ratio of misfits, full chroma over halved, for which chroma counts as not halved."""
HELD = (1, 3, 6, 8)
"""The EXIF orientations of cameras: the blocks of a photo that was turned upright start at another
edge, and its tables are turned with it."""


@dataclass(frozen=True)
class JpegPixels:
    """``recipe`` does to a picture what its compression did, with the usual tables of ``quality``;
    ``gain`` is the log-likelihood per coefficient over no compression.
    """

    recipe: Jpeg
    quality: int
    gain: float

    def __str__(self) -> str:
        return f"JPEG, quality {self.quality}, {self.recipe.subsampling}, by its blocks"


def _blocks(planes: Tensor) -> Tensor:
    """The blocks (K, C, 8, 8) of planes (C, H, W) in 0..255."""
    height, width = (8 * (n // 8) for n in planes.shape[1:])
    blocks = planes[:, :height, :width].unfold(1, 8, 8).unfold(2, 8, 8)
    return blocks.movedim(0, 2).reshape(-1, len(planes), 8, 8)


def _coefficients(planes: Tensor) -> Tensor:
    """Coefficients (K, 64), row by row, of the blocks of planes (C, H, W) in 0..255."""
    transform = cosine(8).double()
    return (transform @ (_blocks(planes).flatten(0, 1) - 128) @ transform.T).flatten(1)


def _gain(found: Tensor, table: tuple[int, ...], spread: float) -> tuple[float, int]:
    """Log-likelihood of coefficients (K, 64) as multiples of the steps, over a smooth density; and
    the number of coefficients that it rests on.

    Only what lies beyond half a step says anything: around zero, a smooth picture and a rounded
    one look alike.
    """
    steps = torch.tensor(table, dtype=torch.float64)
    used = (found.abs() > 0.75 * steps) & (steps > 6 * spread)
    used[:, 0] &= steps[0] > 6 * spread
    off = found - steps * (found / steps).round()
    normal = torch.exp(-off.square() / (2 * spread**2)) / (spread * math.sqrt(2 * math.pi))
    likely = ((1 - OUTLIERS) * normal + OUTLIERS / steps).log() + steps.log()
    # What would round to a step, and lies between zero and the first step, speaks against it.
    between = (found.abs() > 4 * spread) & (found.abs() <= 0.75 * steps) & (steps > 6 * spread)
    counted = used | between
    return float(likely[counted].sum()), int(used.sum())


@torch.no_grad()
def jpeg_from_pixels(x: Tensor, progress: Progress = SILENT) -> JpegPixels | None:
    """The compression of one photo x (1, 3, H, W) in [-1, 1]; None if none shows.

    The coefficients of a JPEG are multiples of its steps (after Fan and de Queiroz 2003); tried are
    the usual tables of the Independent JPEG Group. The photo must be as it came out of the file:
    of 8 bits a colour, not resized, not cropped but where the blocks end, and not saved again at a
    higher quality; it may have been turned upright. Found were qualities up to 95.

    ``progress`` may stop it. ValueError for another shape.
    """
    check_photo(x, 16)
    if x.shape[1] != 3:
        raise ValueError(f"the photo has {x.shape[1]} channels; expected red, green and blue")
    whole = ((x.cpu().double() + 1) * 127.5).clamp(0, 255)
    for k, orientation in enumerate(HELD):
        part = progress.part(k / len(HELD), (k + 1) / len(HELD))
        if (told := _told(stored(whole, orientation)[0], orientation, part)) is not None:
            return told
    return None


def _told(bytes_: Tensor, orientation: int, progress: Progress) -> JpegPixels | None:
    """The compression of a picture (3, H, W) in 0..255 as its file holds it."""
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    luma = torch.einsum("c,chw->hw", weights, bytes_)
    blocks = _blocks(bytes_)
    # Clipped colours are no multiples any more.
    whole = ((blocks > 0.5) & (blocks < 254.5)).flatten(1).all(1)
    found = _coefficients(luma[None])[whole]
    found = found[:: max(1, math.ceil(len(found) / MOST))]
    best, most, count = 0, 0.0, 0
    for quality in range(2, 99):
        progress((quality - 2) / 97)
        gain, used = _gain(found, scaled(LUMA, quality), ROUNDING)
        if gain > most and used >= LEAST_COUNT:
            best, most, count = quality, gain, used
    if not best or most < LEAST_GAIN * count:
        return None
    subsampling = _subsampling(bytes_, luma, best)
    recipe = Jpeg(best, subsampling, orientation=orientation)
    return JpegPixels(recipe, best, most / count)


def _subsampling(bytes_: Tensor, luma: Tensor, quality: int) -> str:
    """4:4:4 if the full planes of chroma are multiples of their steps, else the usual 4:2:0."""
    chroma = [(bytes_[2] - luma) / 1.772 + 128, (bytes_[0] - luma) / 1.402 + 128]
    table = scaled(CHROMA, quality)

    def misfit(planes: list[Tensor]) -> float:
        found = torch.cat([_coefficients(plane[None]) for plane in planes])
        steps = torch.tensor(table, dtype=torch.float64)
        used = found.abs() > 0.75 * steps
        if int(used.sum()) < LEAST_COUNT // 10:
            return math.inf
        off = (found / steps - (found / steps).round()).abs()
        return float(off[used].mean())

    halved = [F.avg_pool2d(plane[None, None], 2)[0, 0] for plane in chroma]
    full, half = misfit(chroma), misfit(halved)
    names = list(SUBSAMPLING)
    return names[0] if full < FULL_CHROMA * half else names[-1]
