"""How much compression took from a JPEG."""

from __future__ import annotations

import pytest
import torch
from comfyui_flowdps.estimation import rounding
from comfyui_flowdps.estimation.progress import Progress
from comfyui_flowdps.estimation.rounding import rounded_away
from comfyui_flowdps.operators import Jpeg
from comfyui_flowdps.restoration.images import read_image

from ..conftest import HELD_OUT


@pytest.mark.parametrize(("subsampling", "within"), [("4:4:4", 0.35), ("4:2:0", 0.4)])
@pytest.mark.parametrize("quality", [5, 10, 30, 60, 90])
def test_about_as_much_as_was_taken(quality, subsampling, within):
    """For every one of six pictures, of which the largest loss is ten times the smallest. What
    halving the colours took is not wholly seen.
    """
    recipe = Jpeg(quality, subsampling)
    for file in sorted((HELD_OUT / "tune").glob("*.png"))[:6]:
        x = read_image(file)[0]
        y = recipe.bind(tuple(x.shape[1:])).A(x)
        lost = float((y - x).square().mean().sqrt())
        assert rounded_away(recipe, y) == pytest.approx(lost, rel=within)


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
def test_a_large_picture_is_measured_in_strips(subsampling, monkeypatch):
    """As a whole, within what the borders of the strips change."""
    x = read_image(sorted((HELD_OUT / "tune").glob("*.png"))[0])[0].tile(1, 1, 2, 1)
    recipe = Jpeg(20, subsampling)
    whole = rounded_away(recipe, x)
    heard = []
    monkeypatch.setattr(rounding, "STRIP", 32 * x.shape[3])
    assert rounded_away(recipe, x, Progress(heard.append)) == pytest.approx(whole, rel=0.01)
    assert len(heard) == -(-(x.shape[2] - 4) // 32)


def test_a_flat_picture_lost_no_less_than_eight_bits_take():
    assert rounded_away(Jpeg(50), torch.zeros(1, 3, 33, 47)) == 0.004


def test_too_small_a_picture_is_refused():
    with pytest.raises(ValueError, match="at least 16 a side"):
        rounded_away(Jpeg(50), torch.zeros(1, 3, 15, 47))
