"""The contract of operators over time: of several frames, alone and with those of single frames."""

from __future__ import annotations

import json

import pytest
import torch
from comfyui_flowdps.operators import (
    AveragePool,
    Cadence,
    Chain,
    Dust,
    Exposure,
    Fields,
    Flicker,
    GaussianBlur,
    Identity,
    LinearOperator,
    Mask,
    dottest,
    recipe_from_dict,
)
from comfyui_flowdps.operators.observation import Observation
from comfyui_flowdps.operators.registry import FILM

from .dense import check_prox, draw

SPOTS = torch.tensor([[[1, 0, 1.0], [1, 1, 1]], [[1, 1, 1], [0.4, 1, 0]]])
ALONE = {
    "fields": Fields(),
    "fields-bottom": Fields("bottom"),
    "exposure": Exposure(3),
    "dropped": Cadence(4, (0, 2, 3)),
    "repeated": Cadence(3, (0, 0, 2)),
    "flicker": Flicker((1.0, 0.7, 1.3)),
    "dust": Dust.from_tensor((SPOTS == 1).double()),
    "dust-weights": Dust.from_tensor(SPOTS),
}
BLUR = GaussianBlur(3, sigma=0.7)
TOGETHER = {
    "blur, then fields": Chain((BLUR, Fields())),
    "shrunk, then averaged": Chain((AveragePool(2), Exposure(2))),
    "averaged, then fields": Chain((Exposure(3), Fields())),
    "dropped, then blur": Chain((Cadence(3, (0, 2)), BLUR)),
    "averaged, then one mask": Chain((Exposure(2), Mask.from_tensor(SPOTS[0]))),
}
every = pytest.mark.parametrize("recipe", [*ALONE.values(), *TOGETHER.values()], ids=repr)
alone = pytest.mark.parametrize("recipe", ALONE.values(), ids=ALONE.keys())


def bound(recipe, size=(4, 5), dtype=torch.float64):
    height, width = (n * recipe.stride for n in size)
    return recipe.bind((2, height, width), dtype=dtype)


def film(operator, seed, cycles=1):
    return draw(operator.in_shape, seed, cycles * operator.cycle[0])


def seen(operator, seed, cycles=1):
    return draw(operator.out_shape, seed, cycles * operator.cycle[1])


def dense(operator):
    """The matrix of one cycle of frames."""
    shape = (operator.cycle[0], *operator.in_shape)
    n = torch.Size(shape).numel()
    basis = torch.eye(n, dtype=torch.float64).view(n, *shape)
    return torch.stack([operator.A(each).flatten() for each in basis], 1)


def test_every_row_of_the_table_has_a_case():
    assert {recipe.name for recipe in ALONE.values()} == {row.name for row in FILM}


@every
def test_adjoint_and_linearity(recipe):
    operator = bound(recipe)
    x, x2, y = film(operator, 0), film(operator, 1), seen(operator, 2)
    torch.testing.assert_close(operator.A(2 * x - 3 * x2), 2 * operator.A(x) - 3 * operator.A(x2))
    dottest(operator, dtype=torch.float64)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad((operator.A(x) * y).sum(), x)
    torch.testing.assert_close(gradient, operator.adjoint(y), rtol=1e-10, atol=1e-10)


@every
def test_prox_is_the_minimum(recipe):
    operator = bound(recipe)
    check_prox(operator, film(operator, 3), seen(operator, 4))


@every
def test_pseudo_inverse_is_moore_penrose(recipe):
    operator = bound(recipe, (3, 4))
    matrix, y = dense(operator), seen(operator, 5)
    closed = type(operator)._pinv is not LinearOperator._pinv
    if closed:
        want = torch.linalg.pinv(matrix) @ y.flatten()
        torch.testing.assert_close(operator.pinv(y).flatten(), want, rtol=1e-8, atol=1e-8)
    x = film(operator, 6)
    again = operator.A(operator.pinv(operator.A(x)))
    allowed = 1e-9 if closed else 3e-4
    assert (again - operator.A(x)).norm() <= allowed * torch.linalg.matrix_norm(
        matrix, 2
    ) * x.norm()
    torch.testing.assert_close(
        operator.projection(x), operator.pinv(operator.A(x)), rtol=1e-6, atol=1e-6
    )
    torch.testing.assert_close(operator.normal(x), operator.adjoint(operator.A(x)))


@every
def test_a_longer_film_is_its_cycles_one_after_another(recipe):
    operator = bound(recipe)
    if operator.once:
        return
    x, y = film(operator, 7, cycles=3), seen(operator, 8, cycles=3)
    parts = list(zip(x.chunk(3), y.chunk(3), strict=True))
    torch.testing.assert_close(operator.A(x), torch.cat([operator.A(a) for a, _ in parts]))
    torch.testing.assert_close(
        operator.prox(x, y, 2.0), torch.cat([operator.prox(a, b, 2.0) for a, b in parts])
    )
    assert operator.images_of(len(y)) == recipe.images_of(len(y)) == len(x)


