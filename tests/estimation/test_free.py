"""A kernel of any shape is found in a picture with strong edges."""

from __future__ import annotations

import pytest
import torch
from comfyui_flowdps.estimation.free import free_kernel
from comfyui_flowdps.operators import DefocusBlur, MotionBlur

from .scenes import dead_leaves, noisy


def likeness(a, b):
    """Correlation at the best shift: a shift of the picture cannot be told."""
    spectra = [torch.fft.rfft2(k, s=(64, 64)) for k in (a, b)]
    both = torch.fft.irfft2(spectra[0] * spectra[1].conj(), s=(64, 64))
    return float(both.max() / (a.norm() * b.norm()))


@pytest.mark.parametrize("recipe", [MotionBlur(13, 0.5, 1), MotionBlur(17, 0.5, 5), DefocusBlur(4)])
def test_resembles_the_true_kernel(recipe):
    """Correlation above 0.8, and above that of the kernels that it could start from or fall to."""
    y = noisy(recipe.bind((3, 128, 128)).A(dead_leaves(128, 1)), 0.01, 1)
    kernel = free_kernel(y, 19)
    true = recipe.kernel()
    assert kernel.shape == (19, 19)
    assert float(kernel.min()) >= 0
    assert float(kernel.sum()) == pytest.approx(1)
    t = torch.arange(19, dtype=torch.float64) - 9
    assert max(abs(float(kernel.sum(axis) @ t)) for axis in (0, 1)) < 1
    simple = max(likeness(torch.ones(n, n).double(), true) for n in (1, 5, 9))
    assert likeness(kernel, true) > max(0.8, simple + 0.04)


def test_sizes_that_do_not_fit_are_refused():
    x = dead_leaves(64, 2)
    for size in (1, 8, 63):
        with pytest.raises(ValueError, match=f"kernel size is {size}"):
            free_kernel(x, size)
    with pytest.raises(ValueError, match="at least 75 for a kernel of 25"):
        free_kernel(x, 25)
