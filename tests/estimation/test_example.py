"""A kernel and a noise level that are known come back from a clean and a degraded picture."""

from __future__ import annotations

import pytest
import torch
from comfyui_flowdps.benchmarks.scenes import dead_leaves, noisy
from comfyui_flowdps.estimation.example import operator_from_example
from comfyui_flowdps.operators import (
    AreaDownsample,
    BicubicDownsample,
    DefocusBlur,
    GaussianBlur,
    MotionBlur,
)

SIZE = 15


def widened(kernel, size=SIZE):
    wide = torch.zeros(size, size, dtype=torch.float64)
    first = size // 2 - kernel.shape[0] // 2
    wide[first : first + kernel.shape[0], first : first + kernel.shape[1]] = kernel
    return wide


GAUSS = GaussianBlur(13, 2.0)
KERNELS = {
    GAUSS: widened(GAUSS.taps()[:, None] * GAUSS.taps()),
    DefocusBlur(4.0): widened(DefocusBlur(4.0).kernel()),
    MotionBlur(15, 0.5, 3): widened(MotionBlur(15, 0.5, 3).kernel()),
}


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.03])
@pytest.mark.parametrize("recipe", KERNELS, ids=lambda recipe: recipe.name)
def test_recovers_kernel_and_noise(recipe, noise):
    """Relative error of the kernel below 1, 6 and 14 %; of the noise level, below 2 %."""
    clean = dead_leaves(128, 1)
    degraded = noisy(recipe.bind((3, 128, 128)).A(clean), noise, 1)
    found = operator_from_example(clean, degraded, SIZE)
    want = KERNELS[recipe]
    bound = {0.0: 0.01, 0.01: 0.06, 0.03: 0.14}[noise]
    assert float((found.kernel - want).norm() / want.norm()) < bound
    assert found.noise_level == pytest.approx(noise, rel=0.02, abs=5e-4)
    assert found.scale == 1
    assert max(map(abs, found.shift)) < 0.05
    assert found.gain == pytest.approx(1, abs=0.01)
    again = found.recipe.bind((3, 128, 128)).A(clean)
    assert float((again - degraded).std()) < 1.02 * noise + 0.001


@pytest.mark.parametrize("recipe", [AreaDownsample(2), AreaDownsample(3), BicubicDownsample(2)])
def test_recovers_a_downscale(recipe):
    """The operator found on one scene does to another what the true one does, within 0.01."""
    side = 144
    clean, other = dead_leaves(side, 2), dead_leaves(side, 3)
    true = recipe.bind((3, side, side))
    found = operator_from_example(clean, noisy(true.A(clean), 0.01, 2), 13)
    assert found.scale == recipe.scale
    assert found.noise_level == pytest.approx(0.01, rel=0.05)
    assert max(map(abs, found.shift)) < 0.1
    there = found.recipe.bind((3, side, side)).A(other)
    inside = (slice(None), slice(None), slice(6, -6), slice(6, -6))
    assert float((there - true.A(other))[inside].square().mean().sqrt()) < 0.01


def test_a_shift_is_measured_and_told():
    clean = dead_leaves(96, 4)
    moved = noisy(GaussianBlur(7, 1.0).bind((3, 96, 96)).A(clean).roll((2, -1), (2, 3)), 0.01, 4)
    found = operator_from_example(clean, moved, 13)
    assert found.shift == pytest.approx((2, -1), abs=0.1)
    assert "shifted by 2.0 down and -1.0 right" in str(found)


def test_contrast_and_brightness_do_not_matter():
    clean = dead_leaves(96, 5)
    degraded = GaussianBlur(9, 1.5).bind((3, 96, 96)).A(clean)
    plain = operator_from_example(clean, degraded, 11)
    faded = operator_from_example(clean, 0.8 * degraded + 0.1, 11)
    torch.testing.assert_close(faded.kernel, plain.kernel, atol=1e-3, rtol=0)
    assert faded.gain == pytest.approx(0.8, abs=0.01)


def test_what_does_not_fit_is_refused():
    clean = dead_leaves(64, 6)
    with pytest.raises(ValueError, match="64x64 and the degraded one 60x64"):
        operator_from_example(clean, clean[:, :, :, :60])
    with pytest.raises(ValueError, match="kernel size is 24"):
        operator_from_example(clean, clean, 24)
    with pytest.raises(ValueError, match="single colour"):
        operator_from_example(torch.zeros_like(clean), clean, 9)
    with pytest.raises(ValueError, match="too small for a kernel of 25"):
        operator_from_example(clean[:, :, :24, :24], clean[:, :, :24, :24], 25)


def test_pictures_of_different_scenes_are_refused():
    with pytest.raises(ValueError, match=r"explains .*% of the degraded one; .* the same scene"):
        operator_from_example(dead_leaves(96, 7), dead_leaves(96, 8), 9)
