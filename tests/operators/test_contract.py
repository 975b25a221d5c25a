"""The contract of every linear operator, on odd and non-square sizes in float64."""

from __future__ import annotations

import json

import pytest
import torch
from comfyui_flowdps.operators import (
    AveragePool,
    BicubicDownsample,
    GaussianBlur,
    LinearOperator,
    MotionBlur,
    dottest,
    recipe_for_task,
    recipe_from_dict,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from .cases import LINEAR, shape_of
from .dense import check_prox, dense, draw

every = pytest.mark.parametrize("recipe", LINEAR.values(), ids=LINEAR.keys())
sizes = st.tuples(st.integers(2, 5), st.integers(2, 5))
quick = settings(max_examples=8, deadline=None, derandomize=True)


def bound(recipe, size, dtype=torch.float64):
    return recipe.bind(shape_of(recipe, size), dtype=dtype)


def dot(a, b):
    return (a * b).sum()


def iterative(operator):
    return type(operator)._pinv is LinearOperator._pinv


def check_inverse(operator, x, y):
    """A A⁺ A = A, here at x, of which y = A x, to the tolerance that ``pinv`` states."""
    again = operator.A(operator.pinv(y))
    if iterative(operator):
        largest = torch.linalg.matrix_norm(dense(operator), 2)
        assert (
            (again - y).flatten(1).norm(dim=1) <= 3e-4 * largest * x.flatten(1).norm(dim=1)
        ).all()
    else:
        torch.testing.assert_close(again, y, rtol=1e-6, atol=1e-7)


@every
@given(size=sizes, seed=st.integers(0, 99))
@quick
def test_linear_and_adjoint(recipe, size, seed):
    operator = bound(recipe, size)
    x, x2 = draw(operator.in_shape, seed), draw(operator.in_shape, seed + 100)
    y = draw(operator.out_shape, seed + 200)
    torch.testing.assert_close(operator.A(2 * x - 3 * x2), 2 * operator.A(x) - 3 * operator.A(x2))
    dottest(operator, torch.Generator().manual_seed(seed), dtype=torch.float64)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(dot(operator.A(x), y), x)
    torch.testing.assert_close(gradient, operator.adjoint(y), rtol=1e-10, atol=1e-10)


@every
@given(size=sizes, seed=st.integers(0, 99))
@quick
def test_pseudo_inverse_and_prox(recipe, size, seed):
    operator = bound(recipe, size)
    x, z = draw(operator.in_shape, seed), draw(operator.in_shape, seed + 1)
    y = operator.A(x)
    check_inverse(operator, x, y)
    check_prox(operator, z, draw(operator.out_shape, seed + 2))


@every
def test_pseudo_inverse_is_moore_penrose(recipe):
    operator = bound(recipe, (3, 4))
    matrix = dense(operator)
    y, cutoff = draw(operator.out_shape, 1), 1e-11
    if iterative(operator):
        cutoff = 0.03
        # Singular values are regularised; those from 0.03 on hardly.
        u, s, _ = torch.linalg.svd(matrix)
        u = u[:, : len(s)][:, s > cutoff * s[0]]
        y = (y.flatten(1) @ u @ u.T).view_as(y)
    want = (torch.linalg.pinv(matrix, rtol=cutoff) @ y.flatten(1).T).T.view(-1, *operator.in_shape)
    torch.testing.assert_close(
        operator.pinv(y), want, rtol=1e-3, atol=1e-3 * float(want.abs().max())
    )


@every
def test_dense_matrix_transposes(recipe):
    operator = bound(recipe, (2, 3))
    n = operator.out_shape[0] * operator.out_shape[1] * operator.out_shape[2]
    basis = torch.eye(n, dtype=torch.float64).view(n, *operator.out_shape)
    torch.testing.assert_close(operator.adjoint(basis).flatten(1), dense(operator))


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batch_inputs_and_inference_mode(recipe, dtype):
    operator = bound(recipe, (3, 2), dtype)
    x, y = draw(operator.in_shape, 1, 3).to(dtype), draw(operator.out_shape, 2, 3).to(dtype)
    kept_x, kept_y = x.clone(), y.clone()
    with torch.inference_mode():
        for result, single in (
            (operator.A(x), lambda k: operator.A(x[k : k + 1])),
            (operator.adjoint(y), lambda k: operator.adjoint(y[k : k + 1])),
            (operator.prox(x, y, 2.0), lambda k: operator.prox(x[k : k + 1], y[k : k + 1], 2.0)),
        ):
            assert result.dtype == dtype
            for k in range(3):
                torch.testing.assert_close(result[k : k + 1], single(k), rtol=1e-4, atol=1e-4)
    assert torch.equal(x, kept_x)
    assert torch.equal(y, kept_y)


@every
def test_composition(recipe):
    inner = GaussianBlur(3, sigma=0.7).bind(shape_of(recipe, (2, 3)), "cpu", torch.float64)
    outer = recipe.bind(inner.out_shape, dtype=torch.float64)
    both = outer @ inner
    x, y = draw(both.in_shape, 1), draw(both.out_shape, 2)
    torch.testing.assert_close(both.A(x), outer.A(inner.A(x)))
    torch.testing.assert_close(both.adjoint(y), inner.adjoint(outer.adjoint(y)))
    dottest(both, dtype=torch.float64)
    check_inverse(both, x, both.A(x))


@every
def test_recipe_survives_json(recipe):
    again = recipe_from_dict(json.loads(json.dumps(recipe.to_dict())))
    assert again == recipe
    assert hash(again) == hash(recipe)


@every
def test_picture_shows_what_recipes_say(recipe):
    operator = bound(recipe, (4, 5))
    _, height, width = operator.in_shape
    picture = operator.picture(draw(operator.out_shape, 1))
    assert picture.shape[1] in (operator.in_shape[0], 3)
    assert tuple(picture.shape[2:]) == recipe.measured_size(height, width)
    assert recipe.image_size(*recipe.measured_size(height, width)) == (height, width)
    fitted = recipe.for_padding((height, width), (height, width))
    assert fitted.bind(operator.in_shape).out_shape == operator.out_shape


@pytest.mark.parametrize("size", [1, 2, 3, 4, 9, 17, 60, 61])
def test_motion_kernel_is_centred_seeded_and_sums_to_one(size):
    before = torch.get_rng_state()
    for seed in range(4):
        kernel = MotionBlur(size, seed=seed).kernel()
        assert torch.equal(kernel, MotionBlur(size, seed=seed).kernel())
        assert kernel.shape == (size, size)
        assert float(kernel.min()) >= 0
        assert float(kernel.sum()) == pytest.approx(1)
        axis = torch.arange(size, dtype=torch.float64) - size // 2
        assert abs(float((kernel.sum(1) * axis).sum())) < 0.05
        assert abs(float((kernel.sum(0) * axis).sum())) < 0.05
    assert torch.equal(before, torch.get_rng_state())
    if size >= 9:
        assert not torch.equal(MotionBlur(size, seed=0).kernel(), MotionBlur(size, seed=1).kernel())


@pytest.mark.parametrize("boundary", ["symmetric", "periodic"])
def test_motion_is_a_true_convolution(boundary):
    recipe = MotionBlur(5, seed=3, boundary=boundary)
    operator = recipe.bind((1, 12, 13), dtype=torch.float64)
    point = torch.zeros(1, 1, 12, 13, dtype=torch.float64)
    point[0, 0, 6, 6] = 1
    torch.testing.assert_close(operator.A(point)[0, 0, 4:9, 4:9], recipe.kernel())


def test_gaussian_is_a_gaussian():
    taps = GaussianBlur(7, sigma=1.5).taps()
    assert float(taps[3] / taps[5]) == pytest.approx(2.718281828 ** (4 / (2 * 1.5**2)), rel=1e-6)
    constant = torch.full((1, 1, 5, 6), 0.7, dtype=torch.float64)
    blurred = GaussianBlur(7).bind((1, 5, 6), dtype=torch.float64).A(constant)
    torch.testing.assert_close(blurred, constant)


@pytest.mark.parametrize("scale", [2, 3, 4, 5])
def test_bicubic_keeps_position(scale):
    n = 12 * scale
    operator = BicubicDownsample(scale).bind((1, n, n), dtype=torch.float64)
    ramp = torch.arange(n, dtype=torch.float64).expand(1, 1, n, n).contiguous()
    inside = operator.A(ramp)[0, 0, 5, 3:-3]
    centres = (torch.arange(12, dtype=torch.float64) + 0.5)[3:-3] * scale - 0.5
    torch.testing.assert_close(inside, centres, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("task", "scale", "words"),
    [
        ("sr_cubic", 4, "unknown task 'sr_cubic'"),
        ("sr_bicubic", 0, "is 0; expected a whole number"),
        ("sr_avgpool", 2.5, "is 2.5"),
        ("deblur_gauss", 12, "odd number, such as 13"),
    ],
)
def test_bad_recipes_are_named(task, scale, words):
    with pytest.raises(ValueError, match=words):
        recipe_for_task(task, scale)


def test_bad_sizes_are_named():
    with pytest.raises(ValueError, match="pad it to 16x12"):
        AveragePool(4).bind((3, 10, 15))
    with pytest.raises(ValueError, match="expects"):
        AveragePool(4).bind((3, 8, 8)).A(torch.zeros(1, 3, 9, 8))
