"""A kernel of any shape, from the photo alone, and whether to trust it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..operators import Kernel, Recipe
from ..operators.linear.transforms import fast_length
from .checks import check_photo
from .noise import estimate_noise, overall_noise
from .progress import SILENT, Progress
from .spectrum import Spectrum

SMALLEST = 32
"""Shortest side of a photo, in pixels."""
LARGEST = 61
"""Largest width of the kernel, in pixels."""
EDGES, FALL, LEAST = 0.02, 0.8, 0.001
"""Penalty of an edge in the sharp image: at first, its factor per round, and its lower limit."""
RIDGE = 0.1
"""Tikhonov weight of the kernel, relative to the mean power of the gradients; the noise power in
the gradients is added."""
ROUNDS = 6
NEAR = 9
"""Width, in frequencies, of the average of the photo's power that is compared with the noise."""
CUT = 0.1
"""Taps below this fraction of the largest count as noise."""
TRUSTED = 0.3
"""Smallest score of a kernel that is trusted. On blurred test scenes, 165 such kernels had a
correlation of at least 0.79 with the true one; no sharp scene, and no noise, scored above 0.1."""
NOTHING = 0.1
"""Below this score the photo may have no blur at all."""


def _response(kernel: Tensor, size: tuple[int, int]) -> Tensor:
    canvas = torch.zeros(size, dtype=torch.float64)
    canvas[: kernel.shape[0], : kernel.shape[1]] = kernel
    return torch.fft.rfft2(canvas.roll([-(k // 2) for k in kernel.shape], (0, 1)))


def _wrapped(y: Tensor, reach: int) -> Tensor:
    """Extend y (H, W) so that it can be repeated: each side fades into the opposite one."""
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


def _above_noise(y: Tensor, variance: float) -> Tensor:
    """Fraction of the power of y (H, W) that is not noise, at the frequencies of rfft2."""
    power = torch.fft.fft2(y - y.mean()).abs().square()[None, None] / y.numel()
    near = F.avg_pool2d(F.pad(power, [NEAR // 2] * 4, mode="circular"), NEAR, 1)[0, 0]
    trust = (1 - variance / near.clamp(min=1e-30)).clamp(min=0)[:, : y.shape[1] // 2 + 1]
    trust[0, 0] = 1  # The mean has no edges and must come from y.
    return trust


def _sharpened(
    y: Tensor, kernel: Tensor, weight: float, trust: Tensor, progress: Progress
) -> Tensor:
    """argmin ‖k ∗ x − y‖² + weight · (number of x's edges), by half-quadratic splitting (Xu, Lu, Xu
    and Jia 2011), periodic; each frequency of the first part weighs ``trust``."""
    size = (y.shape[0], y.shape[1])
    response = _response(kernel, size)
    turns = [torch.fft.rfftfreq(size[1]).double(), torch.fft.fftfreq(size[0]).double()[:, None]]
    slopes = [torch.exp(2j * math.pi * t) - 1 for t in turns]
    steep = sum((s * s.conj()).real for s in slopes)
    right, power = trust * response.conj() * torch.fft.rfft2(y), trust * response.abs().square()
    x, strength = y, 2 * weight
    while strength < 1e3:
        progress()
        across, down = x.roll(-1, 1) - x, x.roll(-1, 0) - x
        kept = across.square() + down.square() >= weight / strength
        found = 0
        for s, g in zip(slopes, (across, down), strict=True):
            found = found + s.conj() * torch.fft.rfft2(g * kept)
            progress()
        x = torch.fft.irfft2((right + strength * found) / (power + strength * steep), s=size)
        strength *= 2
    return x


def _kernel(
    x: Tensor, y: Tensor, size: int, inside: Tensor, trust: Tensor, variance: float
) -> Tensor:
    """Kernel (size, size) between the gradients of x and y, at least 0, of sum 1, and centred."""
    power, both = 0, 0
    for dim in (0, 1):
        a, b = ((t.roll(-1, dim) - t) * inside for t in (x, y))
        a, b = torch.fft.rfft2(a), torch.fft.rfft2(b)
        power, both = power + a.abs().square(), both + a.conj() * b
    power, both = trust * power, trust * both
    # A difference has twice the variance, and there are two of them.
    ridge = RIDGE * power.mean() + 4 * variance * inside.sum()
    full = torch.fft.irfft2(both / (ridge + power), s=tuple(x.shape))
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
def free_kernel(
    x: Tensor,
    size: int = 25,
    noise_level: float | None = None,
    progress: Progress = SILENT,
) -> Tensor:
    """Kernel (size, size), float64, at least 0, of sum 1, centred, of the blur of one photo x.

    x is (1, C, H, W) in [-1, 1]; ``size`` is odd, from 3 to ``LARGEST``; ``noise_level`` is that of
    a single channel, None: it is measured. ``progress`` may stop it.

    From coarse to fine, a sharp image with few edges and the kernel are estimated alternately
    (after Pan, Hu, Su and Yang 2014), every frequency weighted by how much of it is not noise. This
    needs strong edges in several directions, and its failure does not show:
    ``estimate_free_kernel`` says whether to trust it. ValueError for another size, a photo of a
    single colour, or a photo with a side shorter than ``SMALLEST`` or three kernels.
    """
    if size % 2 == 0 or not 3 <= size <= LARGEST:
        raise ValueError(f"the kernel size is {size}; expected an odd number from 3 to {LARGEST}")
    least = max(SMALLEST, 3 * size)
    check_photo(x, least, f"a kernel of {size} needs that much; choose a smaller one")
    grey = (x.detach().cpu().double().mean(1, keepdim=True) + 1) / 2
    if float(grey.std()) < 1e-6:
        raise ValueError("the photo is of a single colour; expected a scene with detail")
    level = float(estimate_noise(2 * grey - 1, progress=progress)) / 2
    if noise_level is not None:
        level = noise_level / x.shape[1] ** 0.5 / 2
    scales = [1.0]
    while size * scales[-1] > 5:
        scales.append(scales[-1] / math.sqrt(2))
    kernel, weight = torch.full((1, 1), 1.0, dtype=torch.float64), EDGES
    work, done = sum(scale**2 for scale in scales), 0.0
    for scale in reversed(scales):
        part = progress.part(done / work, (done + scale**2) / work)
        done += scale**2
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
        # Shrinking averages noise away.
        variance = (level * scale) ** 2
        trust = _above_noise(y, variance)
        for k in range(ROUNDS):
            part(k / ROUNDS)
            sharp = _sharpened(y, kernel, weight, trust, part)
            part()
            kernel = _kernel(sharp, y, side, inside, trust, variance)
            weight = max(LEAST, FALL * weight)
    return kernel


@dataclass(frozen=True)
class FreeKernel:
    """A kernel of any shape that was found.

    kernel: float64 (size, size), sum 1, its centre of mass in the middle.
    score: gain in log-likelihood over no blur, per frequency that exceeds the noise: how well the
        kernel explains the photo's spectrum. At least ``TRUSTED`` for a trusted kernel.
    noise_level: standard deviation of the noise, for images in [-1, 1].
    """

    recipe: Recipe
    kernel: Tensor
    score: float
    noise_level: float

    @property
    def trusted(self) -> bool:
        """Whether the kernel probably resembles the true one."""
        return self.score >= TRUSTED

    def __str__(self) -> str:
        side = len(self.kernel)
        what = f"a free kernel of {side}x{side}"
        gain = f"(gain {self.score:.2f}, needs {TRUSTED})"
        noise = f"noise {self.noise_level:.4f}"
        if self.trusted:
            return f"{what}, which explains the photo well {gain}; {noise}"
        why = "" if self.score >= NOTHING else ": the photo may be sharp, or too noisy to tell"
        return (
            f"{what}, not to be trusted {gain}{why}; choose a family instead, or mark a point of"
            f" light with a mask; {noise}"
        )


@torch.no_grad()
def estimate_free_kernel(
    x: Tensor,
    size: int = 25,
    noise_level: float | None = None,
    progress: Progress = SILENT,
) -> FreeKernel:
    """``free_kernel`` of one photo x (1, C, H, W) in [-1, 1], and whether to trust it.

    As in ``estimate_blur``, the photo's spectrum is far more likely under the right kernel than
    without blur. (Comparing kernels of parts of the photo does not help: wrong ones agree as well.)
    ``noise_level`` is that of a single channel; None: it is measured. ValueError as
    ``free_kernel``.
    """
    kernel = free_kernel(x, size, noise_level, progress.part(0, 0.95))
    grey = x.detach().cpu().double().mean(1, keepdim=True)
    last = progress.part(0.95, 1)
    level = float(estimate_noise(grey, progress=last))
    own = noise_level
    if own is None:
        own = overall_noise(x, last.part(0, 0))
    else:
        level = own / x.shape[1] ** 0.5
    spectrum = Spectrum(grey[0, 0], level, last)
    found = spectrum.response(kernel)
    none, some = spectrum.loss(torch.stack([torch.ones_like(found), found])).tolist()
    return FreeKernel(Kernel.from_tensor(kernel), kernel, (none - some) / spectrum.seen, own)
