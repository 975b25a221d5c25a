"""What is wrong with a photo is found, said, and put into the right operator."""

from __future__ import annotations

import pytest
import torch
from comfyui_flowdps.operators import (
    AveragePool,
    Chain,
    DefocusBlur,
    GaussianBlur,
    Identity,
    Interlace,
    Jpeg,
    Kernel,
    Mask,
)
from comfyui_flowdps.operators.blurs import line
from comfyui_flowdps.priors.error_spectrum import BINS, ErrorSpectrum
from comfyui_flowdps.restoration.diagnosis import WRONGS, Wish, diagnose

from ..estimation.scenes import detailed
from ..estimation.test_jpeg_pixels import encoded
from ..estimation.test_scratches import scratched, smooth


def noisy(x, level, seed=0):
    return x + level * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))


def blurred(x, recipe, level=0.01):
    return noisy(recipe.bind(tuple(x.shape[1:])).A(x), level)


def test_grain_is_measured():
    found = diagnose(noisy(detailed(0), 0.1), Wish("grainy"))
    assert found.recipe == Identity()
    assert found.noise_level == pytest.approx(0.1, rel=0.15)
    assert not found.healthy


def test_a_photo_without_faults_is_healthy():
    """Flat squares with little grain, or none: nothing is to be repaired."""
    x = torch.zeros(1, 3, 128, 128)
    x[..., 20:60, 30:90] = 0.5
    x[..., 50:100, 60:110] -= 0.7
    found = diagnose(x, Wish("grainy"))
    assert found.healthy
    light = noisy(x, 0.012)
    assert diagnose(light, Wish()).healthy
    assert not diagnose(light, Wish("grainy")).healthy


@pytest.mark.parametrize("recipe", [GaussianBlur(17, 2.0), DefocusBlur(5.0)], ids=["soft", "lens"])
def test_a_blur_is_found(recipe):
    found = diagnose(blurred(detailed(2), recipe), Wish("blurred"))
    assert isinstance(found.recipe, GaussianBlur | DefocusBlur)
    assert "blurred" in " ".join(found.found)


def test_a_strong_wish_takes_a_wider_blur_and_more_grain():
    y = blurred(detailed(2), GaussianBlur(17, 2.0))
    gentle, usual, strong = (
        diagnose(y, Wish("blurred", how)) for how in ("gentle", "as found", "strong")
    )
    assert gentle.recipe.sigma < usual.recipe.sigma < strong.recipe.sigma
    assert gentle.noise_level < usual.noise_level < strong.noise_level


def test_a_small_photo_grows():
    found = diagnose(detailed(3, 64, 96), Wish("small"))
    assert found.recipe == AveragePool(4)
    assert diagnose(detailed(3, 64, 96), Wish("small", enlarge=2)).recipe == AveragePool(2)


def test_a_jpeg_is_read_in_its_pixels():
    found = diagnose(encoded(detailed(4), 20, 2), Wish())
    assert found.recipe == Jpeg(20)
    assert "quality 20" in " ".join(found.found)


def test_a_bad_jpeg_that_was_resized_is_said():
    found = diagnose(noisy(detailed(4), 0.05), Wish("bad JPEG"))
    assert found.recipe == Identity()
    assert any("No traces of JPEG" in each for each in found.warnings)


def test_old_video_misses_every_second_line():
    assert diagnose(detailed(5), Wish("old video")).recipe == Interlace("top")


def interlaced(x, by):
    """Every second line of x as it is ``by`` pixels later."""
    y = x.clone()
    y[:, :, 1::2] = x.roll(by, 3)[:, :, 1::2]
    return y


def test_old_video_is_found_by_itself():
    x = detailed(5, 192, 256)
    found = diagnose(interlaced(x, 6), Wish())
    assert found.recipe == Interlace("top")
    assert "old video" in " ".join(found.found)
    assert diagnose(x, Wish()).recipe != Interlace("top")


