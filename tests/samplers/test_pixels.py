"""Models in pixels: the latents are the image, with a stride of 1."""

from __future__ import annotations

import pytest
import torch
from comfyui_flowdps.operators import AveragePool, GaussianBlur
from comfyui_flowdps.samplers import (
    FlowDPSSettings,
    MeasuredError,
    PixelStep,
    finished,
    published_sigmas,
    sample,
)
from comfyui_flowdps.samplers.views import views

from .test_samplers import SPREAD, GaussianPrior, generators, posterior_mean, problem

RECIPES = [AveragePool(2), GaussianBlur(3, 1.0)]


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_a_step_in_pixels_ends_at_the_corrected_image(recipe):
    """No encoding comes between: what the step adds is the whole correction."""
    measurement, prior, step = problem(recipe, count=2), GaussianPrior(), PixelStep()
    z0 = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(1)).double()
    move, _ = step.bind(prior, measurement)(z0, 0.4)
    want = step.prox(prior, measurement)(z0, 0.4)[0]
    assert float(move.abs().max()) > 0.01
    torch.testing.assert_close(z0 + move, want)


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_flowdps_with_a_step_in_pixels_comes_near_the_posterior(recipe):
    """The mean of many runs, against the distance from the mean of runs without the photo. The
    model's error is as large as the data's spread says."""
    measurement = problem(recipe, count=64, copies=True)
    means, error = {}, MeasuredError(unmeasured=SPREAD)
    for weight in (1.0, 0.0):
        settings = FlowDPSSettings(data_step=PixelStep(error, weight), weight="one")
        found = sample(
            "flowdps",
            GaussianPrior(),
            measurement,
            sigmas=published_sigmas(12),
            settings=settings,
            generators=generators(0, 64),
        )
        images = finished(GaussianPrior(), found, measurement, settings)
        assert torch.equal(images, found.latents.float())
        means[weight] = found.latents.mean(0)
    want = posterior_mean(measurement)
    assert (means[1.0] - want).norm() < 0.5 * (means[0.0] - want).norm()


def test_views_of_a_model_in_pixels_are_flips():
    x = torch.randn(1, 3, 6, 8)
    found = [view.of(x) for view in views(4, stride=1)]
    flips = ([], [-1], [-2], [-2, -1])
    for seen, axes in zip(found, flips, strict=True):
        assert torch.equal(seen, x.flip(axes))
