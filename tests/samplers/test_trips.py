"""FlowDPS's preset ``trips``: the update of TriPS (2026) written out, its loss and its curves."""

from __future__ import annotations

import contextlib
import itertools
import math
import re

import pytest
import torch
from comfyui_flowdps.operators import AveragePool, Clip, GaussianBlur, Identity
from comfyui_flowdps.samplers import (
    FlowDPSSettings,
    GradientStep,
    InnerSteps,
    PSLDSettings,
    Schedule,
    flat,
    preset,
    published_sigmas,
    with_values,
)
from comfyui_flowdps.samplers.data_loss import DataLoss

from .cases import Hand, length
from .test_samplers import (
    MEAN,
    CurvedPrior,
    GaussianPrior,
    generators,
    posterior_mean,
    problem,
    run,
)

RECIPES = [AveragePool(2), GaussianBlur(3, sigma=1.0)]
TRIPS = preset("flowdps", "trips")
SMALL = with_values(TRIPS, step_size=0.02)


class Guided(CurvedPrior):
    """A prior whose denoised latents show the weight of guidance."""

    def __init__(self):
        super().__init__()
        self.weight, self.weights = 2.0, []

    @contextlib.contextmanager
    def guidance(self, weight):
        before, self.weight = self.weight, self.weight if weight is None else weight
        yield
        self.weight = before

    def denoise(self, z, sigma):
        self.weights.append(self.weight)
        return super().denoise(z, sigma) + 0.05 * self.weight * torch.cos(z)


def back(operator, residual: torch.Tensor, level: float) -> torch.Tensor:
    """Aᵀ (A Aᵀ + η I)⁻¹ r by the dense matrix."""
    size = math.prod(operator.in_shape)
    a = operator.A(torch.eye(size, dtype=torch.float64).view(size, *operator.in_shape))
    a = a.flatten(1).T
    inner = torch.linalg.inv(a @ a.T + level * torch.eye(len(a), dtype=torch.float64))
    return residual.flatten(1) @ inner @ a


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_the_preset_is_the_published_update(recipe):
    measurement, prior, steps = problem(recipe, count=2), Guided(), 7
    got = run("flowdps", measurement, SMALL, steps=steps, prior=prior)
    wanted_weights = [1 + 5 * math.log(1 + 6 * i / 6) / math.log(7) for i in range(steps)]
    assert prior.weights == pytest.approx(wanted_weights)

    gens = generators(0, 2)
    hand = Hand(prior, measurement, 0.02, gens)
    z = torch.stack([torch.randn(3, 4, 6, generator=g) for g in gens]).double()
    operator, y = measurement.linear, measurement.y
    eta = max(1e-4, 0.8 * measurement.noise_level**2)
    for i, (s, s2) in enumerate(itertools.pairwise(published_sigmas(steps).tolist())):
        u = i / (steps - 1)
        with prior.guidance(wanted_weights[i]):
            z0, z1 = hand.split(z, s)

        def loss(zeta, s=s):
            residual = operator.A(prior.decode(zeta)) - y
            both = s * length(back(operator, residual, eta)) + (1 - s) * length(residual)
            return (0.25 + 0.75 * s**2) * both

        for _ in range(6):
            z0 = z0 - 0.02 * (1 - 0.5 * u) * hand.slope(loss, z0)
        if s2 > 0:
            alpha = 1 - math.expm1(15 * u) / math.expm1(15)
            z1 = math.sqrt(1 - alpha**2) * z1 + alpha * hand.drawn(z1)
        z = (1 - s2) * z0 + s2 * z1
    torch.testing.assert_close(got, z, rtol=1e-7, atol=1e-7)


def test_the_presets_values_are_those_of_the_paper():
    """Its six steps share β, which falls from 300 to 150."""
    values = flat(TRIPS)
    assert (values["loss"], values["rule"], values["weight"]) == ("hybrid", "gradient", "one")
    beta = values["step_size"] * values["inner_steps"]
    assert [beta * values["step_factor"].at(u) for u in (0, 0.5, 1)] == [300, 225, 150]
    assert (values["stop"], values["pixel_error_std"]) == (0, 0)
    assert [values["guidance"].at(u) for u in (0, 1)] == [1, pytest.approx(6)]
    assert [values["renew"].at(u) for u in (0, 1)] == [1, 0]


