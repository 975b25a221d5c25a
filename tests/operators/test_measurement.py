"""Measurements: the residual ratio, the sharing of operators, and noise from a seed."""

from __future__ import annotations

import gc
import itertools

import pytest
import torch
from comfyui_flowdps.operators import (
    AveragePool,
    GaussianBlur,
    Identity,
    Interlace,
    Mask,
    Measurement,
    MotionBlur,
    Outpainting,
    simulate,
)
from comfyui_flowdps.operators.measurement import SMALLEST_NOISE
from comfyui_flowdps.operators.observation import Observation
from comfyui_flowdps.operators.randomness import generator, generators, standard_normal


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("level", [0.03, 0.2])
def test_residual_ratio_of_the_clean_image_is_one(level):
    x = noise(4, 3, 64, 64).clamp(-1, 1)
    operator = AveragePool(2).bind((3, 64, 64))
    measurement = simulate(x, operator, level, generators(0, "noise", range(4)))
    # 3,072 noise values a sample: their root mean square is known to 1.3 %.
    assert measurement.residual_ratio(x).tolist() == pytest.approx([1] * 4, abs=0.05)
    assert float(measurement.residual_ratio(x + 0.2).min()) > 1.2


@pytest.mark.parametrize("level", [0.0, 0.001, SMALLEST_NOISE])
def test_noise_counts_as_at_least_the_smallest(level):
    measurement = Measurement(torch.zeros(2, 3, 8, 8), Identity().bind((3, 8, 8)), level)
    x = torch.full((2, 3, 8, 8), 0.01)
    assert measurement.residual_ratio(x).tolist() == pytest.approx([2, 2])


@pytest.mark.parametrize(
    "recipe",
    [Identity(), GaussianBlur(3), Interlace(), Outpainting(3, 1, 2, 4)],
    ids=lambda r: r.name,
)
def test_padding_is_left_out_of_the_residual(recipe):
    """Whatever stands in the padding, further away than a blur reaches."""
    photo = noise(1, 3, 21, 30).clamp(-1, 1)
    observation = Observation.from_photo(photo, recipe, 0.1, 16)
    assert observation.padded
    measurement = observation.bind()
    x = noise(1, 3, *observation.padded_size, seed=1)
    beyond = x.clone()
    height, width = observation.image_size
    beyond[..., height + 1 :, :] += 9
    beyond[..., width + 1 :] += 9
    ratio = measurement.residual_ratio(x)
    torch.testing.assert_close(measurement.residual_ratio(beyond), ratio)
    inside = x.clone()
    inside[..., 6, 6] += 9
    assert float(measurement.residual_ratio(inside)) != pytest.approx(float(ratio), rel=1e-3)


def test_holes_of_a_mask_are_left_out_of_the_residual():
    mask = torch.ones(8, 8)
    mask[:, 4:] = 0
    operator = Mask.from_tensor(mask).bind((3, 8, 8))
    measurement = Measurement(torch.zeros(1, 3, 8, 8), operator, 0.1)
    assert float(measurement.residual_ratio(torch.full((1, 3, 8, 8), 0.2))) == pytest.approx(2)


def test_an_operator_in_use_is_bound_once_and_an_unused_one_is_forgotten():
    recipe, shape = MotionBlur(5), (3, 16, 24)
    operator = recipe.bind(shape)
    assert MotionBlur(5).bind(shape, "cpu") is operator
    others = [
        MotionBlur(5, seed=1).bind(shape),
        recipe.bind((3, 24, 16)),
        recipe.bind(shape, dtype=torch.float64),
    ]
    assert all(other is not operator for other in others)
    observation = Observation.from_photo(noise(1, 3, 16, 24), recipe, 0.1, 8)
    assert observation.bind().operator is operator
    del operator, others
    gc.collect()
    assert observation.bind().operator is not None


def test_operators_bound_in_inference_mode_have_gradients():
    """ComfyUI runs nodes in inference mode; what is bound there serves the sampler, too."""
    with torch.inference_mode():
        operator = MotionBlur(5).bind((3, 16, 16))
    x = noise(1, 3, 16, 16).requires_grad_()
    assert MotionBlur(5).bind((3, 16, 16)) is operator
    operator.A(x).square().sum().backward()
    assert x.grad is not None
    assert float(x.grad.norm()) > 0


def test_streams_depend_on_seed_purpose_and_key_and_on_nothing_else():
    cases = list(itertools.product((0, 1), ("noise", "sampling"), (0, 1, "a.png")))
    drawn = [standard_normal((1, 4), [generator(*case)]) for case in cases]
    for (k, a), (j, b) in itertools.combinations(enumerate(drawn), 2):
        assert not torch.equal(a, b), (cases[k], cases[j])
    batch = standard_normal((3, 4), generators(0, "noise", range(3)))
    assert torch.equal(batch[1:2], standard_normal((1, 4), generators(0, "noise", [1])))
    with pytest.raises(ValueError, match="2 generators for 3 samples"):
        standard_normal((3, 4), generators(0, "noise", range(2)))
