"""What is not linear: JPEG against Pillow, gradients that pass roundings, levels and clamps."""

from __future__ import annotations

import dataclasses
import io
import json

import numpy as np
import pytest
import torch
from comfyui_flowdps.operators import (
    AveragePool,
    Bayer,
    Chain,
    Clip,
    GaussianBlur,
    Jpeg,
    LinearOperator,
    Measurement,
    Quantise,
    recipe_from_dict,
    simulate,
)
from comfyui_flowdps.operators.jpeg import SUBSAMPLING
from comfyui_flowdps.operators.jpeg_codec import SMALLER
from comfyui_flowdps.operators.jpeg_tables import CHROMA, LUMA, scaled
from comfyui_flowdps.operators.orientation import stored, upright
from PIL import Image

from .cases import NONLINEAR

sampling = pytest.mark.parametrize("subsampling", list(SUBSAMPLING))


def smooth(height, width, seed=0, channels=3):
    """A picture with edges and shades, (1, channels, H, W), well inside [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, channels, height, width, generator=generator, dtype=torch.float64)
    x = GaussianBlur(9, sigma=1.5).bind(x.shape[1:], dtype=torch.float64).A(x)
    return 0.8 * x / x.abs().max()


def bound(recipe, x):
    return recipe.bind(tuple(x.shape[1:]), dtype=x.dtype)


def by_pillow(x, **options):
    pixels = ((x[0] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", **options)
    again = np.asarray(Image.open(file).convert("RGB"))
    return torch.from_numpy(again.copy()).permute(2, 0, 1)[None].double()


@sampling
@pytest.mark.parametrize("quality", [5, 30, 75, 95])
@pytest.mark.parametrize("size", [(64, 48), (37, 51)])
def test_jpeg_is_what_pillow_does(subsampling, quality, size):
    x = ((smooth(*size) + 1) * 127.5).round() / 127.5 - 1
    ours = (bound(Jpeg(quality, subsampling), x).A(x) + 1) * 127.5
    want = by_pillow(x, quality=quality, subsampling=subsampling)
    # What is left comes from the integers with which that library computes cosines.
    assert float((ours - want).abs().mean()) < 0.8
    assert float((ours.round() == want).double().mean()) > 0.5
    changed = float((want - (x + 1) * 127.5).abs().mean())
    assert float((ours - want).abs().mean()) < 0.3 * changed


def test_jpeg_with_tables_of_its_own_is_what_pillow_does():
    x = ((smooth(40, 56) + 1) * 127.5).round() / 127.5 - 1
    luma, chroma = tuple(range(3, 67)), tuple(range(10, 74))
    want = by_pillow(x, qtables=[luma, chroma], subsampling="4:2:0")
    ours = (bound(Jpeg(luma=luma, chroma=chroma), x).A(x) + 1) * 127.5
    assert float((ours - want).abs().mean()) < 0.8


def test_quality_scales_the_tables_as_usual():
    assert scaled(LUMA, 50) == LUMA
    assert scaled(CHROMA, 100) == (1,) * 64
    assert scaled(LUMA, 25)[:3] == (32, 22, 20)
    assert max(scaled(LUMA, 1)) == 255


@sampling
def test_jpegs_gradient_is_that_of_its_linear_part(subsampling):
    x = smooth(18, 21, seed=1)
    operator = bound(Jpeg(40, subsampling), x)
    generator = torch.Generator().manual_seed(3)
    v, u = 0.01 * torch.randn(2, *x.shape, generator=generator, dtype=torch.float64)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad((operator.A(x) * v).sum(), x)
    assert float(gradient.norm()) > 0.1 * float(v.norm())

    def linear(at):
        return operator._codec(at, lambda t: t)

    x = x.detach()
    slope = (linear(x + u) - linear(x - u)) / 2
    torch.testing.assert_close((slope * v).sum(), (gradient * u).sum())


@sampling
def test_jpeg_nearly_keeps_what_it_made(subsampling):
    x = smooth(24, 40, seed=2)
    operator = bound(Jpeg(30, subsampling), x)
    once = operator.A(x)
    again = operator.A(once)
    part = 0.1 if subsampling == "4:4:4" else 0.3
    assert float((again - once).abs().mean()) < part * float((once - x).abs().mean())


def test_grey_jpeg_is_the_luma_of_a_colour_one():
    grey = smooth(24, 30, channels=1)
    colour = grey.expand(-1, 3, -1, -1)
    torch.testing.assert_close(
        bound(Jpeg(30), grey).A(grey).expand(-1, 3, -1, -1), bound(Jpeg(30), colour).A(colour)
    )


def test_levels_are_even_and_stay():
    x = torch.linspace(-1.4, 1.4, 601, dtype=torch.float64).view(1, 1, 1, -1)
    operator = bound(Quantise(5), x)
    once = operator.A(x)
    torch.testing.assert_close(once.unique(), torch.tensor([-1, -0.5, 0, 0.5, 1]).double())
    assert float((once - x.clamp(-1, 1)).abs().max()) <= 0.25 + 1e-12
    torch.testing.assert_close(operator.A(once), once)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(operator.A(x).sum(), x)
    torch.testing.assert_close(gradient, torch.ones_like(x))


def test_clip_has_its_own_gradient_inside_and_leads_back_from_outside():
    operator = Clip(-0.5, 0.25).bind((1, 1, 5), dtype=torch.float64)
    x = torch.tensor([-0.9, -0.5, 0.1, 0.25, 0.7], dtype=torch.float64).view(1, 1, 1, 5)
    assert operator.A(x).flatten().tolist() == [-0.5, -0.5, 0.1, 0.25, 0.25]
    torch.testing.assert_close(operator.A(operator.A(x)), operator.A(x))
    inside = x.clamp(-0.4, 0.2).requires_grad_()
    assert torch.autograd.gradcheck(operator.A, inside)
    for sign, want in ((1.0, [0, 1, 1, 1, 1]), (-1.0, [-1, -1, -1, -1, 0])):
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(sign * operator.A(x).sum(), x)
        assert gradient.flatten().tolist() == want


def test_descent_through_clip_ends_where_the_measurement_says():
    operator = Clip(-1, 0.25).bind((1, 1, 3), dtype=torch.float64)
    y = torch.tensor([-0.2, 0.25, 0.1], dtype=torch.float64).view(1, 1, 1, 3)
    x = torch.tensor([0.8, -0.3, -0.5], dtype=torch.float64).view(1, 1, 1, 3)
    for _ in range(200):
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad((operator.A(x) - y).square().sum() / 2, x)
        x = x - 0.2 * gradient
    torch.testing.assert_close(operator.A(x), y, rtol=0, atol=1e-6)


def test_what_clip_cut_off_is_bounded_by_its_end_and_the_range():
    operator = Clip(-0.6, 0.4).bind((1, 1, 5), dtype=torch.float64)
    x = torch.tensor([-0.9, -0.5, 0.1, 0.395, 0.7], dtype=torch.float64).view(1, 1, 1, 5)
    lost = operator.cut_off(operator.A(x), 0.01)
    assert lost.where.flatten().tolist() == [True, False, False, True, True]
    assert lost.end[lost.where].tolist() == [-0.6, 0.4, 0.4]
    # The mean and variance of the uniform distribution from the end to that of the range.
    torch.testing.assert_close(lost.centre[lost.where], torch.tensor([-0.8, 0.7, 0.7]).double())
    want = torch.tensor([0.4, 0.6, 0.6]).double().square() / 12
    torch.testing.assert_close(lost.variance[lost.where], want)
    # The true image is within the bounds, up to the tolerance; an image beyond them is moved there.
    assert float((lost.within(x) - x).abs().max()) <= 0.01
    moved = lost.within(torch.zeros_like(x))
    assert moved.flatten().tolist() == [-0.6, 0, 0, 0.4, 0.4]
    # All of [-1, 1] is kept by an operator whose ends are there: nothing is lost.
    whole = Clip(-1, 1).bind((1, 1, 5), dtype=torch.float64)
    assert not whole.cut_off(x.clamp(-1, 1), 0.01).where.any()


@pytest.mark.parametrize("recipe", NONLINEAR.values(), ids=NONLINEAR.keys())
def test_batches_json_and_no_adjoint(recipe):
    assert recipe_from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    x = torch.cat([smooth(16, 19, seed) for seed in range(3)])
    operator = bound(recipe, x)
    assert not operator.linear
    assert not hasattr(operator, "adjoint")
    assert not isinstance(operator, LinearOperator)
    with torch.inference_mode():
        for k in range(3):
            torch.testing.assert_close(operator.A(x)[k : k + 1], operator.A(x[k : k + 1]))
    with pytest.raises(ValueError, match="expects"):
        operator.A(x[..., :-1])
    single = bound(recipe, x.float()).A(x.float())
    assert single.dtype == torch.float32


def test_one_part_that_is_not_linear_makes_a_chain_so():
    chain = Chain((GaussianBlur(3, sigma=0.8), AveragePool(2), Jpeg(40)))
    x = smooth(16, 20)
    operator = bound(chain, x)
    assert not operator.linear
    want = x
    for recipe in chain.recipes:
        want = bound(recipe, want).A(want)
    torch.testing.assert_close(operator.A(x), want)
    assert not bound(Chain((Jpeg(40), AveragePool(2))), x).linear
    assert bound(Chain((Bayer(), GaussianBlur(3))), x).linear
    measurement = simulate(x, operator, 0.1, [torch.Generator().manual_seed(0)])
    with pytest.raises(ValueError, match="is not linear: choose another method"):
        _ = measurement.linear
    assert Measurement(x, bound(GaussianBlur(3), x), 0.1).linear.linear


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Jpeg(0), "JPEG quality is 0; expected a whole number from 1 to 100"),
        (lambda: Jpeg(30.5), "JPEG quality is 30.5"),
        (lambda: Jpeg(30, "4:1:1"), "'4:1:1'; expected one of 4:4:4, 4:2:2, 4:2:0"),
        (lambda: Jpeg(luma=(1,) * 63), "expected 64 steps"),
        (lambda: Jpeg().bind((4, 8, 8)), "1 or 3 channels; this one has 4"),
        (lambda: Quantise(1), "expected at least 2"),
        (lambda: Clip(0.5, 0.5), "expected low below high"),
    ],
)
def test_bad_values_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
def test_the_rounding_error_of_a_jpeg_has_the_stated_density(subsampling):
    """Of an image of noise, whose coefficients lie anywhere in their intervals."""
    x = 0.2 * torch.randn(
        (6, 3, 64, 96), generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    operator = bound(Jpeg(88, subsampling), x)
    error = operator.rounding_error
    lost = torch.einsum("ij,njhw->nihw", error.colours, operator.A(x) - x)
    plain = dataclasses.replace(error, colours=None)
    stated = plain.scaled(
        torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).double(),
        (error.density / SMALLER).sqrt(),
    )
    # The chroma of noise is far from smooth, so that averages of pixels lose more than roundings.
    known = 3 if subsampling == "4:4:4" else 1
    for low, high, channels in ((0.0, 3e-5, 1), (3e-5, 1.0, known)):
        band = ((error.density > low) & (error.density <= high)).double()
        found, want = (plain.scaled(v, band).square().mean((0, 2, 3)) for v in (lost, stated))
        torch.testing.assert_close(found[:channels], want[:channels], atol=0, rtol=0.2)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_rounding_error_turns_with_the_file(orientation):
    x = smooth(40, 56)
    error = bound(Jpeg(20, "4:2:2", orientation=orientation), x).rounding_error
    turned = bound(Jpeg(20, "4:2:2"), stored(x, orientation)).rounding_error
    want = upright(
        turned.scaled(stored(x, orientation), 1 / (1 + 1e4 * turned.density)), orientation
    )
    torch.testing.assert_close(error.scaled(x, 1 / (1 + 1e4 * error.density)), want)
