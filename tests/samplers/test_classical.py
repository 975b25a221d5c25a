"""The baselines solve what they say they solve."""

from __future__ import annotations

import pytest
import torch
from comfyui_flowdps.operators import (
    AveragePool,
    BicubicDownsample,
    GaussianBlur,
    MotionBlur,
    simulate,
)
from comfyui_flowdps.samplers import classical

RECIPES = [BicubicDownsample(2), AveragePool(2), GaussianBlur(5, sigma=1.0), MotionBlur(5, seed=1)]


def measurement(recipe):
    x = torch.zeros(2, 3, 12, 16, dtype=torch.float64) - 0.5
    x[:, :, 3:9, 5:12] = torch.tensor([0.8, 0.1, -0.3], dtype=torch.float64)[:, None, None]
    operator = recipe.bind((3, 12, 16), dtype=torch.float64)
    return simulate(x, operator, 0.05, [torch.Generator().manual_seed(k) for k in range(2)])


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_wiener_is_the_minimum(recipe):
    m, strength = measurement(recipe), 0.05
    x = classical.wiener(m, strength)
    mean = m.y.mean((2, 3), keepdim=True)
    slope = m.operator.adjoint(m.operator.A(x) - m.y) + strength * (x - mean)
    assert float(slope.abs().max()) < 1e-7


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_total_variation_is_close_to_its_minimum(recipe):
    m, strength = measurement(recipe), 0.05
    short = classical.tv_objective(m, classical.total_variation(m, strength), strength)
    long = classical.tv_objective(m, classical.total_variation(m, strength, 1000), strength)
    start = classical.tv_objective(m, classical.wiener(m, 0.01), strength)
    assert bool((short <= long * 1.01).all())
    assert bool((long < start).all())


def test_upsampling_gives_the_size_of_the_image():
    assert classical.upsample_bicubic(measurement(AveragePool(2))).shape == (2, 3, 12, 16)