def test_old_video_that_is_to_grow_is_told_and_not_taken_apart():
    found = diagnose(interlaced(detailed(5, 192, 256), 6), Wish(enlarge=2))
    assert found.recipe == AveragePool(2)
    assert any('"old video", before you enlarge it' in each for each in found.warnings)


def test_what_may_be_scratches_is_told_and_not_mended():
    y, _ = scratched(smooth(6), 6, 0.9)
    found = diagnose(y, Wish())
    assert "may be scratches" in " ".join(found.found)
    assert found.lost is None
    assert "may be scratches" not in " ".join(diagnose(smooth(6), Wish()).found)


def test_a_photo_that_was_enlarged_is_told():
    small = detailed(3, 64, 96)
    large = torch.nn.functional.interpolate(small, scale_factor=4, mode="bicubic").clamp(-1, 1)
    told = diagnose(large, Wish())
    assert "no finer detail than a photo of" in " ".join(told.found) or told.recipe != Identity()
    assert "no finer detail" not in " ".join(diagnose(detailed(3, 256, 384), Wish()).found)


def test_scratches_are_lost_pixels():
    y, truth = scratched(smooth(6), 6, 0.9)
    found = diagnose(y, Wish("scratched"))
    assert isinstance(found.recipe, Mask)
    assert float(found.lost[truth].mean()) > 0.6


def test_a_painted_mask_is_taken_in_place_of_a_search():
    painted = torch.zeros(192, 256)
    painted[50:60, 80:120] = 1
    found = diagnose(detailed(6), Wish("scratched"), painted)
    assert torch.equal(found.lost, painted)
    assert torch.equal(found.recipe.mask(), 1 - painted.double())


def test_several_faults_stand_in_the_order_of_the_world():
    painted = torch.zeros(192, 256)
    painted[50:60, 80:120] = 1
    y = blurred(detailed(7), GaussianBlur(17, 2.0))
    found = diagnose(y, Wish("several at once", enlarge=2), painted)
    assert isinstance(found.recipe, Chain)
    kinds = [type(part) for part in found.recipe.recipes]
    assert kinds[-2:] == [AveragePool, Mask]


@pytest.mark.parametrize("wrong", WRONGS)
def test_every_wrong_gives_a_recipe_that_takes_the_photo(wrong):
    x = detailed(8, 96, 96)
    found = diagnose(x, Wish(wrong))
    found.recipe.from_photo(x)
    assert found.found


@pytest.mark.parametrize(
    ("name", "value"),
    [("wrong", "ugly"), ("strength", "very"), ("invent", 2.0), ("enlarge", 40), ("effort", "no")],
)
def test_wishes_that_nobody_can_fulfil_are_refused(name, value):
    with pytest.raises(ValueError, match=name):
        Wish(**{name: value})


def test_invent_moves_the_first_noise_level_that_suits_the_model():
    flat = ErrorSpectrum((0.1,), ((0.01,) * BINS,), refine=(0.15, 0.06))
    for suits, wanted in ((None, [0.1, 0.3, 1.0]), (flat, [0.05, 0.15, 1.0])):
        plans = [Wish(invent=v).plan(suits) for v in (0.0, 0.5, 1.0)]
        assert [settings.denoise for settings, _ in plans] == wanted
        assert [float(levels[0]) for _, levels in plans] == pytest.approx(wanted)
        assert len(plans[-1][1]) == 11


def test_only_what_is_said_to_be_scratched_keeps_its_grain():
    painted = torch.zeros(192, 256)
    painted[50:60, 80:120] = 1
    grainy = noisy(detailed(6), 0.05)
    assert diagnose(grainy, Wish("scratched"), painted).only_lost
    assert not diagnose(grainy, Wish("several at once"), painted).only_lost


def test_a_straight_shake_is_found():
    straight = Kernel.from_tensor(line(9.0, 30.0))
    found = diagnose(blurred(detailed(9), straight), Wish("shaken"))
    assert "straight motion" in " ".join(found.found)
    assert isinstance(found.recipe, Kernel)
