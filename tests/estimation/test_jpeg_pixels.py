"""The compression of a picture is read in its pixels, and none where there was none."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from comfyui_flowdps.estimation.jpeg_pixels import jpeg_from_pixels
from comfyui_flowdps.operators.orientation import upright
from PIL import Image

from .scenes import detailed


def encoded(x: torch.Tensor, quality: int, subsampling: int) -> torch.Tensor:
    """x as Pillow's JPEG gives it back."""
    array = ((x[0].permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).byte().numpy()
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "JPEG", quality=quality, subsampling=subsampling)
    back = np.array(Image.open(stream))
    return torch.from_numpy(back).permute(2, 0, 1)[None].float() / 127.5 - 1


@pytest.mark.parametrize("quality", [10, 30, 50, 70, 90])
@pytest.mark.parametrize(("number", "name"), [(0, "4:4:4"), (2, "4:2:0")])
def test_finds_the_quality_and_the_sampling_of_colour(quality, number, name):
    found = jpeg_from_pixels(encoded(detailed(seed=1), quality, number))
    assert found is not None
    assert (found.quality, found.recipe.subsampling) == (quality, name)


@pytest.mark.parametrize("seed", range(6))
def test_finds_nothing_in_what_was_not_compressed(seed):
    x = detailed(seed=seed)
    assert jpeg_from_pixels(x) is None


@pytest.mark.parametrize("crop", [(1, 0), (0, 3), (5, 5)])
def test_finds_nothing_where_the_blocks_moved(crop):
    """They start at no edge."""
    x = encoded(detailed(seed=2), 50, 2)
    rows, columns = (slice(n, -n or None) for n in crop)
    assert jpeg_from_pixels(x[..., rows, columns]) is None


@pytest.mark.parametrize("size", [(128, 128), (124, 117)], ids=str)
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_finds_the_blocks_of_a_photo_that_was_turned(orientation, size):
    """As cameras turn it: they start at another edge, and rows and columns of the tables change
    places. What is found does to the photo what was done."""
    x = detailed(seed=3)[..., : size[0], : size[1]]
    lying = encoded(x, 30, 2)
    shown = upright(lying, orientation)
    found = jpeg_from_pixels(shown)
    assert found is not None
    assert (found.quality, found.recipe.subsampling) == (30, "4:2:0")
    clean = upright(x, orientation)
    there = found.recipe.bind(tuple(clean.shape[1:])).A(clean)
    assert float((there - shown).abs().mean()) < 0.007
    if (size, orientation) != ((128, 128), 3):  # Where the blocks lie as if it were not turned.
        wrong = type(found.recipe)(30).bind(tuple(clean.shape[1:])).A(clean)
        assert float((wrong - shown).abs().mean()) > 0.01


def test_what_was_found_changes_the_photo_hardly_any_more():
    """A JPEG compressed again by its own tables stays what it is."""
    x = encoded(detailed(seed=3), 30, 2)
    recipe = jpeg_from_pixels(x).recipe
    again = recipe.bind(tuple(x.shape[1:])).A(x)
    other = type(recipe)(60).bind(tuple(x.shape[1:])).A(x)
    assert float((again - x).square().mean()) < 0.2 * float((other - x).square().mean())


def test_refuses_what_is_no_photo():
    with pytest.raises(ValueError, match="there are 2 photos; expected one"):
        jpeg_from_pixels(torch.zeros(2, 3, 64, 64))
