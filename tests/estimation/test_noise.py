"""A known noise level is found, in sharp, blurred and textured pictures."""

from __future__ import annotations

import pytest
import torch
from comfyui_flowdps.benchmarks.scenes import dead_leaves, noisy, texture
from comfyui_flowdps.estimation.noise import estimate_noise
from comfyui_flowdps.operators import GaussianBlur, Jpeg, Quantise
from comfyui_flowdps.restoration.images import read_image

from ..conftest import HELD_OUT

LEVELS = (0.0, 0.01, 0.03, 0.1, 0.2)
# As in the table of benchmarks/README.md: relative, by the picture's side, and absolute.
RELATIVE = {64: 0.20, 128: 0.12, 256: 0.07}
ABSOLUTE = 0.002


def blurred(x, sigma=1.5):
    return GaussianBlur(9, sigma).bind(tuple(x.shape[1:])).A(x)


def tuning(index):
    return read_image(sorted((HELD_OUT / "tune").glob("*.png"))[index])[0]


SCENES = {
    "picture": lambda side: tuning(0),
    "blurred picture": lambda side: blurred(tuning(1)),
    "leaves": lambda side: dead_leaves(side, 1),
    "blurred leaves": lambda side: blurred(dead_leaves(side, 2)),
    "blurred texture": lambda side: blurred(texture(side, 3)),
}
# The pictures have one size; sharp leaves of 64 pixels have no flat spot.
STATED = [
    (scene, side)
    for scene in SCENES
    for side in RELATIVE
    if side == 128
    or (scene not in ("picture", "blurred picture") and (scene, side) != ("leaves", 64))
]


@pytest.mark.parametrize(("scene", "side"), STATED)
def test_finds_the_level(scene, side):
    x = SCENES[scene](side)
    for level in LEVELS:
        found = estimate_noise(noisy(x, level, side))
        assert found.shape == (1, 3)
        error = (found - level).abs().max()
        assert float(error) < RELATIVE[side] * level + ABSOLUTE, (level, found)


def test_every_channel_and_image_on_its_own():
    x = dead_leaves(128, 4).expand(2, -1, -1, -1)
    levels = torch.tensor([[0.02, 0.05, 0.1], [0.0, 0.2, 0.01]])
    y = x + levels[..., None, None] * torch.randn(
        x.shape, generator=torch.Generator().manual_seed(5)
    )
    found = estimate_noise(y)
    torch.testing.assert_close(found, levels, rtol=0.12, atol=0.002)
    torch.testing.assert_close(found[1:], estimate_noise(y[1:]))


def test_eight_bits_and_saturation_do_not_hide_it():
    """Noise that white and black cut off is measured elsewhere."""
    x = dead_leaves(128, 6)
    x[..., :64] = 1.0
    y = Quantise(256).bind((3, 128, 128)).A(noisy(x, 0.1, 6).clamp(-1, 1))
    torch.testing.assert_close(estimate_noise(y), torch.full((1, 3), 0.1), rtol=0.12, atol=0)


def test_compression_leaves_less():
    y = noisy(dead_leaves(128, 7), 0.1, 7)
    left = [float(estimate_noise(Jpeg(q).bind((3, 128, 128)).A(y)).mean()) for q in (30, 70, 95)]
    assert left == sorted(left)
    assert left[-1] < 0.1


def test_scales_with_the_picture():
    y = noisy(dead_leaves(96, 8), 0.05, 8)
    torch.testing.assert_close(estimate_noise(0.3 * y), 0.3 * estimate_noise(y))


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ValueError, match="at least 16"):
        estimate_noise(torch.zeros(1, 3, 15, 64))
    with pytest.raises(ValueError, match="NaN"):
        estimate_noise(torch.full((1, 3, 16, 16), torch.nan))
