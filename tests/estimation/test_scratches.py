"""Scratches, creases and dust are found on scenes and photographs, and little else is."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from comfyui_flowdps.benchmarks.command import pictures
from comfyui_flowdps.benchmarks.faults import found_and_true
from comfyui_flowdps.benchmarks.faults import scratched as faulty
from comfyui_flowdps.estimation.scratches import find_scratches
from comfyui_flowdps.operators.scratches import scratches

from .scenes import detailed


def smooth(seed, height=192, width=256):
    """A scene whose texture is as faint as that of most photos."""
    return detailed(seed, height, width, texture=0.05)


def scratched(x, seed, level, thickness=2.0, count=6):
    """x with drawn scratches of the brightness ``level``, and where they are."""
    mask = scratches(*x.shape[2:], count=count, thickness=thickness, seed=seed)
    soft = F.avg_pool2d(F.pad(mask[None, None], [1] * 4), 3, 1) * 0.4 + 0.6 * mask
    return x + 0.8 * soft * (level - x), mask > 0.5


def recall(found, truth):
    return float((found * truth).sum() / truth.sum())


@pytest.mark.parametrize("level", [-0.9, 0.9], ids=["dark", "bright"])
@pytest.mark.parametrize("seed", range(3))
def test_most_of_a_scratch_is_found_and_little_else(seed, level):
    y, truth = scratched(smooth(seed), seed, level)
    found = find_scratches(y) > 0.5
    near = F.max_pool2d(truth[None, None].float(), 5, 1, 2)[0, 0] > 0.5
    assert float((found & truth).sum() / truth.sum()) > 0.8
    assert float((found & near).sum() / found.sum()) > 0.9


@pytest.mark.parametrize("seed", range(3))
def test_hardly_anything_is_marked_where_there_are_none(seed):
    assert float(find_scratches(smooth(seed)).mean()) < 0.002


@pytest.fixture(scope="module")
def photos():
    """The held-out photographs."""
    return list(enumerate(pictures("photos/test").split(1)))


# What was measured on all 25 is in benchmarks/README.md; on every third it is up to 8 % less.
@pytest.mark.parametrize(
    ("fault", "precision", "part"),
    [
        ("thin", 0.85, 0.7),
        ("usual", 0.85, 0.85),
        ("wide", 0.85, 0.85),
        ("dark", 0.85, 0.7),
        ("two creases", 0.8, 0.85),
        ("two dark creases", 0.8, 0.8),
        ("30 specks", 0.45, 0.4),
    ],
)
def test_faults_of_photographs_are_found(photos, fault, precision, part):
    damaged = [faulty(x, fault, seed) for seed, x in photos[::3]]
    told = [found_and_true(find_scratches(y), mask) for y, mask in damaged]
    marked, right, seen = (sum(each[k] for each in told) for k in range(3))
    assert right / marked > precision
    assert seen / len(told) > part


def test_photographs_without_faults_are_left_alone(photos):
    parts = [float(find_scratches(x).mean()) for _, x in photos]
    assert sum(parts) / len(parts) < 0.01


def wall(seed=0):
    """A grey wall of bricks with bright joints, (1, 3, 256, 256)."""
    x = torch.full((1, 3, 256, 256), -0.2)
    for k, y in enumerate(range(4, 256, 24)):
        x[:, :, y : y + 3] = 0.4
        for z in range(12 + 30 * (k % 2), 256, 60):
            x[:, :, y : y + 24, z : z + 3] = 0.4
    grain = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    return F.avg_pool2d(F.pad(x, [1] * 4, mode="replicate"), 3, 1) + 0.03 * grain


def test_a_wall_of_bricks_is_not_scratched():
    assert float(find_scratches(wall()).mean()) < 0.01


def test_a_few_parallel_scratches_are_no_wall():
    x = smooth(9, 256, 256)
    mask = torch.zeros(256, 256)
    mask[:, [60, 61, 150, 151, 200, 201]] = 1
    soft = F.avg_pool2d(F.pad(mask[None, None], [1] * 4), 3, 1)
    assert recall(find_scratches(x + soft * (0.9 - x)), mask) > 0.8


def test_dust_is_found_where_the_photo_is_smooth():
    x = torch.full((1, 3, 128, 128), -0.3)
    x = x + 0.01 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(128, 128)
    for y, z in ((20, 30), (64, 100), (110, 50), (90, 20)):
        mask[y : y + 4, z : z + 3] = 1
    soft = F.avg_pool2d(F.pad(mask[None, None], [1] * 4), 3, 1)
    found = find_scratches(x + soft * (0.8 - x))
    assert recall(found, mask) > 0.9
    assert float(found.sum()) < 4 * 9 * 9
    assert float(find_scratches(x).sum()) == 0


@pytest.mark.parametrize("value", [1.0, 0.7])
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_strong_scratches_on_plain_ground_are_found(value, noise):
    random = torch.Generator().manual_seed(0)
    for seed in (1, 2, 3):
        drawn = scratches(256, 256, count=5, thickness=2.0, seed=seed).float()
        ground = torch.linspace(0.2, 0.6, 256).view(1, 1, 256, 1).expand(1, 3, 256, 256)
        x = torch.lerp(ground, torch.full_like(ground, value), drawn) * 2 - 1
        x = (x + noise * torch.randn(x.shape, generator=random)).clamp(-1, 1)
        found = find_scratches(x) > 0.5
        assert float(found[drawn > 0.3].float().mean()) > 0.6
        assert (
            float(found[F.max_pool2d(drawn[None, None], 7, 1, 3)[0, 0] == 0].float().mean()) < 0.01
        )


def test_a_higher_sensitivity_finds_no_less():
    y, _ = scratched(smooth(5), 5, 0.4)
    parts = [float(find_scratches(y, s).mean()) for s in (0, 0.1, 0.5, 0.9, 1)]
    assert parts == sorted(parts)
    assert parts[0] < parts[-1]


def test_bright_and_dark_are_alike():
    y, _ = scratched(smooth(4), 4, 0.9)
    assert torch.equal(find_scratches(y), find_scratches(-y))


@pytest.mark.parametrize(("thickness", "side"), [(7, 320), (10, 320), (20, 640)])
def test_as_wide_as_is_asked_for(thickness, side):
    y, mask = scratched(smooth(8, side, side), 8, 0.9, thickness, count=2)
    assert recall(find_scratches(y, thickness=thickness), mask) > 0.7
    assert recall(find_scratches(y, thickness=2), mask) < 0.2


def test_a_grey_photo_is_one_without_colours():
    y, mask = scratched(smooth(7).mean(1, keepdim=True), 7, 0.9)
    found = find_scratches(y)
    assert recall(found, mask) > 0.7
    assert float((found - find_scratches(y.expand(1, 3, -1, -1))).abs().mean()) < 0.002


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (32, 500), (131, 257)])
def test_small_and_odd_sizes_keep_their_size(size):
    x = torch.zeros(1, 3, *size)
    assert find_scratches(x).sum() == 0
    x[:, :, size[0] // 2 : size[0] // 2 + 2] = 0.7
    found = find_scratches(x, 0.9)
    assert found.shape == size
    assert set(found.unique().tolist()) <= {0.0, 1.0}


def test_large_photos_are_searched_in_bands_without_a_seam(monkeypatch):
    y, _ = scratched(smooth(6, 403, 160), 6, 0.9)
    whole = find_scratches(y)
    assert whole.sum() > 0
    monkeypatch.setattr("comfyui_flowdps.estimation.scratches.BAND", 1000)
    monkeypatch.setattr("comfyui_flowdps.estimation.linking.BAND", 1000)
    assert float((find_scratches(y) - whole).abs().mean()) < 0.0002


@pytest.mark.parametrize(("name", "value"), [("sensitivity", 1.5), ("thickness", 0)])
def test_values_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=name):
        find_scratches(torch.zeros(1, 3, 64, 64), **{name: value})
