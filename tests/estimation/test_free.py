"""A kernel of any shape is found in a picture with strong edges, and told from a wrong one."""

from __future__ import annotations

import pytest
import torch
from comfyui_flowdps.benchmarks.scenes import dead_leaves, noisy, texture
from comfyui_flowdps.estimation.free import NOTHING, TRUSTED, estimate_free_kernel, free_kernel
from comfyui_flowdps.operators import DefocusBlur, MotionBlur, recipe_from_dict


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


@pytest.mark.parametrize("recipe", [MotionBlur(17, 0.5, 5), DefocusBlur(4)])
def test_noise_does_not_become_part_of_the_kernel(recipe):
    """At noise 0.03: correlation above 0.85, where a kernel full of noise had 0.7."""
    y = noisy(recipe.bind((3, 128, 128)).A(dead_leaves(128, 1)), 0.03, 1)
    assert likeness(free_kernel(y, 19), recipe.kernel()) > 0.85


@pytest.mark.parametrize("recipe", [MotionBlur(13, 0.5, 1), MotionBlur(17, 0.5, 5), DefocusBlur(4)])
def test_a_clear_case_is_trusted(recipe):
    y = noisy(recipe.bind((3, 128, 128)).A(dead_leaves(128, 1)), 0.01, 1)
    found = estimate_free_kernel(y, 19)
    assert found.trusted
    assert "not to be trusted" not in str(found)
    assert found.noise_level == pytest.approx(0.01, rel=0.12)
    assert torch.equal(found.kernel, free_kernel(y, 19))
    torch.testing.assert_close(recipe_from_dict(found.recipe.to_dict()).kernel(), found.kernel)


SHARP = {
    "noise": lambda: torch.zeros(1, 3, 128, 128),
    "texture": lambda: texture(128, 3),
    "leaves": lambda: dead_leaves(128, 3),
}


@pytest.mark.parametrize("scene", SHARP)
@pytest.mark.parametrize("noise", [0.01, 0.1])
def test_without_blur_nothing_is_trusted(scene, noise):
    """The report says so, and what to do."""
    found = estimate_free_kernel(noisy(SHARP[scene](), noise, 2), 19)
    assert found.score < NOTHING
    assert "not to be trusted" in str(found)
    assert "the photo may be sharp" in str(found)
    assert "choose a family" in str(found)


def test_what_is_trusted_is_right():
    """From little noise to much, on scenes that suit and one that does not: kernels that are
    trusted have correlations above 0.75, and the wrong ones are not trusted."""
    recipe, seen = MotionBlur(17, 0.5, 5), []
    for x in (dead_leaves(128, 7), texture(128, 1)):
        for level in (0.01, 0.06, 0.3):
            found = estimate_free_kernel(noisy(recipe.bind((3, 128, 128)).A(x), level, 1), 19)
            seen.append((found.score >= TRUSTED, likeness(found.kernel, recipe.kernel())))
    assert min(like for trusted, like in seen if trusted) > 0.75
    assert {trusted for trusted, _ in seen} == {True, False}
    assert min(like for _, like in seen) < 0.75


def test_the_same_photo_gives_the_same_kernel():
    """And random numbers elsewhere are left alone."""
    y = noisy(DefocusBlur(3).bind((3, 96, 96)).A(dead_leaves(96, 4)), 0.02, 1)
    before = torch.get_rng_state()
    one, other = (estimate_free_kernel(y, 13) for _ in range(2))
    assert torch.equal(one.kernel, other.kernel)
    assert one.score == other.score
    assert torch.equal(torch.get_rng_state(), before)


def test_a_known_noise_level_is_used():
    y = noisy(DefocusBlur(3).bind((3, 96, 96)).A(dead_leaves(96, 4)), 0.02, 1)
    measured, told = estimate_free_kernel(y, 13), estimate_free_kernel(y, 13, 0.02)
    assert told.noise_level == 0.02
    assert likeness(measured.kernel, told.kernel) > 0.97
    assert estimate_free_kernel(y, 13, 0.5).score < measured.score


def test_sizes_that_do_not_fit_are_refused():
    x = dead_leaves(64, 2)
    for size in (1, 8, 63):
        with pytest.raises(ValueError, match=f"kernel size is {size}"):
            free_kernel(x, size)
    with pytest.raises(ValueError, match="at least 75 a side: a kernel of 25"):
        free_kernel(x, 25)
    with pytest.raises(ValueError, match="at least 32 a side: a kernel of 3 needs"):
        free_kernel(x[..., :16], 3)
    with pytest.raises(ValueError, match="single colour"):
        free_kernel(torch.zeros(1, 3, 64, 64), 9)
