"""Symmetric total variation, and the images that minimise it beside a data term."""

import pytest
import torch
from comfyui_flowdps.operators import (
    AveragePool,
    GaussianBlur,
    Identity,
    Mask,
    Measurement,
    Quantise,
)
from comfyui_flowdps.samplers import variation
from comfyui_flowdps.samplers.variation import _adjoint, corners, regularised, symmetric_variation


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()


def test_corners_have_an_exact_adjoint():
    x = drawn(2, 3, 5, 7)
    fields = [(drawn(2, 3, 5, 7, seed=k), drawn(2, 3, 5, 7, seed=9 + k)) for k in range(4)]
    pairs = zip(corners(x), fields, strict=True)
    there = sum((a * p + b * q).sum() for (a, b), (p, q) in pairs)
    torch.testing.assert_close(there, (x * _adjoint(fields)).sum())


@pytest.mark.parametrize("axes", [[-1], [-2], [-1, -2]])
def test_reflections_have_the_same_variation(axes):
    x = drawn(2, 3, 6, 5)
    torch.testing.assert_close(symmetric_variation(x.flip(axes)), symmetric_variation(x))


def test_variation_of_an_edge_is_its_height_times_its_length():
    x = torch.zeros(1, 1, 6, 8, dtype=torch.float64)
    x[..., 4:] = 2.0
    torch.testing.assert_close(symmetric_variation(x), torch.tensor([2.0 * 6]).double())


def problem(recipe, noise=0.1):
    operator = recipe.bind((3, 8, 8), dtype=torch.float64)
    x = torch.where(torch.arange(8) < 3, -0.5, 0.6).double().expand(2, 3, 8, 8)
    y = operator.A(x)
    return Measurement(y + noise * drawn(*y.shape), operator, noise)


def objective(measurement, x, strength, weight, anchor):
    misfit = measurement.operator.misfit(x, measurement.y)
    size = 0.0
    for p, q in corners(x):
        size = size + (strength * (p.square() + q.square()).sum(1, keepdim=True).sqrt()).sum() / 4
    return misfit.square().sum() / 2 + size + (weight * (x - anchor).square()).sum() / 2


HOLES = Mask.from_tensor((drawn(8, 8) > 0).float())
PLACES = 0.02 + 0.3 * torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(4)).double()


@pytest.mark.parametrize(
    ("strength", "weight"),
    [(0.02, 0.0), (0.05, 0.05), (PLACES.mean(1, keepdim=True), PLACES)],
    ids=["plain", "weight", "local"],
)
@pytest.mark.parametrize(
    "recipe", [Identity(), AveragePool(2), GaussianBlur(3, sigma=1.0), HOLES, Quantise(5)], ids=str
)
def test_no_image_nearby_is_better(recipe, strength, weight):
    measurement = problem(recipe)
    anchor = 0.3 * drawn(2, 3, 8, 8, seed=3)
    x = regularised(measurement, strength, anchor, weight, iterations=1500)
    best = objective(measurement, x, strength, weight, anchor)
    for k in range(40):
        step = 10.0 ** -(1 + k % 4)
        other = x + step * drawn(*x.shape, seed=100 + k)
        assert objective(measurement, other, strength, weight, anchor) > best - 1e-7
    # Also along the way to images that are better in one part of the objective.
    for other in (anchor, measurement.operator.picture(measurement.y).mean().expand_as(x)):
        for part in (0.01, 0.1):
            value = objective(measurement, torch.lerp(x, other, part), strength, weight, anchor)
            assert value > best - 1e-7


def test_sixty_iterations_are_near_the_end():
    measurement = problem(GaussianBlur(3, sigma=1.0))
    start = measurement.y
    soon = regularised(measurement, 0.02, start)
    late = regularised(measurement, 0.02, start, iterations=1500)
    assert float((soon - late).square().mean().sqrt()) < 0.01


def test_an_operator_without_a_closed_prox_gives_the_same():
    """Few steps of its solver per iteration are caught up with."""
    measurement = problem(GaussianBlur(3, sigma=1.0))
    operator = measurement.operator
    chained = Identity().bind((3, 8, 8), dtype=torch.float64) @ operator
    assert chained.iterative
    assert not operator.iterative
    twin = Measurement(measurement.y, chained, 0.1)
    want = regularised(measurement, 0.02, measurement.y, iterations=400)
    got = regularised(twin, 0.02, measurement.y, iterations=400)
    torch.testing.assert_close(got, want, atol=1e-4, rtol=0)


@pytest.mark.parametrize("values", [1, 2 * 2 * 3 * 8, 3 * 2 * 3 * 8], ids=lambda n: f"{n} values")
@pytest.mark.parametrize("recipe", [GaussianBlur(3, sigma=1.0), Quantise(5)], ids=str)
def test_strips_change_nothing(recipe, values, monkeypatch):
    measurement, anchor = problem(recipe), 0.3 * drawn(2, 3, 8, 8, seed=3)
    local = PLACES.mean(1, keepdim=True), anchor, PLACES
    whole = regularised(measurement, *local, iterations=20)
    monkeypatch.setattr(variation, "STRIP", values)
    assert len(variation._strips(anchor)) > 1
    torch.testing.assert_close(regularised(measurement, *local, iterations=20), whole)


def test_a_batch_is_its_samples():
    measurement = problem(AveragePool(2))
    start = drawn(2, 3, 8, 8)
    both = regularised(measurement, 0.05, start, PLACES)
    for k in range(2):
        one = Measurement(measurement.y[k : k + 1], measurement.operator, 0.1)
        alone = regularised(one, 0.05, start[k : k + 1], PLACES)
        torch.testing.assert_close(both[k : k + 1], alone)
