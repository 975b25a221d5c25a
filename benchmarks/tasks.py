"""The degradations that ``flowdps bench`` measures, at sizes that suit 128-pixel pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import operators as ops
from ..estimation.blur import estimate_blur
from ..estimation.families import line
from ..estimation.free import free_kernel
from ..estimation.noise import overall_noise
from ..operators.scratches import scratches


def half_known() -> ops.Mask:
    """Half of the pixels are missing, at random."""
    g = torch.Generator().manual_seed(0)
    return ops.Mask.from_tensor((torch.rand(128, 128, generator=g) < 0.5).float())


def scratched() -> ops.Mask:
    """A photo with a dozen scratches."""
    return ops.Mask.from_painted(scratches(128, 128, count=12, thickness=2.0, seed=1))


def three_taps() -> ops.Kernel:
    """Three shots of a picture on one film."""
    kernel = torch.zeros(13, 13)
    kernel[1, 2], kernel[6, 6], kernel[10, 12] = 1, 2, 1
    return ops.Kernel.from_tensor(kernel)


Estimate = Callable[[Tensor], tuple[ops.Recipe, float]]
"""What a measurement (1, C, h, w) tells of its degradation and its noise."""


@dataclass(frozen=True)
class Task:
    """A degradation; ``recipe`` may draw from a seed.

    assumed: the noise level that methods are told where no noise is added, since what the operator
    rounds is its noise; None: the benchmark's noise is added.
    estimate: how a blind run finds them out, where they can be. Shrunk pictures of 128 pixels are
        too small to tell their noise.
    """

    recipe: Callable[[int], ops.Recipe]
    assumed: float | None = None
    estimate: Estimate | None = None


def fixed(
    recipe: ops.Recipe, assumed: float | None = None, estimate: Estimate | None = None
) -> Task:
    """A task without anything random in it."""
    return Task(lambda _: recipe, assumed, estimate)


def noise_of(recipe: ops.Recipe) -> Estimate:
    """The degradation is known, the noise is not."""
    return lambda y: (recipe, overall_noise(y))


def blur_of(y: Tensor) -> tuple[ops.Recipe, float]:
    """The blur of one of the known families, and the noise."""
    found = estimate_blur(y)
    return found.recipe, found.noise_level


def shake_of(y: Tensor) -> tuple[ops.Recipe, float]:
    """A blur of any shape, and the noise."""
    return ops.Kernel.from_tensor(free_kernel(y, 19)), overall_noise(y)


PAPER = {
    "SR x4": fixed(ops.BicubicDownsample(4)),
    "SR x8": fixed(ops.BicubicDownsample(8)),
    "Gaussian blur, sigma 3": fixed(ops.GaussianBlur(19), estimate=blur_of),
    "motion blur, 17": Task(lambda seed: ops.MotionBlur(17, seed=seed), estimate=shake_of),
}
"""What the README's table shows."""

OTHERS = {
    "average x4": fixed(ops.AveragePool(4)),
    "Lanczos x4": fixed(ops.LanczosDownsample(4)),
    "bilinear x4": fixed(ops.BilinearDownsample(4)),
    "nearest x4": fixed(ops.NearestDownsample(4)),
    "box blur, 9": fixed(ops.BoxBlur(9)),
    "Gaussian blur, 4 by 1": fixed(ops.AnisotropicBlur(25, 4.0, 1.0)),
    "lens blur, radius 4": fixed(ops.DefocusBlur(4.0), estimate=blur_of),
    "straight motion, 12 at 30°": fixed(ops.Kernel.from_tensor(line(12, 30)), estimate=blur_of),
    "a kernel of three taps": fixed(three_taps()),
    "lens blur at the corners": fixed(ops.NonuniformBlur(size=13)),
    "half of the pixels": fixed(half_known()),
    "scratches": fixed(scratched()),
    "scratches on lens blur": fixed(ops.Chain((ops.DefocusBlur(2.0), scratched()))),
    "margins of 16": fixed(ops.Outpainting(16, 16, 16, 16)),
    "grey": fixed(ops.Colorization()),
    "interlaced": fixed(ops.Interlace()),
    "Bayer mosaic": fixed(ops.Bayer()),
    "Walsh-Hadamard, 25 %": fixed(ops.WalshHadamard(0.25)),
    "blocks of 32, 25 %": fixed(ops.BlockSensing(0.25)),
    "noise only": fixed(ops.Identity(), estimate=noise_of(ops.Identity())),
    "JPEG, quality 10": fixed(ops.Jpeg(10), assumed=0.06),
    "6 levels": fixed(ops.Quantise(6), assumed=0.12),
    "overexposed": fixed(ops.Clip(-1.0, 0.3)),
}
TASKS: dict[str, Task] = {**PAPER, **OTHERS}