@every
def test_wrong_numbers_of_frames_are_named(recipe):
    operator = bound(recipe)
    frames, measured = operator.cycle
    with pytest.raises(ValueError, match=rf"image has {frames + 1} frames.*expects.*{frames}"):
        operator.A(draw(operator.in_shape, 0, frames + 1)) if frames > 1 else operator.A(
            draw(operator.in_shape, 0, 0)
        )
    if measured > 1:
        with pytest.raises(ValueError, match=f"measurement has {measured - 1} frames"):
            operator.adjoint(draw(operator.out_shape, 0, measured - 1))


@every
def test_recipe_survives_json(recipe):
    again = recipe_from_dict(json.loads(json.dumps(recipe.to_dict())))
    assert again == recipe
    assert hash(again) == hash(recipe)


@every
def test_cycle_of_recipe_is_that_of_its_operator(recipe):
    assert recipe.cycle == bound(recipe).cycle


def test_a_film_is_that_of_all_its_masks_and_no_longer():
    for recipe in (ALONE["flicker"], ALONE["dust"]):
        operator = bound(recipe)
        assert operator.once
        with pytest.raises(ValueError, match="expects"):
            operator.A(film(operator, 0, cycles=2))


def test_fields_are_of_different_instants():
    operator = Fields("bottom").bind((1, 4, 3), dtype=torch.float64)
    first, second = film(operator, 0)
    (frame,) = operator.A(torch.stack([first, second]))
    assert torch.equal(frame[:, 1::2], first[:, 1::2])
    assert torch.equal(frame[:, 0::2], second[:, 0::2])


def test_flicker_keeps_black_and_scales_light():
    """As a picture, black (−1) stays black and light is multiplied."""
    recipe = Flicker((1.0, 0.5))
    light = torch.tensor([0.0, 0.6, 2.0], dtype=torch.float64).expand(2, 3, 1, 3)
    operator = recipe.bind((3, 1, 3), dtype=torch.float64)
    picture = operator.picture(operator.A(light - 1)) + 1
    torch.testing.assert_close(picture[0], light[0])
    torch.testing.assert_close(picture[1], light[1] / 2)
    torch.testing.assert_close(recipe.from_photo(picture - 1), operator.A(light - 1))
    masked = Chain((recipe, Mask.from_tensor(torch.tensor([[1, 0, 1.0]]))))
    seen = masked.bind((3, 1, 3), dtype=torch.float64).A(light - 1)
    torch.testing.assert_close(masked.from_photo(picture - 1), seen)


def test_dust_of_one_frame_hides_nothing_of_the_next():
    operator = bound(ALONE["dust"], (2, 3))
    x = film(operator, 1)
    y = operator.A(x)
    assert torch.equal((y == 0).any(1), ALONE["dust"].masks() == 0)
    assert torch.equal(operator.measured[:, 0], ALONE["dust"].masks() > 0)
    assert torch.equal(operator.measured, y != 0)


@alone
def test_observation_of_a_film(recipe):
    """Padded frames become a measurement of as many images as the film has frames."""
    x = draw((3, 6, 7), 0, 2 * recipe.cycle[0] if not bound(recipe).once else recipe.cycle[0])
    x = x.float().clamp(-1, 1)
    count = len(x) // recipe.cycle[0] * recipe.cycle[1]
    gens = [torch.Generator().manual_seed(k) for k in range(count)]
    made = Observation.from_clean(x, recipe, 0.0, 8, gens)
    assert made.padded_size == (8, 8)
    assert made.count == len(x)
    there = made.bind()
    assert len(there.y) == count
    assert float(there.residual_ratio(torch.nn.functional.pad(x, (0, 1, 0, 2))).max()) < 1e-4
    photo = Observation.from_photo(made.measurement_picture, recipe, 0.0, 8)
    valid = photo.bind().valid
    assert valid is not None
    if recipe == ALONE["dust-weights"]:
        return  # A photo that is known in part counts for so much; it is not that much darker.
    torch.testing.assert_close(photo.y * valid, made.y * valid, rtol=0, atol=1e-6)


@alone
def test_observation_names_another_number_of_frames(recipe):
    y = draw((3, 8, 8), 0, recipe.cycle[1]).float()
    made = Observation.from_photo(y, recipe, 0.0, 8)
    with pytest.raises(ValueError, match="samples are asked for"):
        made.bind(count=recipe.cycle[0] + 1)


def test_photos_stay_independent():
    assert Identity().cycle is None
    assert BLUR.bind((2, 4, 5)).cycle is None
    assert BLUR.images_of(7) == 7


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Fields("left"), "first field is 'left'"),
        (lambda: Exposure(0), "is 0; expected a whole number"),
        (lambda: Cadence(3, (0, 3)), r"expected numbers from 0 to 2 in order"),
        (lambda: Cadence(3, (2, 0)), r"in order"),
        (lambda: Flicker((1.0, 0.0)), r"above 0 for every frame"),
        (lambda: Dust.from_tensor(torch.zeros(2, 3, 3)), "0 everywhere"),
        (lambda: Dust.from_tensor(torch.ones(3, 3)), r"expected \(frames, height, width\)"),
    ],
)
def test_bad_values_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_rows_make_recipes():
    assert FILM[1].make(3) == Exposure(3)
    assert FILM[2].make(4) == Cadence(4, (0, 1, 2))
    with pytest.raises(ValueError, match="from 2 to 64"):
        FILM[2].make(1)
