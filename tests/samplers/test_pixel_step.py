"""Laws of the data step in pixels, against the dense matrix of the operator."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
import torch
from comfyui_flowdps.operators import AveragePool, Clip, GaussianBlur, Identity
from comfyui_flowdps.samplers import (
    FlowChefSettings,
    FlowDPSSettings,
    InnerSteps,
    LatinoSettings,
    MeasuredError,
    PixelCorrection,
    PixelStep,
    RefineSettings,
    ResidualError,
    WhiteError,
    Work,
    override,
)

from .test_samplers import CurvedPrior, GaussianPrior, generators, posterior_mean, problem, run

RECIPES = [AveragePool(2), GaussianBlur(3, sigma=1.0)]
every = pytest.mark.parametrize("recipe", RECIPES, ids=str)


class Unit(GaussianPrior):
    """Data N(0, 1) per element."""

    def denoise(self, z, sigma):
        return z * (1 - sigma) / (sigma**2 + (1 - sigma) ** 2)


class Lossy(GaussianPrior):
    """An autoencoder that does not give back what it was given."""

    def decode(self, z):
        return self.passes.note("decoder", 0.7 * z + 0.1)


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()


def matrix(operator) -> torch.Tensor:
    """The operator as a dense matrix."""
    size = math.prod(operator.in_shape)
    basis = torch.eye(size, dtype=torch.float64).view(size, *operator.in_shape)
    return operator.A(basis).flatten(1).T


def argmin(x: torch.Tensor, measurement, deviation: float) -> torch.Tensor:
    """(AᵀA / σₙ² + I / ν²) u = Aᵀy / σₙ² + x / ν², for every sample."""
    a, level = matrix(measurement.operator), measurement.noise_level
    left = a.T @ a / level**2 + torch.eye(a.shape[1], dtype=torch.float64) / deviation**2
    right = measurement.y.flatten(1) @ a / level**2 + x.flatten(1) / deviation**2
    return torch.linalg.solve(left, right.T).T.view_as(x)


@every
def test_the_update_is_the_difference_of_two_encodings(recipe):
    measurement, prior, z = problem(recipe, count=2), CurvedPrior(), normal(1, 2, 3, 4, 6)
    pull, loss = PixelStep(WhiteError(0.5)).bind(prior, measurement)(z, 0.6)
    x = prior.decode(z)
    moved = argmin(x, measurement, 0.5 * 0.6 / math.hypot(0.6, 0.4))
    torch.testing.assert_close(pull, prior.encode(moved) - prior.encode(x), rtol=1e-8, atol=1e-9)
    left = (measurement.operator.A(x) - measurement.y).flatten(1).square().sum(1)
    torch.testing.assert_close(loss, left / (2 * measurement.noise_level**2))


@every
@pytest.mark.parametrize("sigma", [0.9, 0.3])
def test_for_unit_gaussians_it_leads_to_the_mean_given_state_and_measurement(recipe, sigma):
    """Both are seen through Gaussian noise, so that E[x | z, y] is one linear system."""
    measurement, prior, z = problem(recipe, count=2), Unit(), normal(2, 2, 3, 4, 6)
    z0 = prior.denoise(z, sigma)
    found = z0 + PixelStep(WhiteError()).bind(prior, measurement)(z0, sigma)[0]
    a, level = matrix(measurement.operator), measurement.noise_level
    eye = torch.eye(a.shape[1], dtype=torch.float64)
    precision = a.T @ a / level**2 + (1 + (1 - sigma) ** 2 / sigma**2) * eye
    right = measurement.y.flatten(1) @ a / level**2 + (1 - sigma) / sigma**2 * z.flatten(1)
    wanted = torch.linalg.solve(precision, right.T).T.view_as(z)
    torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("recipe", [AveragePool(2), Identity()], ids=["pool", "identity"])
@pytest.mark.parametrize(
    ("method", "settings", "most"),
    [
        ("flowdps", FlowDPSSettings(data_step=PixelStep(WhiteError()), weight="one"), 0.22),
        ("flowchef", FlowChefSettings(data_step=PixelStep(WhiteError())), 0.47),
    ],
    ids=["flowdps", "flowchef"],
)
def test_mean_against_closed_form_posterior(method, settings, most, recipe):
    """Measured with pool and identity: FlowDPS 0.19 and 0.05, FlowChef 0.42 and 0.11."""
    measurement = problem(recipe, count=256, copies=True)
    mean = run(method, measurement, settings, steps=28).mean(0)
    truth = posterior_mean(measurement)
    distance = float((mean - truth).norm() / (truth - 0.3).norm())
    print(f"{method} {recipe}: {distance:.3f}")
    assert distance < most


def test_the_autoencoders_own_error_cancels():
    """Where the decoded picture has the measurement's values already, nothing moves."""
    prior, z = Lossy(), normal(3, 2, 3, 4, 6)
    measurement = problem(AveragePool(2), count=2)
    fitted = replace(measurement, y=measurement.operator.A(prior.decode(z)))
    pull, loss = PixelStep(WhiteError()).bind(prior, fitted)(z, 0.5)
    assert float((prior.encode(prior.decode(z)) - z).abs().max()) > 0.1
    assert float(pull.abs().max()) < 1e-9
    assert float(loss.max()) < 1e-9


