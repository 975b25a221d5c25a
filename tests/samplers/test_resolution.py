"""The share of an image that a measurement determines."""

import pytest
import torch
from comfyui_flowdps.operators import (
    AveragePool,
    Clip,
    GaussianBlur,
    Identity,
    Mask,
    Measurement,
    Quantise,
)
from comfyui_flowdps.samplers.resolution import SPREAD, directness, resolution

NOISE = 0.05
GAMMA = (SPREAD / NOISE) ** 2


def bound(recipe, side=16):
    operator = recipe.bind((3, side, side), dtype=torch.float64)
    return Measurement(torch.zeros(1, *operator.out_shape).double(), operator, NOISE)


def test_a_mask_is_found_pixel_by_pixel():
    seen = torch.rand(16, 16, generator=torch.Generator().manual_seed(1)) > 0.4
    found = resolution(bound(Mask.from_tensor(seen.float())))
    want = torch.where(seen, GAMMA / (1 + GAMMA), 1e-4).double().expand(1, 3, 16, 16)
    torch.testing.assert_close(found, want)


@pytest.mark.parametrize("recipe", [AveragePool(4), GaussianBlur(5, sigma=1.5)], ids=str)
def test_what_is_the_same_everywhere_has_its_mean(recipe):
    """The mean of the diagonal of R by the dense matrix; values of single pixels are noise."""
    measurement = bound(recipe)
    operator = measurement.operator
    basis = torch.eye(3 * 16 * 16, dtype=torch.float64).view(-1, 3, 16, 16)
    gram = operator.normal(basis).flatten(1)
    matrix = GAMMA * gram @ torch.linalg.inv(torch.eye(len(gram)).double() + GAMMA * gram)
    found = resolution(measurement)
    assert float(found.mean()) == pytest.approx(float(matrix.trace() / len(gram)), rel=0.2)
    assert float(found.std() / found.mean()) < 0.6


def test_where_it_rounds_little_is_known_and_randomness_stays():
    before = torch.get_rng_state()
    assert float(resolution(bound(Quantise(4))).max()) < 0.2
    first, second = (resolution(bound(AveragePool(4))) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("recipe", "want"), [(Identity(), 1), (AveragePool(4), 1 / 16), (Clip(), 1), (Quantise(4), 0)]
)
def test_directness_is_one_where_values_are_seen_and_less_where_they_are_mixed(recipe, want):
    assert directness(bound(recipe)) == pytest.approx(want, rel=0.2)


def test_directness_of_a_mask_and_of_a_blur_is_that_of_the_dense_matrix():
    seen = torch.rand(16, 16, generator=torch.Generator().manual_seed(1)) > 0.4
    for recipe in (Mask.from_tensor(seen.float()), GaussianBlur(5, sigma=1.5)):
        operator = bound(recipe).operator
        basis = torch.eye(3 * 16 * 16, dtype=torch.float64).view(-1, 3, 16, 16)
        want = operator.A(basis).square().flatten(1).sum(1).mean().sqrt()
        assert directness(bound(recipe)) == pytest.approx(float(want), rel=0.1)
