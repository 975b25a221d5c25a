"""Scratches are found on scenes, and little else is."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from comfyui_flowdps.estimation.scratches import find_scratches
from comfyui_flowdps.operators.scratches import scratches

from .scenes import detailed


def smooth(seed, height=192, width=256):
    """A scene whose texture is as faint as that of most photos."""
    return detailed(seed, height, width, texture=0.05)


def scratched(x, seed, level):
    """x with drawn scratches of the brightness ``level``, and where they are."""
    mask = scratches(*x.shape[2:], count=6, thickness=2.0, seed=seed)
    soft = F.avg_pool2d(F.pad(mask[None, None], [1] * 4), 3, 1) * 0.4 + 0.6 * mask
    return x + 0.8 * soft * (level - x), mask > 0.5


@pytest.mark.parametrize("level", [-0.9, 0.9], ids=["dark", "bright"])
@pytest.mark.parametrize("seed", range(3))
def test_most_of_a_scratch_is_found_and_little_else(seed, level):
    y, truth = scratched(smooth(seed), seed, level)
    found = find_scratches(y) > 0.5
    near = F.max_pool2d(truth[None, None].float(), 7, 1, 3)[0, 0] > 0.5
    assert float((found & truth).sum() / truth.sum()) > 0.6
    assert float((found & near).sum() / found.sum()) > 0.8


@pytest.mark.parametrize("seed", range(3))
def test_hardly_anything_is_marked_where_there_are_none(seed):
    assert float(find_scratches(smooth(seed)).mean()) < 0.01


def test_a_higher_sensitivity_finds_no_less():
    y, _ = scratched(smooth(5), 5, 0.4)
    parts = [float(find_scratches(y, s).mean()) for s in (0.1, 0.5, 0.9)]
    assert parts[0] <= parts[1] <= parts[2] > 0


def test_bright_and_dark_are_alike():
    y, _ = scratched(smooth(4), 4, 0.9)
    assert torch.equal(find_scratches(y), find_scratches(-y))


def test_large_photos_are_searched_in_bands_without_a_seam(monkeypatch):
    y, _ = scratched(smooth(6, 320, 160), 6, 0.9)
    whole = find_scratches(y)
    monkeypatch.setattr("comfyui_flowdps.estimation.scratches.LARGEST", 1000)
    monkeypatch.setattr("comfyui_flowdps.estimation.scratches.BAND", 64)
    # The noise is measured band by band, which moves the threshold a little.
    assert float((find_scratches(y) - whole).abs().mean()) < 0.005


@pytest.mark.parametrize(("name", "value"), [("sensitivity", 1.5), ("thickness", 0)])
def test_values_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=name):
        find_scratches(torch.zeros(1, 3, 64, 64), **{name: value})
