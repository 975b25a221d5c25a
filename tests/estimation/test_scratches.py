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
    """Every third of the held-out photographs, which no setting was chosen by."""
    return list(enumerate(pictures("photos/test").split(1)))[::3]


# Measured on all 25 and on these: benchmarks/README.md. Some slack for other versions of torch.
@pytest.mark.parametrize(
    ("fault", "precision", "part"),
    [
        ("thin", 0.85, 0.5),
        ("usual", 0.85, 0.7),
        ("wide", 0.85, 0.7),
        ("dark", 0.85, 0.7),
        ("two creases", 0.8, 0.7),
        ("30 specks", 0.5, 0.3),
    ],
)
def test_faults_of_photographs_are_found(photos, fault, precision, part):
    damaged = [faulty(x, fault, seed) for seed, x in photos]
    told = [found_and_true(find_scratches(y), mask) for y, mask in damaged]
    marked, right, seen = (sum(each[k] for each in told) for k in range(3))
    assert right / marked > precision
    assert seen / len(told) > part


def test_photographs_without_faults_are_left_alone(photos):
    parts = [float(find_scratches(x).mean()) for _, x in photos]
    assert sum(parts) / len(parts) < 0.008


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
