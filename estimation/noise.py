"""Estimate the noise level of a photo."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..operators.hadamard import cosine
from .checks import check_photos
from .progress import SILENT, Progress

SIDE = 8
"""Side of the blocks, in pixels."""
MOST = 40_000
"""Largest number of blocks that are used of one channel."""
SATURATED = 0.02
"""Blocks with a larger fraction of pixels at black or white are left out."""


def _blocks(plane: Tensor) -> Tensor:
    """Overlapping blocks (K, SIDE, SIDE) of a plane (H, W); the saturated ones only if all are."""
    step = max(3, math.ceil(math.sqrt(plane.numel() / MOST)))
    blocks = plane.unfold(0, SIDE, step).unfold(1, SIDE, step).reshape(-1, SIDE, SIDE)
    saturated = (blocks.abs() >= 1 - 1e-6).double().mean((1, 2)) > SATURATED
    # Flat black and white, as without noise, say as much as any other flat block.
    flat = blocks.amax((1, 2)) == blocks.amin((1, 2))
    kept = blocks[~saturated]
    enough = len(kept) >= max(30, len(blocks) // 50) or bool((saturated & ~flat).any())
    return kept if len(kept) and enough else blocks


@torch.no_grad()
def estimate_noise(x: Tensor, part: float = 0.05, progress: Progress = SILENT) -> Tensor:
    """Standard deviation of the noise of every image and channel, float32 (N, C), on the CPU.

    x is (N, C, H, W) in [-1, 1]. The fraction ``part`` of its 8 x 8 blocks with the least energy in
    low frequencies, where the picture is flat, gives the noise by their high frequencies, which
    the selection did not look at (after Ponomarenko et al. 2007). The noise is assumed to be white;
    JPEG compression makes it look weaker, and texture without any flat area counts as noise.
    ValueError for sides below 16 pixels or values that are not finite.
    """
    check_photos(x, 16)
    if not math.isfinite(float(x.sum())):
        raise ValueError("the image holds NaN or infinite values; expected numbers from -1 to 1")
    transform = cosine(SIDE).double()
    order = torch.arange(SIDE)[:, None] + torch.arange(SIDE)
    low, high = (order > 0) & (order < SIDE - 1), order >= SIDE
    levels = []
    planes = x.detach().cpu().flatten(0, 1)
    for k, plane in enumerate(planes):
        progress(k / len(planes) if k else None)
        found = transform @ _blocks(plane.double()) @ transform.T
        count = min(len(found), max(30, int(part * len(found))))
        flattest = found[:, low].square().sum(1).topk(count, largest=False).indices
        levels.append(found[flattest][:, high].square().mean(0).median().sqrt())
    return torch.stack(levels).view(x.shape[:2]).float()


def overall_noise(x: Tensor, progress: Progress = SILENT) -> float:
    """One noise level for all images and channels of x: the root mean square of theirs."""
    return float(estimate_noise(x, progress=progress).square().mean().sqrt())
