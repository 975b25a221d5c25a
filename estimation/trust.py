"""Whether to believe a free kernel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..operators import Kernel, Recipe
from .free import free_kernel
from .noise import estimate_noise, overall_noise
from .spectrum import Spectrum

TRUSTED = 0.3
"""Score from which a kernel is believed. Of 165 such in tests on blurred scenes, correlations with
the true kernel were at least 0.79; no sharp scene or noise came above 0.1."""
NOTHING = 0.1
"""Below it the photo may as well have no blur."""


@dataclass(frozen=True)
class FreeKernel:
    """``kernel`` (size, size) is float64, of sum 1, and centred.

    ``score`` is the gain in log-likelihood over no blur, per frequency that stands out of the
    noise: how much of the photo's spectrum the kernel explains. It is ``trusted`` from ``TRUSTED``
    on. ``noise_level`` is the standard deviation of the noise in the single channels.
    """

    recipe: Recipe
    kernel: Tensor
    score: float
    noise_level: float

    @property
    def trusted(self) -> bool:
        """Whether the kernel is likely to resemble the true one."""
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
def estimate_free_kernel(x: Tensor, size: int = 25, noise_level: float | None = None) -> FreeKernel:
    """``free_kernel`` of one photo x (1, C, H, W) in [-1, 1], and whether to believe it.

    The photo's spectrum is asked, as in ``estimate_blur``: under the right kernel it is far more
    likely than without blur. Kernels of parts of the photo are no help: wrong ones agree as well.
    ``noise_level`` is that of the single channels; None: measured. ValueError as ``free_kernel``.
    """
    kernel = free_kernel(x, size, noise_level)
    grey = x.detach().double().cpu().mean(1, keepdim=True)
    level = float(estimate_noise(grey))
    own = noise_level
    if own is None:
        own = overall_noise(x)
    else:
        level = own / x.shape[1] ** 0.5
    spectrum = Spectrum(grey[0, 0], level)
    found = spectrum.response(kernel)
    none, some = spectrum.loss(torch.stack([torch.ones_like(found), found])).tolist()
    return FreeKernel(Kernel.from_tensor(kernel), kernel, (none - some) / spectrum.seen, own)