def test_no_network_has_a_gradient():
    prior, measurement = GaussianPrior(), problem(AveragePool(2))
    work = Work(prior, measurement)
    settings = FlowDPSSettings(data_step=PixelStep(WhiteError()), weight="one")
    run("flowdps", work.measurement, settings, steps=5, prior=prior)
    calls = {"transformer": 5, "decoder": 5, "encoder": 10}
    assert work.counted() == {**calls, "A": 5, "prox": 5}


def test_a_scaled_step_trusts_the_measurement_so_much_more():
    measurement, z = problem(GaussianBlur(3, sigma=1.0), noise=0.2), normal(4, 1, 3, 4, 6)
    step = PixelStep(WhiteError(0.8)).scaled(4)
    found = step.bind(GaussianPrior(), measurement)(z, 0.5)[0]
    finer = replace(measurement, noise_level=0.1)
    torch.testing.assert_close(
        found, PixelStep(WhiteError(0.8)).bind(GaussianPrior(), finer)(z, 0.5)[0]
    )
    by_factor = PixelStep(WhiteError(0.8)).bind(GaussianPrior(), measurement)(z, 0.5, 4.0)[0]
    torch.testing.assert_close(found, by_factor)
    assert not PixelStep(WhiteError()).scaled(0).active
    assert (
        override(FlowChefSettings(data_step=PixelStep(WhiteError(0.8))), step_scale=4).data_step
        == step
    )


@every
def test_it_ends_at_the_ratio(recipe):
    measurement, z = problem(recipe, count=3), 3 * normal(5, 3, 3, 4, 6)
    steps = (
        PixelStep(WhiteError(5), stop=stop).bind(GaussianPrior(), measurement)
        for stop in (0.0, 1.0)
    )
    free, held = (measurement.residual_ratio(z + step(z, 1)[0]) for step in steps)
    assert bool((free < 0.9).all())
    torch.testing.assert_close(held, torch.ones(3, dtype=torch.float64))


def test_batch_equals_single_runs():
    measurement = problem(GaussianBlur(3, sigma=1.0), count=3)
    settings = FlowDPSSettings(data_step=PixelStep(WhiteError(), stop=1.5), weight="one")
    together = run("flowdps", measurement, settings, prior=CurvedPrior())
    for k in range(3):
        one = replace(measurement, y=measurement.y[k : k + 1])
        gens = [generators(0, 3)[k]]
        alone = run("flowdps", one, settings, prior=CurvedPrior(), gens=gens)
        torch.testing.assert_close(together[k : k + 1], alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("error", "most"), [(MeasuredError(), 0.85), (WhiteError(), 0.4), (ResidualError(), 1.0)]
)
@pytest.mark.parametrize("method", ["flowdps", "flowchef", "latino"])
def test_what_is_not_linear_is_served(method, error, most):
    """Every error and method that takes the step comes nearer to a clipped photo than without it,
    the nearer, the less the model is trusted."""
    measurement, step = problem(Clip(-0.2, 0.5), count=2), PixelStep(error)
    settings = {
        "flowdps": lambda step: FlowDPSSettings(data_step=step, weight="one"),
        "flowchef": lambda step: FlowChefSettings(data_step=step),
        "latino": lambda step: LatinoSettings(data_step=step),
    }[method]
    with_it, without = (run(method, measurement, settings(s)) for s in (step, step.scaled(0)))
    near, far = (measurement.residual_ratio(z) for z in (with_it, without))
    assert bool((near < most * far).all())


def test_samples_of_an_error_by_the_residual_are_corrected_each_by_its_own():
    """δ = c ‖A x − y‖, with the dense matrix; a batch and a sample alone agree."""
    measurement, x = problem(GaussianBlur(3, sigma=1.0), count=2), normal(6, 2, 3, 4, 6)
    step = PixelStep(ResidualError(2.0)).bind(GaussianPrior(), measurement)
    moved = x + step(x, 0.8)[0]
    left = (measurement.operator.A(x) - measurement.y).flatten(1).norm(dim=1)
    for k, norm in enumerate(left.tolist()):
        one = replace(measurement, y=measurement.y[k : k + 1])
        deviation = 2 * math.sqrt(5e-4 * norm) * 0.8 / math.hypot(0.8, 0.2)
        wanted = argmin(x[k : k + 1], one, deviation)
        torch.testing.assert_close(moved[k : k + 1], wanted, rtol=1e-8, atol=1e-9)


def test_wrong_settings_are_refused_when_they_are_made():
    wrong = {
        "scale is -1; expected": lambda: WhiteError(-1),
        "trust is -1; expected": lambda: MeasuredError(-1),
        "data_weight is -1; expected": lambda: PixelStep(data_weight=-1),
        "stop is -1; expected": lambda: PixelStep(stop=-1),
        "data step of latino is InnerSteps; choose PixelStep": lambda: LatinoSettings(
            data_step=InnerSteps(1.0)
        ),
        "data step of refine is InnerSteps; choose PixelStep": lambda: RefineSettings(
            data_step=InnerSteps(1.0)
        ),
        "finish of refine is PixelCorrection; choose VariationFinish": lambda: RefineSettings(
            finish=PixelCorrection()
        ),
    }
    for message, make in wrong.items():
        with pytest.raises(ValueError, match=re.escape(message)):
            make()
