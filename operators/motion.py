"""Motion blur along a random camera trajectory."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from .linear.convolution import convolution
from .linear.linear_operator import LinearOperator
from .operator import Shape
from .recipe import WIDEST, Recipe, check_boundary, check_seed, positive_integer

__all__ = ["MotionBlur"]


def _uniform(g: torch.Generator, low: float = 0.0, high: float = 1.0) -> float:
    return low + (high - low) * float(torch.rand((), generator=g, dtype=torch.float64))


def _beta(g: torch.Generator, a: int, b: int) -> float:
    """A Beta(a, b) number for integers a, b: the a-th smallest of a + b − 1 uniform numbers."""
    draws = torch.rand(a + b - 1, generator=g, dtype=torch.float64)
    return float(draws.sort().values[a - 1])


def _triangular(g: torch.Generator, low: float, mode: float, high: float) -> float:
    u, part = _uniform(g), (mode - low) / (high - low)
    if u < part:
        return low + math.sqrt(u * (high - low) * (mode - low))
    return high - math.sqrt((1 - u) * (high - low) * (high - mode))


def trajectory(size: int, intensity: float, seed: int) -> Tensor:
    """Points (P, 2) of a random path on a canvas of side 2 ``size``, float64, with mean 0.

    Length, steps and angles follow the distributions of the published motion kernels. ``intensity``
    is from 0 (straight) to 1 (shaky).
    """
    g = torch.Generator().manual_seed(seed)
    diagonal = 2 * size * math.sqrt(2)
    length = 0.75 * diagonal * (_uniform(g) + _uniform(g, 0, intensity**2))
    steps: list[float] = []
    while sum(steps) < length or len(steps) < 2:
        steps.append(_beta(g, 1, 30) * (1 - intensity + 0.1) * diagonal)
    largest, jitter = _uniform(g, 0, intensity * math.pi), _beta(g, 2, 20)
    angle, sign, headings = 0.0, 1.0, []
    for _ in steps:
        turn = _triangular(g, 0.0, intensity * largest, largest + 0.1)
        sign = -sign if _uniform(g) < jitter else sign
        angle += sign * turn
        headings.append(angle)
    moves = torch.tensor(
        [[s * math.cos(a), s * math.sin(a)] for s, a in zip(steps, headings, strict=True)],
        dtype=torch.float64,
    )
    points = torch.cat([moves.new_zeros(1, 2), moves.cumsum(0)])
    # Dense sampling, so that the weight of every segment is proportional to its length.
    parts = [
        a + (b - a) * torch.linspace(0, 1, 2 + int(4 * (b - a).norm()))[:-1, None].double()
        for a, b in itertools.pairwise(points)
    ]
    path = torch.cat(parts)
    spin = _uniform(g, 0, 2 * math.pi)
    turn = torch.tensor(
        [[math.cos(spin), -math.sin(spin)], [math.sin(spin), math.cos(spin)]], dtype=torch.float64
    )
    return (path - path.mean(0)) @ turn.T


def motion_kernel(size: int, intensity: float = 0.5, seed: int = 0) -> Tensor:
    """Kernel (size, size) of a random ``trajectory``, float64, sum 1, centre of mass at size // 2.

    The path is scaled down to fit if need be, drawn anti-aliased and slightly blurred.
    """
    if size < 3:
        return torch.ones(1, 1, dtype=torch.float64) if size == 1 else _delta(size)
    path = trajectory(size, intensity, seed) / 2
    room = (size - 1) / 2 - (1 if size > 3 else 0.5) - (0.5 if size % 2 == 0 else 0)
    path = path * min(1.0, room / max(float(path.abs().max()), 1e-9))
    place = path + size // 2
    base = place.floor()
    kernel = torch.zeros(size, size, dtype=torch.float64)
    for dy in (0, 1):
        for dx in (0, 1):
            cell = base + torch.tensor([dy, dx], dtype=torch.float64)
            weight = (1 - (place - cell).abs()).clamp(0).prod(1)
            index = cell.long().clamp(0, size - 1)
            kernel.index_put_((index[:, 0], index[:, 1]), weight, accumulate=True)
    soft = torch.tensor([0.1, 0.8, 0.1], dtype=torch.float64)
    kernel = F.conv2d(kernel[None, None], (soft[:, None] * soft)[None, None], padding=1)[0, 0]
    return kernel / kernel.sum()


def _delta(size: int) -> Tensor:
    kernel = torch.zeros(size, size, dtype=torch.float64)
    kernel[size // 2, size // 2] = 1
    return kernel


@dataclasses.dataclass(frozen=True)
class MotionBlur(Recipe):
    """Blur along a random path drawn from ``seed``, with ``size`` x ``size`` taps; see
    ``motion_kernel``. ``intensity`` is from 0 (straight) to 1 (shaky).

    ValueError for a size below 1 or an intensity outside 0 to 1.
    """

    size: int = 61
    intensity: float = 0.5
    seed: int = 0
    boundary: str = "symmetric"
    name: ClassVar[str] = "deblur_motion"

    def __post_init__(self) -> None:
        size = positive_integer(self.size, "the kernel size of deblur_motion", WIDEST)
        if not 0 <= self.intensity <= 1:
            raise ValueError(f"intensity is {self.intensity}; expected 0 (straight) to 1 (shaky)")
        check_boundary(self.boundary)
        check_seed(self.seed)
        object.__setattr__(self, "size", size)

    def kernel(self) -> Tensor:
        """The kernel, float64 (size, size)."""
        return motion_kernel(self.size, self.intensity, self.seed)

    def _bind(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> LinearOperator:
        return convolution(shape, self.kernel(), self.boundary, device, dtype)
