"""Measurements of pictures of any size: padded to what the model divides, and cut back."""

from __future__ import annotations

import pytest
import torch
from comfyui_flowdps.operators import (
    AveragePool,
    Bayer,
    BicubicDownsample,
    BlockSensing,
    Chain,
    Colorization,
    GaussianBlur,
    Identity,
    Interlace,
    Jpeg,
    Mask,
    Outpainting,
    WalshHadamard,
    observation,
)
from comfyui_flowdps.operators.observation import Observation, pad, pad_to
from comfyui_flowdps.priors.tiling import LARGEST
from hypothesis import given, settings
from hypothesis import strategies as st

sides = st.integers(1, 40)
BLUR = GaussianBlur(3, sigma=0.8)
recipes = st.sampled_from(
    [Identity(), AveragePool(3), AveragePool(4), BLUR, Chain((BLUR, AveragePool(2)))]
)
quick = settings(max_examples=30, deadline=None, derandomize=True)


def draw(count, height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(count, 3, height, width, generator=generator) - 1


def generators(count):
    return [torch.Generator().manual_seed(10 + k) for k in range(count)]


@given(height=sides, width=sides, multiple=st.integers(1, 24))
@quick
def test_padding_adds_as_little_as_possible_and_keeps_the_picture(height, width, multiple):
    x = draw(1, height, width)
    padded = pad(x, multiple)
    for before, after in zip((height, width), padded.shape[2:], strict=True):
        assert after % multiple == 0
        assert 0 <= after - before < multiple
    assert torch.equal(padded[..., :height, :width], x)
    # Mirrored, nothing invented: every value is one of the picture's own.
    assert torch.isin(padded, x).all()


def test_padding_is_a_reflection_without_the_edge():
    x = torch.arange(5.0).view(1, 1, 1, 5).expand(1, 1, 5, 5)
    assert pad(x, 8)[0, 0, 0].tolist() == [0, 1, 2, 3, 4, 3, 2, 1]
    assert pad(x.transpose(2, 3), 8)[0, 0, :, 0].tolist() == [0, 1, 2, 3, 4, 3, 2, 1]
    assert torch.equal(pad(x, 5), x)
    assert pad_to(x, 3, 7).shape == (1, 1, 5, 7)


@given(height=sides, width=sides, recipe=recipes, multiple=st.sampled_from([1, 8, 16]))
@quick
def test_observed_photo_is_the_measurement(height, width, recipe, multiple):
    photo = draw(2, height, width)
    seen = Observation.from_photo(photo, recipe, 0.05, multiple)
    assert not seen.simulated
    assert torch.equal(seen.measurement_picture, photo)
    assert seen.image_size == (height * recipe.stride, width * recipe.stride)
    assert all(n % multiple == 0 and n % recipe.stride == 0 for n in seen.padded_size)
    restoration = draw(2, *seen.padded_size)
    assert seen.crop(restoration).shape == (2, 3, *seen.image_size)
    assert torch.equal(
        seen.crop(restoration), restoration[..., : seen.image_size[0], : seen.image_size[1]]
    )
    assert seen.padded == (seen.padded_size != seen.image_size)
    assert seen.bind().operator.in_shape == (3, *seen.padded_size)


@given(height=sides, width=sides, recipe=recipes, multiple=st.sampled_from([1, 8, 16]))
@quick
def test_degraded_picture_is_the_operator_of_the_padded_one(height, width, recipe, multiple):
    clean = draw(2, height, width)
    made = Observation.from_clean(clean, recipe, 0.0, multiple, generators(2))
    assert made.simulated
    assert made.image_size == (height, width)
    assert all(n % multiple == 0 and n % recipe.stride == 0 for n in made.padded_size)
    assert made.padded_size[0] >= height
    assert made.padded_size[1] >= width
    measurement = made.bind()
    torch.testing.assert_close(
        measurement.operator.A(pad_to(clean, *made.padded_size)), measurement.y
    )
    assert made.measurement_picture.shape[2:] == tuple(
        -(-n // recipe.stride) for n in (height, width)
    )


def test_noise_has_the_stated_level_and_is_each_samples_own():
    clean = draw(1, 64, 64).expand(2, -1, -1, -1)
    noisy = Observation.from_clean(clean, Identity(), 0.2, 8, generators(2))
    noise = noisy.y - clean
    assert float(noise.std()) == pytest.approx(0.2, rel=0.03)
    assert float((noise[0] - noise[1]).std()) == pytest.approx(0.2 * 2**0.5, rel=0.03)
    alone = Observation.from_clean(clean[:1], Identity(), 0.2, 8, generators(1))
    assert torch.equal(alone.y, noisy.y[:1])
    assert noisy.noise_level == 0.2


def test_one_photo_serves_any_number_of_samples_and_several_only_as_many():
    one, two = (Observation.from_photo(draw(n, 8, 8), Identity(), 0.1, 8) for n in (1, 2))
    measurement = one.bind(count=3)
    assert measurement.y.shape[0] == 3
    assert torch.equal(measurement.y[0], measurement.y[2])
    assert two.bind(count=2).y.shape[0] == 2
    for count in (1, 3):
        with pytest.raises(ValueError, match=rf"holds 2 images and {count} samples.*or one image"):
            two.bind(count=count)


def test_numbers_of_pictures_and_generators_must_fit():
    with pytest.raises(ValueError, match="1 generators for 2 samples; expected one each"):
        Observation.from_clean(draw(2, 8, 8), Identity(), 0.1, 8, generators(1))


HALF = Mask.from_tensor(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
OTHERS = [
    HALF,
    Outpainting(3, 1, 2, 4),
    Colorization(),
    Interlace(),
    Bayer(),
    WalshHadamard(0.5),
    BlockSensing(0.5, block=8),
    Jpeg(30),
    Chain((GaussianBlur(3), Colorization())),
    Chain((Colorization(), AveragePool(2))),
    Chain((AveragePool(2), HALF)),
    Chain((Outpainting(2, 2, 2, 2), AveragePool(2))),
]


@pytest.mark.parametrize("multiple", [1, 16])
@pytest.mark.parametrize("recipe", OTHERS, ids=lambda r: r.name)
def test_measurements_of_every_shape_are_pictures_without_padding(recipe, multiple):
    clean = draw(2, 30, 38)
    made = Observation.from_clean(clean, recipe, 0.0, multiple, generators(2))
    assert made.image_size == (30, 38)
    assert made.measurement_picture.shape == (2, 3, *recipe.measured_size(30, 38))
    measurement = made.bind()
    padded = pad_to(clean, *made.padded_size)
    torch.testing.assert_close(measurement.operator.A(padded), measurement.y)
    picture = made.picture(measurement.operator.A(padded) - measurement.y)
    assert picture.shape == made.measurement_picture.shape
    assert measurement.residual_ratio(padded).tolist() == pytest.approx([0, 0], abs=1e-3)
    other = padded + draw(2, *made.padded_size, seed=1)
    assert float(measurement.residual_ratio(other).min()) > 2


@pytest.mark.parametrize("multiple", [1, 16])
@pytest.mark.parametrize("recipe", OTHERS, ids=lambda r: r.name)
def test_photos_of_measurements_are_read_back(recipe, multiple):
    """The picture of a measurement, observed, is that measurement."""
    if recipe.name.startswith("cs_"):
        with pytest.raises(ValueError, match="no photo shows"):
            Observation.from_photo(draw(1, 32, 32), recipe, 0.1, multiple)
        return
    made = Observation.from_clean(draw(1, 30, 38), recipe, 0.0, multiple, generators(1))
    seen = Observation.from_photo(made.measurement_picture, recipe, 0.1, multiple)
    assert (seen.image_size, seen.padded_size) == (made.image_size, made.padded_size)
    torch.testing.assert_close(seen.measurement_picture, made.measurement_picture)
    assert seen.y.shape == made.y.shape
    assert seen.bind(count=2).operator.in_shape == (3, *seen.padded_size)


def test_what_is_padded_beyond_a_mask_or_a_margin_is_unknown():
    photo = draw(1, 10, 12)
    for recipe, wanted in ((HALF, (10, 12)), (Outpainting(3, 1, 2, 4), (15, 17))):
        seen = Observation.from_photo(photo, recipe, 0.1, 16)
        assert seen.image_size == wanted
        assert seen.padded_size == (16, 32) if wanted[1] > 16 else (16, 16)
        operator = seen.bind().operator
        x = torch.zeros(1, 3, *seen.padded_size)
        beyond = torch.ones_like(x)
        beyond[..., : wanted[0], : wanted[1]] = 0
        assert torch.equal(operator.A(x + beyond), operator.A(x))


@pytest.mark.parametrize("after", [AveragePool(2), BicubicDownsample(3)])
def test_margins_before_what_does_not_divide_them(after):
    """A clean picture loses a few rows and columns more; of an observed one every pixel counts."""
    recipe = Chain((Outpainting(5, 3, 2, 7), after))
    x = torch.rand(1, 3, 53, 67, generator=torch.Generator().manual_seed(0)) * 2 - 1
    seen = Observation.from_clean(x, recipe, 0.0, 16, [torch.Generator()])
    inner = after.bind((3, 42, 60)).A(x[..., 3:45, 5:65])
    torch.testing.assert_close(seen.y, inner)
    there = Observation.from_photo(after.bind((3, 42, 60)).picture(inner), recipe, 0.0, 16)
    torch.testing.assert_close(there.y, inner)


def test_holes_do_not_count_in_the_residual():
    clean = draw(1, 64, 64)
    made = Observation.from_clean(clean, HALF, 0.1, 8, generators(1))
    assert made.bind().residual_ratio(clean).tolist() == pytest.approx([1], rel=0.05)


@pytest.mark.parametrize(
    ("recipe", "size"),
    [(BicubicDownsample(255), (32, 40)), (Outpainting(4000, 4000, 4000, 4000), (64, 64))],
)
def test_what_would_be_too_large_is_refused_before_it_is_made(monkeypatch, recipe, size):
    """Of either kind: nothing of that size is padded or bound."""
    for name in ("pad_to", "simulate"):
        monkeypatch.setattr(observation, name, lambda *_: pytest.fail("made"))
    assert observation.LARGEST == LARGEST, "what a prior can restore"
    with pytest.raises(ValueError, match=r"expected at most 4096 a side: choose a smaller"):
        Observation.from_photo(torch.zeros(1, 3, *size), recipe, 0.1, 16)
    with pytest.raises(ValueError, match=r"expected at most 4096 a side: choose a smaller"):
        Observation.from_clean(torch.zeros(1, 3, 5000, 16), recipe, 0.1, 16, [])