@pytest.mark.parametrize("recipe", [AveragePool(2), Identity()], ids=["pool", "identity"])
def test_mean_against_closed_form_posterior(recipe):
    """Measured with pool and identity: 0.28 and 0.06, at a step that suits so few pixels."""
    measurement = problem(recipe, count=256, copies=True)
    mean = run("flowdps", measurement, with_values(TRIPS, step_size=2.0), steps=28).mean(0)
    truth = posterior_mean(measurement)
    distance = float((mean - truth).norm() / (truth - MEAN).norm())
    print(f"{recipe}: {distance:.3f}")
    assert distance < 0.32


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_the_hybrid_loss_is_the_residual_at_data_and_its_back_projection_at_noise(recipe):
    measurement, prior = problem(recipe, count=2), CurvedPrior()
    loss = DataLoss(prior, measurement, "hybrid")
    z = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(1)).double()
    residual = measurement.operator.A(prior.decode(z)) - measurement.y
    torch.testing.assert_close(loss(z, 0.0), length(residual) / 4)
    level = max(1e-4, 0.8 * measurement.noise_level**2)
    seen = length(back(measurement.operator, residual, level))
    torch.testing.assert_close(loss(z, 1.0), seen, rtol=1e-7, atol=1e-9)


def test_of_what_is_not_linear_only_the_residual_counts():
    measurement, prior = problem(Clip(-0.5, 0.5), count=2), CurvedPrior()
    z = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(1)).double()
    residual = measurement.operator.A(prior.decode(z)) - measurement.y
    found = DataLoss(prior, measurement, "hybrid")(z, 0.8)
    torch.testing.assert_close(found, (0.25 + 0.75 * 0.8**2) * length(residual))


@pytest.mark.parametrize("sigma", [0.0, 0.4])
@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_the_hybrid_gradient_agrees_with_finite_differences(recipe, sigma):
    loss = DataLoss(CurvedPrior(), problem(recipe, count=2), "hybrid")
    z, direction = (
        torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(k)).double() for k in (1, 2)
    )
    _, gradient = loss.gradient(z, sigma)
    h = 1e-5
    numeric = (loss(z + h * direction, sigma) - loss(z - h * direction, sigma)) / (2 * h)
    torch.testing.assert_close((gradient * direction).flatten(1).sum(1), numeric, rtol=1e-6, atol=0)


@pytest.mark.parametrize("curve", ["lin", "slow", "fast", "late"])
def test_curves_lead_from_start_to_end_without_turning(curve):
    schedule = Schedule(curve, 300.0, 100.0)
    values = [schedule.at(k / 20) for k in range(21)]
    assert (values[0], values[-1]) == (300, pytest.approx(100))
    assert all(a > b for a, b in itertools.pairwise(values))
    middle = {"lin": 200, "fast": 157, "slow": 290, "late": 299.9}
    assert schedule.at(0.5) == pytest.approx(middle[curve], abs=1)


def test_a_level_schedule_is_the_number():
    """Of every value that may be either; of ``renew`` it is the amplitude itself."""
    measurement = problem(AveragePool(2), count=2)
    plain = with_values(preset("flowdps", "published"), step_size=0.05)
    for name, number in (("step_factor", 0.7), ("guidance", 3.0)):
        runs = (
            run("flowdps", measurement, with_values(plain, **{name: value}), prior=Guided())
            for value in (number, Schedule("fast", number, number))
        )
        assert torch.equal(*runs)
    half = with_values(plain, step_size=0.05 * 0.5)
    by_factor = run("flowdps", measurement, with_values(plain, step_factor=0.5))
    torch.testing.assert_close(by_factor, run("flowdps", measurement, half))
    levels = with_values(plain, renew=Schedule("lin", 0.5, 0.5))
    assert levels.renewed(0.3, 0.2) == levels.renewed(0.9, 1.0) == 0.25
    assert levels.renewed(0.0, 1.0) == 0


def test_without_guidance_of_its_own_the_prior_keeps_its_weight():
    prior, measurement = Guided(), problem(AveragePool(2))
    run("flowdps", measurement, preset("flowdps"), steps=2, prior=prior)
    assert prior.weights == [2, 2]
    run("flowdps", measurement, SMALL, steps=2, prior=GaussianPrior())


STEP = InnerSteps(1.0)
SENSELESS = {
    "curve is 'up'; expected one of lin, slow, fast, late": lambda: Schedule("up", 0, 1),
    "end is nan; expected a finite number": lambda: Schedule("lin", 0, float("nan")),
    "renew is 0 → 2, lin; expected": lambda: FlowDPSSettings(
        data_step=STEP, renew=Schedule("lin", 0, 2)
    ),
    "step_factor is -1": lambda: FlowDPSSettings(data_step=STEP, step_factor=-1),
    "guidance is -1": lambda: FlowDPSSettings(data_step=STEP, guidance=Schedule("lin", 2, -1)),
    "the loss of psld is 'hybrid'": lambda: PSLDSettings(data_step=GradientStep(1, loss="hybrid")),
}


@pytest.mark.parametrize("words", SENSELESS)
def test_what_makes_no_sense_is_refused_in_one_sentence(words):
    with pytest.raises(ValueError, match=re.escape(words)):
        SENSELESS[words]()
