"""How a camera moved between the frames of a film, and frames seen from where another was taken."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FINEST = 256
"""Longest side in pixels at which a motion is estimated; larger frames are shrunk for it."""
COARSEST = 16
STEPS = 8


def _grid(theta: Tensor, height: int, width: int) -> Tensor:
    """Where (N, H, W, 2) the motions (N, 2, 3) lead, in coordinates from -1 to 1."""
    return F.affine_grid(theta, [len(theta), 1, height, width], align_corners=False)


def moved(x: Tensor, theta: Tensor, mode: str = "bicubic") -> Tensor:
    """Frames x (N, C, H, W) as the motions ``theta`` (N, 2, 3) lead to them; beyond the border, the
    border is repeated."""
    where = _grid(theta.to(x), *x.shape[2:])
    return F.grid_sample(x, where, mode=mode, padding_mode="border", align_corners=False)


def inside(theta: Tensor, height: int, width: int) -> Tensor:
    """Where the motions lead to a place inside the frame, bool (N, 1, H, W)."""
    return (_grid(theta, height, width).abs() <= 1).all(-1)[:, None]


def composed(first: Tensor, then: Tensor) -> Tensor:
    """The motion ``first`` followed by ``then``, (N, 2, 3) each."""
    return torch.cat([then[..., :2] @ first[..., :2], then[..., :2] @ first[..., 2:]], -1) + (
        F.pad(then[..., 2:], (2, 0))
    )


def reversed_(theta: Tensor) -> Tensor:
    """The motion back, (N, 2, 3)."""
    inverse = torch.linalg.inv(theta[..., :2])
    return torch.cat([inverse, -inverse @ theta[..., 2:]], -1)


def still(count: int) -> Tensor:
    """The motion of a camera that stands still, (count, 2, 3)."""
    return torch.eye(2, 3).expand(count, 2, 3).clone()


@torch.no_grad()
def camera_motion(fixed: Tensor, other: Tensor) -> Tensor:
    """The affine motion from every frame of ``fixed`` to that of ``other``, (N, 2, 3).

    Both are (N, C, H, W); ``moved(other, motion)`` lies over ``fixed``. Pans, zooms and turns of
    the camera are found by Gauss and Newton's method from coarse to fine, with weights that leave
    out what moves by itself (Lucas and Kanade 1981; Odobez and Bouthemy 1995). Where a step makes
    it worse, as in frames without detail, the last motion is kept.
    """
    a, b = (each.mean(1, keepdim=True).float() for each in (fixed, other))
    a, b = (each - each.mean((2, 3), keepdim=True) for each in (a, b))
    while max(a.shape[2:]) > FINEST:
        a, b = F.avg_pool2d(a, 2, ceil_mode=True), F.avg_pool2d(b, 2, ceil_mode=True)
    levels = [(a, b)]
    while min(levels[-1][0].shape[2:]) >= 2 * COARSEST:
        levels.append(tuple(F.avg_pool2d(each, 2) for each in levels[-1]))  # type: ignore[arg-type]
    theta = still(len(a)).to(a)
    for a, b in reversed(levels):
        theta = _refined(a, b, theta)
    return theta.cpu()


def _refined(a: Tensor, b: Tensor, theta: Tensor) -> Tensor:
    """A motion (N, 2, 3), improved at one size of the frames."""
    height, width = a.shape[2:]
    own = _grid(still(1).to(a), height, width)
    x, y = own[..., 0], own[..., 1]
    least, best = _mismatch(a, b, theta), theta
    for _ in range(STEPS):
        seen = moved(b, theta, "bilinear")
        across = F.pad(seen[..., 2:] - seen[..., :-2], (1, 1))[:, 0] * width / 4
        down = F.pad(seen[..., 2:, :] - seen[..., :-2, :], (0, 0, 1, 1))[:, 0] * height / 4
        slopes = torch.stack([across * x, across * y, across, down * x, down * y, down], -1)
        rest = (a - seen)[:, 0]
        scale = 1.5 * rest.abs().flatten(1).median(1).values.clamp(min=1e-4).view(-1, 1, 1)
        weight = inside(theta, height, width)[:, 0] / (1 + (rest / scale).square())
        slopes, rest = slopes.flatten(1, 2), rest.flatten(1)
        weighted = slopes * weight.flatten(1)[..., None]
        matrix = weighted.mT @ slopes
        # What the frames do not tell stays as it is.
        size = matrix.diagonal(dim1=1, dim2=2).mean(1).view(-1, 1, 1).clamp(min=1e-6)
        matrix = matrix + 1e-3 * size * torch.eye(6).to(a)
        step = torch.linalg.solve(matrix, (weighted.mT @ rest[..., None]))[..., 0]
        # The slopes are those of the frame already moved, so that the step comes first.
        theta = composed(still(len(a)).to(a) + step.view(-1, 2, 3), theta)
        now = _mismatch(a, b, theta)
        better = now < least
        best = torch.where(better.view(-1, 1, 1), theta, best)
        least = torch.minimum(now, least)
    return best


def _mismatch(a: Tensor, b: Tensor, theta: Tensor) -> Tensor:
    """The mean absolute difference where both are seen, (N,); infinite where that is little."""
    seen = inside(theta, *a.shape[2:])
    total = ((a - moved(b, theta, "bilinear")).abs() * seen).flatten(1).sum(1)
    count = seen.flatten(1).sum(1)
    return torch.where(count > 0.3 * seen[0].numel(), total / count.clamp(min=1), torch.inf)
