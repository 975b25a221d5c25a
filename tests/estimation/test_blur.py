"""A known blur is found in a photo, and none where there is none."""

from __future__ import annotations

import pytest
import torch
from comfyui_flowdps.benchmarks.scenes import dead_leaves, noisy, texture
from comfyui_flowdps.estimation.blur import FOUND, SURE, estimate_blur
from comfyui_flowdps.operators import DefocusBlur, GaussianBlur, Kernel
from comfyui_flowdps.operators.blurs import line
from comfyui_flowdps.restoration.images import read_image

from ..conftest import HELD_OUT

SHAKEN = HELD_OUT.parents[1] / "pictures" / "real" / "shaken clock.webp"


def tuning(index):
    return read_image(sorted((HELD_OUT / "tune").glob("*.png"))[index])[0]


SCENES = {
    "picture": lambda: tuning(7),
    "leaves": lambda: dead_leaves(128, 5),
    "texture": lambda: texture(128, 3),
}
every = pytest.mark.parametrize("scene", SCENES)


def photo(scene, recipe, noise=0.01):
    x = SCENES[scene]()
    return noisy(recipe.bind((3, 128, 128)).A(x), noise, 1)


@every
@pytest.mark.parametrize("sigma", [1.0, 3.0])
def test_finds_a_gaussian(scene, sigma):
    """Deviation within 15 %; where the family is sure, it is the right one."""
    found = estimate_blur(photo(scene, GaussianBlur(25, sigma)))
    assert found.candidates["gaussian"][0]["sigma"] == pytest.approx(sigma, rel=0.15)
    assert found.family == "gaussian" or found.margin < SURE


@every
@pytest.mark.parametrize("radius", [2.0, 5.0])
def test_finds_a_defocus(scene, radius):
    """Radius within 5 %; where the family is sure, it is the right one."""
    found = estimate_blur(photo(scene, DefocusBlur(radius)))
    assert found.candidates["defocus"][0]["radius"] == pytest.approx(radius, rel=0.05)
    assert found.family == "defocus" or found.margin < SURE


@every
@pytest.mark.parametrize("noise", [0.01, 0.03])
@pytest.mark.parametrize(("length", "angle"), [(10.0, 30.0), (15.0, 100.0)])
def test_finds_a_straight_motion(scene, length, angle, noise):
    """Length within 5 %, angle within 2 degrees, the kernel's correlation above 0.9."""
    kernel = line(length, angle)
    found = estimate_blur(photo(scene, Kernel.from_tensor(kernel), noise))
    assert found.family == "motion"
    assert found.parameters["length"] == pytest.approx(length, rel=0.05)
    assert found.parameters["angle"] == pytest.approx(angle, abs=2)
    assert found.noise_level == pytest.approx(noise, rel=0.4)
    missing = len(found.kernel) - len(kernel)
    pad = [max(0, missing) // 2] * 4
    own = torch.nn.functional.pad(found.kernel, [max(0, -missing) // 2] * 4)
    want = torch.nn.functional.pad(kernel, pad)
    assert float((own * want).sum() / own.norm() / want.norm()) > 0.9


@every
@pytest.mark.parametrize("noise", [0.0, 0.01, 0.03])
def test_finds_no_blur_in_sharp_pictures(scene, noise):
    found = estimate_blur(noisy(SCENES[scene](), noise, 2))
    assert found.family == "none"
    assert str(found).startswith("no blur found")
    assert found.kernel.shape == (1, 1)


def test_a_smooth_picture_shows_its_motion_through_noise():
    """It shows little of it, but what stands out of the noise is clear."""
    file = sorted((HELD_OUT / "test").glob("*.png"))[15]
    blurred = Kernel.from_tensor(line(12.0, 30.0)).bind((3, 128, 128)).A(read_image(file)[0])
    found = estimate_blur(noisy(blurred, 0.03, 1))
    assert found.score < FOUND
    assert found.family == "motion"
    assert found.parameters["length"] == pytest.approx(12, rel=0.1)


def sky(seed):
    """Half as wide as the photo, a scene of little contrast; around it nothing."""
    x = torch.full((1, 3, 128, 128), -0.5)
    x[..., 60:124, 50:114] += 0.3 * dead_leaves(128, seed)[..., :64, :64]
    return x


@pytest.mark.parametrize("seed", [1, 2])
def test_a_mostly_empty_photo_shows_its_blur(seed):
    """Few frequencies stand out of the noise, and these suffice; sharp, it has no blur."""
    moved = Kernel.from_tensor(line(12, 30)).bind((3, 128, 128)).A(sky(seed))
    found = estimate_blur(noisy(moved, 0.03, 1))
    assert found.family == "motion"
    assert found.parameters["length"] == pytest.approx(12, rel=0.05)
    assert found.parameters["angle"] == pytest.approx(30, abs=2)
    assert found.score < FOUND < found.score / found.seen
    assert estimate_blur(noisy(sky(seed), 0.03, 1)).family == "none"


def test_a_true_shake_has_the_length_of_its_streaks():
    """Small highlights of a photo that was truly moved are level streaks of 37 pixels."""
    x = read_image(SHAKEN)[0]
    found = estimate_blur(x, families=("motion",))
    assert found.family == "motion"
    assert found.parameters["length"] == pytest.approx(37, abs=3)
    angle = found.parameters["angle"]
    assert min(angle, 180 - angle) < 4


def test_noise_has_no_blur():
    for level in (0.03, 0.3):
        found = estimate_blur(noisy(torch.zeros(1, 3, 128, 128), level, 1))
        assert found.family == "none"
        assert found.seen < 0.3


def test_a_line_is_a_line():
    """Its mass, centre, length and direction are what was asked for."""
    for length, angle in ((6.0, 0.0), (11.0, 25.0), (20.0, 130.0)):
        kernel = line(length, angle)
        assert float(kernel.sum()) == pytest.approx(1)
        torch.testing.assert_close(kernel, kernel.flip((0, 1)))
        t = torch.arange(len(kernel)).double() - len(kernel) // 2
        yy, xx = (float(kernel.sum(axis) @ t**2) for axis in (1, 0))
        xy = -float(t @ kernel @ t)
        # A segment's variance is length² / 12; drawing it blurs it by half a pixel a side at most.
        assert yy + xx == pytest.approx(length**2 / 12, abs=0.6)
        direction = 0.5 * torch.atan2(torch.tensor(2 * xy), torch.tensor(xx - yy)).rad2deg()
        assert float(direction) % 180 == pytest.approx(angle, abs=1)


def test_brightness_contrast_and_batch_mates_do_not_matter():
    y = photo("leaves", DefocusBlur(4.0))
    one, other = estimate_blur(y), estimate_blur(0.5 * y - 0.2)
    assert one.family == other.family == "defocus"
    assert other.parameters["radius"] == pytest.approx(one.parameters["radius"], rel=0.02)


def test_only_what_is_asked_for_is_looked_for():
    found = estimate_blur(photo("leaves", DefocusBlur(4.0)), 0.01, ["gaussian"])
    assert found.family == "gaussian"
    assert set(found.candidates) == {"gaussian"}
    assert found.noise_level == 0.01


def test_what_cannot_be_judged_is_refused():
    with pytest.raises(ValueError, match="at least 32 a side"):
        estimate_blur(torch.zeros(1, 3, 31, 64))
    with pytest.raises(ValueError, match="single colour"):
        estimate_blur(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match="unknown family 'box'"):
        estimate_blur(dead_leaves(64, 1), families=["box"])
