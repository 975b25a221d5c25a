"""Find thin scratches, dust and creases in a photo."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..operators.blurs import line
from ..operators.linear.transforms import fast_length
from .checks import check_photo
from .progress import SILENT, Progress

LENGTH = 17
"""Length in pixels of the lines along which a scratch is summed."""
ANGLES = 16
AROUND = 65
"""Width in pixels of the neighbourhood whose texture a scratch must stand out of."""
LOW = 0.5
"""Fraction of the threshold at which a scratch that was found goes on."""
STEPS = 24
"""Number of pixels by which a found scratch can grow along its faint ends."""
LARGEST = 2_000_000
"""Pixels from which on a photo is looked at in bands, to bound the memory."""
BAND = 512


def _opened(x: Tensor, reach: int) -> Tensor:
    """Greatest surface below x (1, 1, H, W) that squares of ``2 reach + 1`` pixels can touch."""
    side = 2 * reach + 1
    least = -F.max_pool2d(F.pad(-x, [reach] * 4, value=-math.inf), side, 1)
    return F.max_pool2d(F.pad(least, [reach] * 4, value=-math.inf), side, 1)


def _along(thin: Tensor, progress: Progress) -> Tensor:
    """The mean of ``thin`` (1, 1, H, W) along lines of ``ANGLES`` directions, (1, ANGLES, H, W)."""
    kernels = [line(LENGTH, 180 * k / ANGLES).float() for k in range(ANGLES)]
    most = max(max(kernel.shape) for kernel in kernels) // 2
    padded = F.pad(thin, [most] * 4, mode="replicate")
    size = [fast_length(n) for n in padded.shape[2:]]
    spectrum = torch.fft.rfft2(padded[0, 0], s=size)
    found = []
    for kernel in kernels:
        progress()
        canvas = torch.zeros(size)
        canvas[: kernel.shape[0], : kernel.shape[1]] = kernel
        canvas = canvas.roll([-(n // 2) for n in kernel.shape], (0, 1))
        summed = torch.fft.irfft2(spectrum * torch.fft.rfft2(canvas), s=size)
        found.append(summed[most : most + thin.shape[2], most : most + thin.shape[3]])
    return torch.stack(found)[None]


def _blurred(x: Tensor, side: int) -> Tensor:
    reach = min(side // 2, min(x.shape[2:]) - 1)
    return F.avg_pool2d(F.pad(x, [reach] * 4, mode="reflect"), 2 * reach + 1, 1)


def _grown(seed: Tensor, within: Tensor) -> Tensor:
    """``seed`` grown by up to ``STEPS`` pixels ``within``; both (1, 1, H, W) of 0 and 1."""
    for _ in range(STEPS):
        bigger = F.max_pool2d(seed, 3, 1, 1) * within
        if bool((bigger == seed).all()):
            break
        seed = bigger
    return seed


def _found(grey: Tensor, thickness: int, threshold: float, progress: Progress) -> Tensor:
    """Scratches, (1, 1, H, W) of 0 and 1, in a grey photo (1, 1, H, W)."""
    reach = (thickness + 1) // 2
    noise = 1.4826 * (grey[..., 1:] - grey[..., :-1]).abs().median() / math.sqrt(2)
    result = torch.zeros_like(grey)
    for k, sign in enumerate((1.0, -1.0)):
        progress(k / 2)
        g = sign * grey
        thin = g - _opened(g, reach)
        along = _along(thin, progress)
        strongest, at = along.max(1, keepdim=True)
        # Texture is thin in all directions, a scratch in one.
        across = along.gather(1, (at + ANGLES // 2) % ANGLES)
        progress()
        texture = _blurred(thin, AROUND)
        progress()
        score = (strongest - across) / (0.01 + 0.5 * noise + 1.5 * texture)
        seed = ((score > threshold) & (thin > strongest / 2)).float()
        within = ((score > LOW * threshold) & (thin > 0.3 * strongest)).float()
        result = torch.maximum(result, _grown(seed, within))
    return result


@torch.no_grad()
def find_scratches(
    x: Tensor, sensitivity: float = 0.5, thickness: int = 5, progress: Progress = SILENT
) -> Tensor:
    """Where one photo x (1, C, H, W) in [-1, 1] is scratched: float32 (H, W), 1 there, else 0.

    A scratch is brighter or darker than both its sides, at most ``thickness`` pixels wide, and
    longer than it is wide; it must stand out of the texture around it. ``sensitivity``, 0 to 1: a
    higher one finds fainter scratches and takes more hairs, wires and edges for one. The mask is
    one pixel wider than what was found. ``progress`` may stop it. ValueError for values out of
    range, and for another shape.
    """
    check_photo(x, 32)
    if not 0 <= sensitivity <= 1:
        raise ValueError(f"the sensitivity is {sensitivity}; expected a number from 0 to 1")
    if not 1 <= thickness <= 25:
        raise ValueError(f"the thickness is {thickness}; expected 1 to 25 pixels")
    grey = x.detach().float().cpu().mean(1, keepdim=True)
    threshold = 8.0 * 0.125**sensitivity
    height, width = grey.shape[2:]
    if height * width <= LARGEST:
        mask = _found(grey, thickness, threshold, progress)
    else:
        margin = AROUND + LENGTH + STEPS
        mask = torch.zeros_like(grey)
        for top in range(0, height, BAND):
            first, last = max(0, top - margin), min(height, top + BAND + margin)
            end = min(height, top + BAND)
            within = progress.part(top / height, end / height)
            part = _found(grey[:, :, first:last], thickness, threshold, within)
            mask[:, :, top:end] = part[:, :, top - first : end - first]
    return F.max_pool2d(mask, 3, 1, 1)[0, 0]
