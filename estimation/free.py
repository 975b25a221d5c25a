"""A kernel of any shape, from the photo alone."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..operators.transforms import fast_length

LARGEST = 61
"""Taps a side of the kernel."""
EDGES, FALL, LEAST = 0.02, 0.8, 0.001
"""Weight of an edge in the sharp image at first, how it falls, and where it stays."""
RIDGE = 0.05
"""Weight of the kernel's own energy, as a part of the mean power of the gradients."""
ROUNDS = 6
CUT = 0.05
"""Taps below this part of the largest are noise."""


def _response(kernel: Tensor, size: tuple[int, int]) -> Tensor:
    canvas = torch.zeros(size, dtype=torch.float64)
    canvas[: kernel.shape[0], : kernel.shape[1]] = kernel
    return torch.fft.rfft2(canvas.roll([-(k // 2) for k in kernel.shape], (0, 1)))


def _wrapped(y: Tensor, reach: int) -> Tensor:
    """y (H, W) continued so that it may be repeated: each side fades into the opposite one."""
    for dim in (0, 1):
        n = y.shape[dim]
        extra = fast_length(n + 2 * reach) - n
        t = torch.linspace(0, 1, extra + 2, dtype=torch.float64)[1:-1]
        fade = 0.5 - 0.5 * torch.cos(math.pi * t)
        fade = fade[:, None] if dim == 0 else fade
        last = y.narrow(dim, n - 1, 1)
        first = y.narrow(dim, 0, 1)
        y = torch.cat([y, last * (1 - fade) + first * fade], dim)
    return y


def _sharpened(y: Tensor, kernel: Tensor, weight: float) -> Tensor:
    """argmin ‖k ∗ x − y‖² + weight · (number of x's edges), by half-quadratic splitting (Xu, Lu, Xu
    and Jia 2011), periodic."""
    size = (y.shape[0], y.shape[1])
    response = _response(kernel, size)
    turns = [torch.fft.rfftfreq(size[1]).double(), torch.fft.fftfreq(size[0]).double()[:, None]]
    slopes = [torch.exp(2j * math.pi * t) - 1 for t in turns]
    steep = sum((s * s.conj()).real for s in slopes)
    right, power = response.conj() * torch.fft.rfft2(y), response.abs().square()
    x, strength = y, 2 * weight
    while strength < 1e3:
        across, down = x.roll(-1, 1) - x, x.roll(-1, 0) - x
        kept = across.square() + down.square() >= weight / strength
        found = sum(
            s.conj() * torch.fft.rfft2(g * kept)
            for s, g in zip(slopes, (across, down), strict=True)
        )
        x = torch.fft.irfft2((right + strength * found) / (power + strength * steep), s=size)
        strength *= 2
    return x


def _kernel(x: Tensor, y: Tensor, size: int, inside: Tensor) -> Tensor:
    """Kernel (size, size) between the gradients of x and y, at least 0, of sum 1, and centred."""
    power, both = 0, 0
    for dim in (0, 1):
        a, b = ((t.roll(-1, dim) - t) * inside for t in (x, y))
        a, b = torch.fft.rfft2(a), torch.fft.rfft2(b)
        power, both = power + a.abs().square(), both + a.conj() * b
    full = torch.fft.irfft2(both / (power + RIDGE * power.mean()), s=tuple(x.shape))
    kernel = full.roll((size // 2, size // 2), (0, 1))[:size, :size]
    kernel = kernel.clamp(min=0)
    kernel = torch.where(kernel < CUT * kernel.max(), 0.0, kernel)
    if not float(kernel.sum()) > 0:
        kernel = torch.zeros_like(kernel)
        kernel[size // 2, size // 2] = 1
    return _centred(kernel / kernel.sum())


def _centred(kernel: Tensor) -> Tensor:
    """The centre of mass at the middle tap, by whole pixels; what falls off is lost."""
    size = len(kernel)
    t = torch.arange(size, dtype=torch.float64)
    shift = [size // 2 - round(float(kernel.sum(1 - dim) @ t)) for dim in (0, 1)]
    wide = F.pad(kernel, [size] * 4)
    moved = wide.roll(shift, (0, 1))[size : 2 * size, size : 2 * size]
    return moved / moved.sum()


@torch.no_grad()
def free_kernel(x: Tensor, size: int = 25) -> Tensor:
    """Kernel (size, size), float64, at least 0, of sum 1, centred, of the blur of one photo x.

    x is (1, C, H, W) in [-1, 1]; ``size`` is odd, from 3 to ``LARGEST``.

    Coarse to fine, a picture of few edges that explains the photo and the kernel between both are
    found in turns (after Pan, Hu, Su and Yang 2014). It needs strong edges in several directions
    and little noise, and there is no measure of success: look at the kernel. ValueError for another
    size, and for a photo whose sides are not at least three times as large.
    """
    if size % 2 == 0 or not 3 <= size <= LARGEST:
        raise ValueError(f"the kernel size is {size}; expected an odd number from 3 to {LARGEST}")
    if x.ndim != 4 or len(x) != 1 or min(x.shape[2:]) < 3 * size:
        raise ValueError(
            f"the photo has shape {tuple(x.shape)}; expected (1, C, H, W), both sides at least"
            f" {3 * size} for a kernel of {size}: choose a smaller one"
        )
    grey = (x.detach().double().cpu().mean(1, keepdim=True) + 1) / 2
    scales = [1.0]
    while size * scales[-1] > 5:
        scales.append(scales[-1] / math.sqrt(2))
    kernel, weight = torch.full((1, 1), 1.0, dtype=torch.float64), EDGES
    for scale in reversed(scales):
        y = grey
        if scale < 1:
            shape = [round(n * scale) for n in grey.shape[2:]]
            y = F.interpolate(grey, shape, mode="bicubic", antialias=True)
        side = max(3, 2 * (math.ceil(size * scale) // 2) + 1)
        kernel = F.interpolate(kernel[None, None], (side, side), mode="bicubic")[0, 0].clamp(min=0)
        kernel = _centred(kernel / kernel.sum())
        height, width = y.shape[2:]
        y = _wrapped(y[0, 0], side)
        inside = torch.zeros_like(y)
        edge = side // 2
        inside[edge : height - edge - 1, edge : width - edge - 1] = 1
        for _ in range(ROUNDS):
            kernel = _kernel(_sharpened(y, kernel, weight), y, side, inside)
            weight = max(LEAST, FALL * weight)
    return kernel
