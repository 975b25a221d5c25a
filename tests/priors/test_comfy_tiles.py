"""What a tile gets of a host's conditioning, on stand-ins with the host's attributes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from comfyui_flowdps.priors.comfy_tiles import Hints, controls_of, cut_area, cut_conditions
from comfyui_flowdps.priors.tiling import Tile

WHOLE = (12, 20)
TILE = Tile(2, 6, 8, 10, WHOLE)


class Condition:
    def __init__(self, cond):
        self.cond = cond

    def _copy_with(self, cond):
        return type(self)(cond)


def field(*shape):
    return torch.arange(float(torch.Size(shape).numel())).view(shape)


@pytest.mark.parametrize("area", [(5, 4, 0, 0), (12, 20, 0, 0), (3, 7, 4, 8), (6, 9, 7, 11)])
def test_an_area_is_the_part_that_the_tile_sees(area):
    """Painted on the whole and cut, or painted on the tile: the same."""

    def painted(size, area):
        canvas = torch.zeros(size)
        if area is not None:
            height, width, y, x = area
            assert height > 0
            assert width > 0
            canvas[y : y + height, x : x + width] = 1
        return canvas

    expected = TILE.of(painted(WHOLE, area))
    assert torch.equal(painted(expected.shape, cut_area(area, TILE)), expected)
    assert (cut_area(area, TILE) is None) == (not expected.any())


def test_an_area_of_a_video_keeps_its_time():
    assert cut_area((1, 6, 9, 0, 7, 11), TILE) == (1, 3, 5, 0, 5, 5)


def test_what_has_the_latents_size_is_cut_and_the_rest_is_not():
    beside, text = Condition(field(1, 3, *WHOLE)), Condition(field(1, 12, 20))
    video, reference = Condition(field(1, 3, 1, *WHOLE)), Condition(field(1, 3, 9, 9))
    several = Condition([field(1, 3, *WHOLE)])
    conds = {"a": beside, "b": text, "c": video, "d": reference, "e": several}
    mask = field(1, *WHOLE)
    group = [
        {"model_conds": conds, "mask": mask, "strength": 0.5},
        {"model_conds": {}, "area": (4, 4, 0, 0)},
    ]
    cut = cut_conditions({"positive": group, "negative": None}, TILE)
    assert cut["negative"] is None
    (first,) = cut["positive"]
    assert torch.equal(first["mask"], mask[:, 2:10, 6:16])
    assert torch.equal(first["model_conds"]["a"].cond, beside.cond[..., 2:10, 6:16])
    assert torch.equal(first["model_conds"]["c"].cond, video.cond[..., 2:10, 6:16])
    assert all(first["model_conds"][name] is conds[name] for name in "bde")
    assert first["strength"] == 0.5
    assert group[0]["mask"] is mask
    assert beside.cond.shape[-2:] == WHOLE


def resize(picture, width, height, algorithm):
    return F.interpolate(picture, (height, width), mode=algorithm)


def control(previous=None, vae=None, **values):
    given = {"cond_hint_original": field(1, 3, 24, 40), "cond_hint": None, "vae": vae}
    given |= {"compression_ratio": 8, "upscale_algorithm": "nearest", "extra_concat_orig": []}
    return SimpleNamespace(previous_controlnet=previous, **{**given, **values})


def test_control_networks_get_their_part_and_have_everything_back():
    first = control()
    second = control(first, cond_hint=field(1), extra_concat_orig=[field(1, 1, 6, 10)])
    groups = {"positive": [{"control": second}, {}], "negative": [{"control": first}], "x": None}
    found = controls_of(groups)
    assert {id(each) for each in found} == {id(first), id(second)}
    assert len(found) == 2
    before = [dict(vars(each)) for each in found]

    def stop():
        with Hints(resize).within(found, TILE):
            for each in found:
                whole = resize(before[0]["cond_hint_original"], 160, 96, "nearest")
                assert torch.equal(each.cond_hint_original, whole[..., 16:80, 48:128])
                assert each.cond_hint is None
            mask = resize(field(1, 1, 6, 10), 160, 96, "nearest")
            assert torch.equal(second.extra_concat_orig[0], mask[..., 16:80, 48:128])
            first.cond_hint = field(3)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert [vars(each) for each in found] == before


def test_what_an_autoencoder_made_of_a_picture_is_kept_for_its_tile():
    vae = SimpleNamespace(spacial_compression_encode=lambda: 8)
    one, hints = control(vae=vae, compression_ratio=1), Hints(resize)
    other = Tile(4, 10, 8, 10, WHOLE)
    with hints.within([one], TILE):
        one.cond_hint = made = field(1, 16, 8, 10)
    with hints.within([one], other):
        assert one.cond_hint is None
    with hints.within([one], TILE):
        assert torch.equal(one.cond_hint, made)
    assert one.cond_hint is None
