"""A kernel is read off a point of light."""

from __future__ import annotations

import pytest
import torch
from comfyui_flowdps.benchmarks.scenes import noisy
from comfyui_flowdps.estimation.point import kernel_from_point
from comfyui_flowdps.operators import DefocusBlur, MotionBlur

AT = (40, 52)


def photo(recipe, strength, noise=0.0):
    """A point at ``AT`` before a background of -0.5, blurred, and the mask of its image."""
    x = torch.zeros(1, 3, 96, 96)
    x[:, :, AT[0], AT[1]] = strength
    y = recipe.bind((3, 96, 96)).A(x)
    mask = torch.zeros(96, 96)
    mask[AT[0] - 9 : AT[0] + 10, AT[1] - 9 : AT[1] + 10] = 1
    return noisy(y - 0.5, noise, 1), mask


@pytest.mark.parametrize("noise", [0.0, 0.01])
@pytest.mark.parametrize("recipe", [DefocusBlur(5.0), MotionBlur(17, 0.5, 3)])
def test_recovers_the_kernel(recipe, noise):
    """Exact without noise; correlation above 0.99 with noise of a hundredth."""
    y, mask = photo(recipe, 12.0, noise)
    found = kernel_from_point(y, mask, 21)
    want = torch.nn.functional.pad(recipe.kernel(), [(21 - len(recipe.kernel())) // 2] * 4)
    assert float(found.kernel.sum()) == pytest.approx(1)
    assert float(found.kernel.min()) >= 0
    likeness = float((found.kernel * want).sum() / found.kernel.norm() / want.norm())
    assert likeness > (0.99 if noise else 0.9999)
    assert found.centre == AT
    t = torch.arange(21) - 10
    assert abs(float(found.kernel.sum(0) @ t.double())) < 0.6


def test_cut_off_light_is_flagged():
    y, mask = photo(DefocusBlur(4.0), 200.0)
    found = kernel_from_point(y.clamp(-1, 1), mask)
    assert found.saturated > 0.5
    assert "cut off at white" in str(found)
    assert not kernel_from_point(photo(DefocusBlur(4.0), 20.0)[0], mask).saturated


def test_what_cannot_be_a_light_is_refused():
    y, mask = photo(DefocusBlur(4.0), 12.0)
    with pytest.raises(ValueError, match="mask is empty"):
        kernel_from_point(y, torch.zeros(96, 96))
    with pytest.raises(ValueError, match="19x19 pixels; expected it to fit into a kernel of 15x15"):
        kernel_from_point(y, mask, 15)
    with pytest.raises(ValueError, match="no brighter"):
        kernel_from_point(torch.full((1, 3, 96, 96), -0.5), mask)
    with pytest.raises(ValueError, match="the mask is 90x96 pixels and the photo 96x96"):
        kernel_from_point(y, mask[:, :90])
    with pytest.raises(ValueError, match="kernel size is 8"):
        kernel_from_point(y, mask, 8)
