"""With ``stop``, no sample is pulled beyond what the noise explains, and each on its own."""

from __future__ import annotations

import pytest
import torch
from comfyui_flowdps.operators import AveragePool, GaussianBlur, Identity, Mask, Measurement
from comfyui_flowdps.priors.base import BasePrior
from comfyui_flowdps.samplers import (
    data_consistency,
    override,
    preset,
    published_sigmas,
    sample,
    with_values,
)
from comfyui_flowdps.samplers.discrepancy import towards

from .cases import CASES

MEAN, SPREAD = 0.3, 0.8


class Prior(BasePrior):
    """Data N(0.3, 0.8²) per element, the identity as autoencoder."""

    latent_channels, stride = 3, 1
    device, dtype = torch.device("cpu"), torch.float64

    def denoise(self, z, sigma):
        gain = (1 - sigma) * SPREAD**2 / ((1 - sigma) ** 2 * SPREAD**2 + sigma**2)
        return MEAN + gain * (z - (1 - sigma) * MEAN)

    def decode(self, z):
        return z * 1.0

    def moments(self, x):
        return x * 1.0, None


def generators(count, first=0):
    return [torch.Generator().manual_seed(first + k) for k in range(count)]


def problem(recipe, count=3, side=16, noise=0.2):
    operator = recipe.bind((3, side, side), dtype=torch.float64)
    g = torch.Generator().manual_seed(7)
    x = MEAN + SPREAD * torch.randn(count, 3, side, side, generator=g).double()
    y = operator.A(x)
    noise_field = noise * torch.randn(y.shape, generator=g).double()
    if operator.measured is not None:
        noise_field = noise_field * operator.measured
    return Measurement(y + noise_field, operator, noise)


def run(method, measurement, settings, gens=None):
    gens = gens or generators(len(measurement.y))
    prior = Prior()
    result = sample(
        method,
        prior,
        measurement,
        sigmas=published_sigmas(28),
        settings=settings,
        generators=gens,
    )
    return data_consistency(prior.decode(result.latents), measurement, settings)


def hole(side=16):
    keep = torch.ones(side, side)
    keep[4:9, 5:12] = 0
    return Mask.from_tensor(keep)


def ratios(seen, measurement):
    return measurement.residual_rms(seen) / measurement.floored_noise_level


RECIPES = {
    "pool": AveragePool(2),
    "identity": Identity(),
    "blur": GaussianBlur(5, 1.0),
    "mask": hole(),
}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("method", CASES)
def test_nothing_is_fitted_beyond_the_noise(method, recipe):
    """What tuned settings push far below the noise ends at it; what stays above is left alone."""
    measurement = problem(recipe)
    settings = override(preset(method), step_scale=3)
    free = ratios(measurement.operator.A(run(method, measurement, settings)), measurement)
    held = ratios(
        measurement.operator.A(run(method, measurement, with_values(settings, stop=1.0))),
        measurement,
    )
    assert bool((held > 0.9).all()), held
    assert bool((held < torch.maximum(free, torch.tensor(1.0)) * 1.35).all()), (free, held)


def test_without_stop_something_is():
    """The test above can fail: FlowDPS's thorough settings fit the noise of a denoising problem."""
    measurement = problem(RECIPES["identity"])
    found = run("flowdps", measurement, preset("flowdps", "thorough"))
    assert bool((ratios(found, measurement) < 0.8).all())


@pytest.mark.parametrize("method", CASES)
def test_a_stop_that_is_never_reached_changes_no_bit_of_the_latents(method):
    """Where no move is so long that it jumps over it."""
    measurement = problem(RECIPES["pool"])
    settings = override(with_values(preset(method), pixel_error_std=0.0), step_scale=0.1)
    plain, never = (
        run(method, measurement, with_values(settings, stop=stop)) for stop in (0.0, 1e-9)
    )
    assert torch.equal(plain, never)


@pytest.mark.parametrize("method", CASES)
def test_batch_mates_do_not_matter(method):
    """A mate that rests early, or never, is of no influence."""
    measurement = problem(RECIPES["identity"])
    y = torch.cat(
        [measurement.y[:1], 3 * measurement.y[1:2], torch.full_like(measurement.y[:1], MEAN)]
    )
    settings = with_values(preset(method), stop=1.5)
    together = run(method, Measurement(y, measurement.operator, 0.2), settings)
    for k in range(3):
        alone = Measurement(y[k : k + 1], measurement.operator, 0.2)
        own = run(method, alone, settings, generators(1, k))
        torch.testing.assert_close(together[k : k + 1], own, rtol=1e-9, atol=1e-9)


def test_the_ratio_counts_what_was_measured():
    measurement = problem(RECIPES["mask"])
    x = measurement.y + 0.4 * measurement.operator.measured
    torch.testing.assert_close(ratios(x, measurement), torch.full((3,), 2.0).double())


def test_towards_ends_at_the_ratio():
    """At the ratio where the way crosses it, at its end where it does not, nowhere from below."""
    measurement = problem(RECIPES["identity"])
    far, near, inside = (measurement.y + part for part in (0.5, 0.3, 0.1))
    x = torch.cat([far[:1], far[1:2], inside[2:]])
    corrected = torch.cat([inside[:1], near[1:2], measurement.y[2:]])
    found = towards(x, corrected, 1.0, measurement)
    torch.testing.assert_close(
        ratios(found, measurement), torch.tensor([1.0, 1.5, 0.5], dtype=torch.float64)
    )
    assert torch.equal(towards(x, corrected, 1e300, measurement), x)


@pytest.mark.parametrize(
    ("words", "stop"), [([], 0.0), (["--stop", "1.1"], 1.1), (["--stop", "0"], 0.0)]
)
def test_the_command_line_sets_it(words, stop):
    from comfyui_flowdps.cli.arguments import parse
    from comfyui_flowdps.cli.request import request_of

    request, _ = request_of(parse(["restore", "a.png", *words]))
    assert request.settings.data_step.stop == stop
