"""Laws of the samplers, on a linear-Gaussian problem whose posterior has a closed form."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace

import pytest
import torch
from comfyui_flowdps.operators import (
    AveragePool,
    Chain,
    Clip,
    GaussianBlur,
    Identity,
    Jpeg,
    Mask,
    Measurement,
    Quantise,
    WalshHadamard,
)
from comfyui_flowdps.priors.base import BasePrior
from comfyui_flowdps.priors.error_spectrum import BINS, ErrorSpectrum
from comfyui_flowdps.samplers import (
    METHODS,
    FlowChefSettings,
    FlowDPSSettings,
    GradientStep,
    InnerSteps,
    PixelCorrection,
    PSLDSettings,
    ResidualError,
    SquaredSteps,
    Work,
    data_consistency,
    flat,
    override,
    preset,
    published_sigmas,
    sample,
    with_values,
)
from comfyui_flowdps.samplers.data_loss import DataLoss, downscales
from comfyui_flowdps.samplers.flair import SD3_ERRORS, calibration
from comfyui_flowdps.samplers.psld import psld_loss
from comfyui_flowdps.samplers.start import first_picture

from .cases import CASES, Hand, both_ways

MEAN, SPREAD = 0.3, 0.8
LEVELS = [k / 20 for k in range(1, 21)]


class GaussianPrior(BasePrior):
    """Data N(0.3, 0.8²) per element with the identity as autoencoder: every answer is known."""

    latent_channels, stride = 3, 1
    device, dtype = torch.device("cpu"), torch.float64

    def denoise(self, z, sigma):
        gain = (1 - sigma) * SPREAD**2 / ((1 - sigma) ** 2 * SPREAD**2 + sigma**2)
        return self.passes.note("transformer", MEAN + gain * (z - (1 - sigma) * MEAN))

    def decode(self, z):
        return self.passes.note("decoder", z * 1.0)

    def moments(self, x):
        return self.passes.note("encoder", x * 1.0), None


class MeasuredPrior(GaussianPrior):
    """The same with its error, which is white, as its spectrum."""

    error_spectrum = ErrorSpectrum(
        tuple(LEVELS),
        tuple((SPREAD**2 * s**2 / ((1 - s) ** 2 * SPREAD**2 + s**2),) * BINS for s in LEVELS),
    )


class CurvedPrior(GaussianPrior):
    """The same with a non-linear decoder and encoder, for gradients that are not constant."""

    def denoise(self, z, sigma):
        return super().denoise(z, sigma) + 0.1 * torch.sin(z)

    def decode(self, z):
        return torch.tanh(z) + 0.2 * z

    def moments(self, x):
        return torch.sin(x) + 0.1 * x, None


def generators(seed: int, count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(1000 * seed + k) for k in range(count)]


def problem(recipe, count=1, size=(4, 6), noise=0.2, copies=False) -> Measurement:
    operator = recipe.bind((3, *size), dtype=torch.float64)
    g = torch.Generator().manual_seed(7)
    x = MEAN + SPREAD * torch.randn(1 if copies else count, 3, *size, generator=g).double()
    y = operator.A(x)
    y = y + noise * torch.randn(y.shape, generator=g).double()
    return Measurement(y=y.expand(count, *y.shape[1:]), operator=operator, noise_level=noise)


def run(method, measurement, settings, seed=0, steps=12, prior=None, gens=None, callback=None):
    return sample(
        method,
        prior or GaussianPrior(),
        measurement,
        sigmas=METHODS[method].levels(settings, steps),
        settings=settings,
        generators=gens or generators(seed, len(measurement.y)),
        callback=callback,
    ).latents


def posterior_mean(measurement: Measurement) -> torch.Tensor:
    """m + τ² Aᵀ (τ² A Aᵀ + σ² I)⁻¹ (y − A m), by the dense matrix."""
    operator = measurement.operator
    size = math.prod(operator.in_shape)
    basis = torch.eye(size, dtype=torch.float64).view(size, *operator.in_shape)
    a = operator.A(basis).flatten(1).T
    gain = (
        SPREAD**2
        * a.T
        @ torch.linalg.inv(
            SPREAD**2 * a @ a.T
            + measurement.noise_level**2 * torch.eye(len(a), dtype=torch.float64)
        )
    )
    mean = torch.full((size,), MEAN, dtype=torch.float64)
    return (mean + gain @ (measurement.y[0].flatten() - a @ mean)).view(operator.in_shape)


PRESETS = [(name, each) for name in CASES for each in METHODS[name].presets]


def small(method: str, name: str):
    """A preset with steps that suit pictures of a few pixels."""
    settings = preset(method, name)
    known = flat(settings)
    return with_values(settings, **{k: v for k, v in CASES[method].small.items() if k in known})


SMALL = {name: small(name, "published") for name in CASES}


@pytest.mark.parametrize("method", CASES)
@pytest.mark.parametrize("recipe", [AveragePool(2), Identity()], ids=["pool", "identity"])
def test_mean_against_closed_form_posterior(method, recipe, record_property):
    measurement = problem(recipe, count=256, copies=True)
    settings, prior = preset(method, "tuned"), MeasuredPrior()
    mean = run(method, measurement, settings, steps=28, prior=prior).mean(0)
    truth = posterior_mean(measurement)
    distance = float((mean - truth).norm() / (truth - MEAN).norm())
    record_property("distance", distance)
    print(f"{method} {recipe}: {distance:.3f}")
    assert distance < CASES[method].distance


@pytest.mark.parametrize("method", CASES)
def test_zero_data_step_is_euler(method):
    measurement = problem(AveragePool(2), count=2)
    settings = override(preset(method, "published"), step_scale=0)
    got = run(method, measurement, settings)
    prior, sigmas = GaussianPrior(), METHODS[method].levels(settings, 12)
    z = torch.stack([torch.randn(3, 4, 6, generator=g) for g in generators(0, 2)]).double()
    for s, s_next in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
        z = z + (s_next - s) * (z - prior.denoise(z, s)) / s
    torch.testing.assert_close(got, z, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("method", "preset_name"), PRESETS)
def test_same_seed_same_bits_and_global_generator_untouched(method, preset_name):
    measurement = problem(GaussianBlur(3, sigma=1.0), count=2)
    settings = small(method, preset_name)
    before = torch.get_rng_state()
    first = run(method, measurement, settings)
    second = run(method, measurement, settings)
    assert torch.equal(first, second)
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.equal(first, run(method, measurement, settings, seed=1))


@pytest.mark.parametrize(("method", "preset_name"), PRESETS)
def test_batch_equals_single_runs(method, preset_name):
    measurement = problem(AveragePool(2), count=3)
    settings = small(method, preset_name)
    together = run(method, measurement, settings, prior=CurvedPrior())
    for k in range(3):
        alone = run(
            method,
            replace(measurement, y=measurement.y[k : k + 1]),
            settings,
            prior=CurvedPrior(),
            gens=[generators(0, 3)[k]],
        )
        torch.testing.assert_close(together[k : k + 1], alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["norm", "residual", "squared"])
@pytest.mark.parametrize("recipe", [AveragePool(2), GaussianBlur(3, sigma=1.0)], ids=str)
def test_data_gradient_agrees_with_finite_differences(kind, recipe):
    measurement = problem(recipe, count=2)
    loss = DataLoss(CurvedPrior(), measurement, kind)
    z = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(1)).double()
    direction = torch.randn(z.shape, generator=torch.Generator().manual_seed(2)).double()
    _, gradient = loss.gradient(z)
    h = 1e-5
    numeric = (loss(z + h * direction) - loss(z - h * direction)) / (2 * h)
    torch.testing.assert_close((gradient * direction).flatten(1).sum(1), numeric, rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", ["norm", "squared"])
def test_psld_gradient_agrees_with_finite_differences(kind):
    prior, measurement = CurvedPrior(), problem(AveragePool(2), count=2)
    loss = DataLoss(prior, measurement, kind)

    def value(z):
        return psld_loss(loss, prior.denoise(z, 0.6), None)

    z = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(1)).double()
    direction = torch.randn(z.shape, generator=torch.Generator().manual_seed(2)).double()
    z.requires_grad_()
    (gradient,) = torch.autograd.grad(value(z).sum(), z)
    h = 1e-5
    with torch.no_grad():
        numeric = (value(z + h * direction) - value(z - h * direction)) / (2 * h)
    torch.testing.assert_close((gradient * direction).flatten(1).sum(1), numeric, rtol=1e-6, atol=0)


@pytest.mark.parametrize("method", ["flowdps", "flowchef", "psld"])
def test_published_presets_are_the_papers(method):
    values = flat(preset(method, "published"))
    assert (values["step_size"], values["loss"], values["rule"]) == (15, "norm", "gradient")
    assert values.get("inner_steps", 3) == 3
    assert (values["pixel_error_std"], values["stop"]) == (0, 0)


@pytest.mark.parametrize("recipe", [AveragePool(2), GaussianBlur(3, sigma=1.0)], ids=str)
@pytest.mark.parametrize("method", CASES)
def test_published_preset_is_the_published_update(method, recipe):
    """Written out equation by equation, with autograd only."""
    measurement, gens, prior = problem(recipe, count=2), generators(0, 2), CurvedPrior()
    got = run(method, measurement, SMALL[method], steps=6, prior=prior)
    hand = Hand(prior, measurement, 0.05, gens)
    shape = (prior.latent_channels, *measurement.operator.in_shape[1:])
    z = torch.stack([torch.randn(shape, generator=g) for g in gens]).double()
    for s, s2 in itertools.pairwise(METHODS[method].levels(SMALL[method], 6).tolist()):
        z = CASES[method].update(hand, z, s, s2)
    torch.testing.assert_close(got, z, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("recipe", [AveragePool(2), GaussianBlur(3, sigma=1.0)], ids=str)
def test_polishing_is_the_posterior_mean_around_the_decoded_image(recipe):
    """Its argmin by the dense matrix: (AᵀA / σ² + I / τ²) x = Aᵀy / σ² + D / τ²."""
    measurement, tau = problem(recipe), 0.3
    x = torch.randn(1, 3, 4, 6, generator=torch.Generator().manual_seed(5)).double()
    got = data_consistency(x, measurement, with_values(preset("flowdps"), pixel_error_std=tau))
    operator, level = measurement.operator, measurement.noise_level
    size = math.prod(operator.in_shape)
    eye = torch.eye(size, dtype=torch.float64)
    a = operator.A(eye.view(size, *operator.in_shape)).flatten(1).T
    right = a.T @ measurement.y.flatten() / level**2 + x.flatten() / tau**2
    want = torch.linalg.solve(a.T @ a / level**2 + eye / tau**2, right)
    torch.testing.assert_close(got.flatten(), want, rtol=1e-7, atol=1e-7)
    assert (
        data_consistency(x, measurement, with_values(preset("flowdps"), pixel_error_std=0.0)) is x
    )
    assert data_consistency(x, measurement, with_values(preset("flowdps"), data_weight=0.0)) is x


def test_without_renewal_no_noise_is_drawn():
    measurement = problem(GaussianBlur(3, sigma=1.0))
    gens = generators(0, 1)
    run("flowdps", measurement, with_values(preset("flowdps"), renew=0.0), gens=gens)
    (fresh,) = generators(0, 1)
    torch.randn(3, 4, 6, generator=fresh)
    assert torch.equal(gens[0].get_state(), fresh.get_state())


def test_the_residual_loss_is_the_published_one_but_for_blurs():
    x = torch.randn(1, 3, 4, 6, generator=torch.Generator().manual_seed(5)).double()
    for recipe, same in ((AveragePool(2), True), (GaussianBlur(3, sigma=1.0), False)):
        measurement = problem(recipe)
        losses = [DataLoss(GaussianPrior(), measurement, k)(x) for k in ("norm", "residual")]
        assert torch.equal(*losses) == same
    plain = (measurement.operator.A(x) - measurement.y).norm()
    torch.testing.assert_close(losses[1], plain[None])


def test_published_schedule():
    sigmas = published_sigmas(28)
    assert (len(sigmas), float(sigmas[0]), float(sigmas[-1])) == (29, 1, 0)
    assert float(sigmas[1]) == pytest.approx(0.99051, abs=1e-5)
    assert float(sigmas[27]) == pytest.approx(0.01187, abs=1e-5)


@pytest.mark.parametrize("method", CASES)
def test_callback_sees_every_step(method):
    seen = []
    measurement = problem(AveragePool(2), count=2)
    run(method, measurement, SMALL[method], steps=5, callback=seen.append)
    assert [(s.i, s.total) for s in seen] == [(k, 5) for k in range(5)]
    assert all(s.denoised.shape == (2, 3, 4, 6) and s.loss.shape == (2,) for s in seen)
    assert float(seen[0].loss.min()) > 0


@pytest.mark.parametrize("method", CASES)
def test_work_is_what_the_paper_counts_and_constants_once(method):
    prior, measurement = GaussianPrior(), problem(AveragePool(2))
    plain = run(method, measurement, SMALL[method], steps=28)
    prior.decode(torch.zeros(1, 3, 4, 6))
    work = Work(prior, measurement)
    counted = run(method, work.measurement, SMALL[method], steps=28, prior=prior)
    assert work.counted() == CASES[method].work
    assert torch.equal(counted, plain)


RESIDUAL = with_values(SMALL["flowdps"], loss="residual")


@pytest.mark.parametrize(
    ("recipe", "settings", "expected"),
    [
        (GaussianBlur(3, sigma=1.0), SMALL["flowdps"], {"adjoint": 1, **both_ways(6, "normal")}),
        (
            GaussianBlur(3, sigma=1.0),
            with_values(SMALL["flowdps"], loss="residual"),
            both_ways(6, "A"),
        ),
        (AveragePool(2), preset("flowdps", "thorough"), {**both_ways(16, "A"), "prox": 1}),
        (Clip(-0.5, 0.5), preset("flowdps", "thorough"), both_ways(16, "A")),
        (AveragePool(2), with_values(preset("flowdps", "thorough"), step_size=0.0), {}),
    ],
    ids=["normal", "residual", "likelihood", "not linear", "none"],
)
def test_operators_are_applied_no_more_than_needed(recipe, settings, expected):
    prior, measurement = GaussianPrior(), problem(recipe)
    work = Work(prior, measurement)
    z = run("flowdps", work.measurement, settings, steps=2, prior=prior)
    data_consistency(z, work.measurement, settings)
    found = work.counted()
    decoder = both_ways(max(expected.get("A", 0), expected.get("normal", 0)), "decoder")
    wanted = {"transformer": 2, **decoder, **expected}
    assert found == {name: count for name, count in wanted.items() if count}


def test_early_noise_levels_may_take_fewer_steps():
    settings = with_values(preset("flowdps", "thorough"), early_steps=2, early_sigma=0.7)
    levels = published_sigmas(28)[:-1]
    early = int((levels > 0.7).sum())
    prior, measurement = GaussianPrior(), problem(AveragePool(2))
    run("flowdps", measurement, settings, steps=28, prior=prior)
    assert prior.passes["decoder"] == 2 * early + 8 * (28 - early)
    assert 0 < early < 28
    with pytest.raises(ValueError, match="early_steps is -1"):
        with_values(settings, early_steps=-1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"method": "dps"}, "unknown method 'dps'"),
        ({"sigmas": torch.tensor([0.5, 1.0])}, "falling"),
        ({"sigmas": torch.tensor([1.0])}, "falling"),
        ({"generators": generators(0, 3)}, "3 generators for 1 samples"),
    ],
)
def test_bad_arguments_are_named(change, words):
    arguments = {
        "method": "flowdps",
        "sigmas": published_sigmas(3),
        "generators": generators(0, 1),
    } | change
    with pytest.raises(ValueError, match=words):
        sample(
            arguments.pop("method"),
            GaussianPrior(),
            problem(AveragePool(2)),
            settings=SMALL["flowdps"],
            **arguments,
        )


SENSELESS = {
    "step_size is nan; expected a number of at least 0": lambda: GradientStep(float("nan")),
    "stop is -1; expected a number of at least 0": lambda: GradientStep(1.0, stop=-1),
    "loss is 'l1'; expected one of norm, residual, squared, hybrid": lambda: GradientStep(
        1.0, loss="l1"
    ),
    "rule is 'sgd'; expected one of gradient, adam": lambda: GradientStep(1.0, rule="sgd"),
    "decay is 1.0 and the rule is 'gradient'": lambda: GradientStep(1.0, decay=1.0),
    "inner_steps is 0; expected a number of at least 1": lambda: InnerSteps(1.0, inner_steps=0),
    "early_steps is -1": lambda: InnerSteps(1.0, early_steps=-1),
    "proximal_weight is 2.0 and the loss is 'norm'": lambda: InnerSteps(1.0, proximal_weight=2.0),
    "pixel_error_std is -0.1": lambda: PixelCorrection(-0.1),
    "renew is 2; expected a number from 0 to 1": lambda: FlowDPSSettings(
        data_step=InnerSteps(1.0), renew=2
    ),
    "weight is 'half'": lambda: FlowDPSSettings(data_step=InnerSteps(1.0), weight="half"),
    "the data step of psld is InnerSteps": lambda: PSLDSettings(data_step=InnerSteps(1.0)),
    "FlowChefSettings has no value 'renew'": lambda: with_values(preset("flowchef"), renew=0.5),
    "flowdps has no preset 'best'; expected one of tuned": lambda: preset("flowdps", "best"),
    "unknown method 'dps'; expected one of refine": lambda: preset("dps"),
    "steps is 0": lambda: published_sigmas(0),
    "flowchef takes FlowChefSettings and was given FlowDPSSettings": lambda: run(
        "flowchef", problem(AveragePool(2)), preset("flowdps")
    ),
    "step_scale is -1": lambda: override(preset("flowdps"), step_scale=-1),
    "stop is -0.5; expected -1": lambda: override(preset("flowdps"), stop=-0.5),
    "inner_steps is 2 and these settings have none": lambda: override(
        preset("flowchef"), inner_steps=2
    ),
    "inner_steps is 3 and these settings have none": lambda: override(
        preset("flowdps"), inner_steps=3
    ),
}


@pytest.mark.parametrize("words", SENSELESS)
def test_what_makes_no_sense_is_refused_in_one_sentence(words):
    with pytest.raises(ValueError, match=re.escape(words)):
        SENSELESS[words]()


@pytest.mark.parametrize(("method", "name"), PRESETS)
def test_overrides_change_what_they_say_and_nothing_else(method, name):
    plain = preset(method, name)
    assert override(plain) == override(plain, inner_steps=0, stop=-1) == plain
    values = flat(plain)
    doubled = override(plain, step_scale=2)
    assert doubled == replace(plain, data_step=plain.data_step.scaled(2))
    assert doubled != plain
    if "step_size" in values:
        assert flat(doubled)["step_size"] == 2 * values["step_size"]
    held = with_values(plain, stop=1.5)
    assert override(held, stop=0) == with_values(held, stop=0.0)
    assert override(held, stop=1.1) == with_values(held, stop=1.1)
    if "inner_steps" in values:
        assert flat(override(plain, inner_steps=5)) == {**values, "inner_steps": 5}


@pytest.mark.parametrize("method", METHODS)
def test_a_row_is_complete(method):
    row = METHODS[method]
    assert row.name == method == method.lower()
    assert row.about.endswith(".")
    assert row.preset() == row.preset(row.default)
    assert all(isinstance(settings, row.settings) for settings in row.presets.values())


def test_flowchef_takes_any_data_step():
    """Two inner steps of the plain gradient are the step, and another one from where it led."""
    measurement, prior = problem(AveragePool(2), count=2), CurvedPrior()
    settings = FlowChefSettings(data_step=InnerSteps(0.05, inner_steps=2))
    got = run("flowchef", measurement, settings, steps=1, prior=prior)
    z = torch.stack([torch.randn(3, 4, 6, generator=g) for g in generators(0, 2)]).double()
    z0 = prior.denoise(z, 1.0)
    loss, want = DataLoss(prior, measurement, "norm"), z0
    for _ in range(2):
        want = want - 0.05 * loss.gradient(want)[1]
    torch.testing.assert_close(got, want)


NONLINEAR = [Jpeg(30, "4:4:4"), Quantise(5), Clip(-0.5, 0.5)]


@pytest.mark.parametrize("method", CASES)
@pytest.mark.parametrize("recipe", NONLINEAR, ids=lambda r: r.name)
def test_what_is_not_linear_is_followed_all_the_same(method, recipe):
    measurement = problem(recipe, 2, size=(8, 8), noise=0.05)
    settings = preset(method, "tuned")
    loss = DataLoss(GaussianPrior(), measurement, "squared")
    pulled = loss(run(method, measurement, settings, steps=24))
    free = loss(run(method, measurement, override(settings, step_scale=0), steps=24))
    assert bool((pulled < 0.5 * free).all())


def test_what_is_not_linear_is_compared_as_it_is_and_not_polished():
    measurement = problem(Clip(-0.4, 0.4), 2)
    x = torch.linspace(-1, 1, measurement.y.numel(), dtype=torch.float64).view_as(measurement.y)
    want = (measurement.operator.A(x) - measurement.y).flatten(1).norm(dim=1)
    torch.testing.assert_close(DataLoss(CurvedPrior(), measurement, "norm").of_images(x), want)
    settings = with_values(preset("flowdps"), pixel_error_std=0.1)
    assert data_consistency(x, measurement, settings) is x


def test_psld_refuses_what_it_cannot_glue():
    measurement = problem(Chain((AveragePool(2), Clip())), size=(4, 6))
    with pytest.raises(ValueError, match=r"psld needs a linear operator.*choose flowdps"):
        run("psld", measurement, preset("psld"))
    run("flowdps", measurement, preset("flowdps"), steps=2)


def test_a_picture_of_any_measurement_is_a_start():
    """Least squares where A is linear, else the measurement itself in the image's size."""
    blurred = problem(GaussianBlur(3, sigma=1.0))
    found = first_picture(blurred)
    assert float(blurred.residual_ratio(found)) < 1
    assert float(found.abs().max()) < 3, "noise is not amplified"
    clipped = problem(Clip(-0.5, 0.5))
    assert torch.equal(first_picture(clipped), clipped.y)
    smaller = problem(Chain((AveragePool(2), Clip())))
    assert first_picture(smaller).shape == (1, 3, 4, 6)


def test_the_calibration_of_flair_is_the_published_one():
    """Nearly the same for every model whose errors fall and rise; nothing is trusted at the end."""
    published = {0.98: 0.28, 0.95: 0.4, 0.9: 0.5, 0.8: 0.57, 0.7: 0.56, 0.5: 0.43, 0.2: 0.15}
    for level, weight in published.items():
        assert calibration(SD3_ERRORS, level) == pytest.approx(weight, abs=0.011)
        doubled = tuple((t, 2 * error) for t, error in SD3_ERRORS)
        assert calibration(doubled, level) == pytest.approx(calibration(SD3_ERRORS, level))
    assert calibration(SD3_ERRORS, 0.0) == 0


def test_flair_uses_the_errors_of_the_prior_where_they_are_known():
    class Known(GaussianPrior):
        velocity_errors = ((1.0, 0.3), (0.5, 0.6), (0.0, 1.0))

    measurement, settings = problem(AveragePool(2)), small("flair", "tuned")
    plain = run("flair", measurement, settings)
    assert not torch.equal(run("flair", measurement, settings, prior=Known()), plain)
    as_sd3 = with_values(settings, calibration="sd3")
    assert torch.equal(run("flair", measurement, as_sd3, prior=Known()), plain)


def test_the_steps_of_flair_rest_at_a_residual_each_for_itself():
    """As published, or at the noise where that is larger."""
    measurement = problem(Identity(), count=3)
    y = measurement.y
    start = torch.cat([y[:1] + 0.009, y[1:2] + 0.15, y[2:] + 0.25])
    for stop, resting in ((0.0, [True, False, False]), (1.0, [True, True, False])):
        step = SquaredSteps(stop=stop, inner_steps=1).bind(GaussianPrior(), measurement)
        pull, _ = step(start, 0.5)
        assert [bool((one == 0).all()) for one in pull] == resting
        torch.testing.assert_close(pull[2], torch.full_like(pull[2], -0.1 * 2 * 0.25))


@pytest.mark.parametrize("recipe", [Mask.from_tensor(torch.tensor([[1.0, 0, 1, 1]] * 4))], ids=str)
def test_the_published_latino_has_a_fixed_weight_where_values_are_missing(recipe):
    measurement = problem(recipe, count=2, size=(4, 4))
    misfit, error = torch.tensor([1.0, 9.0]).double(), ResidualError()
    for sigma, delta in ((0.8, 1.0), (0.3, 0.5)):
        wanted = delta * sigma**2 / (sigma**2 + (1 - sigma) ** 2)
        found = error.variance(sigma, misfit, measurement)
        assert found.tolist() == pytest.approx([wanted, wanted])


def test_latino_takes_no_gradients():
    prior = GaussianPrior()
    run("latino", problem(AveragePool(2)), preset("latino"), steps=3, prior=prior)
    assert prior.passes == {"transformer": 3, "decoder": 3, "encoder": 4}
    assert not any(prior.passes.gradients.values())


@pytest.mark.parametrize("method", ["flair", "latino"])
def test_levels_of_their_own_fall_to_data(method):
    row = METHODS[method]
    levels = row.levels(row.preset(), row.steps)
    assert len(levels) == row.steps + 1
    assert bool((levels.diff() < 0).all())
    assert levels[-1] == 0
    with pytest.raises(ValueError, match="steps is 0"):
        row.levels(row.preset(), 0)


def test_levels_of_flair_are_the_published_ones():
    levels = METHODS["flair"].levels(preset("flair", "published"), 50)
    wanted = [1 - 0.82 * k / 51 for k in range(1, 51)]
    assert levels[:-1].tolist() == pytest.approx(wanted)


def test_only_super_resolution_shrinks_pictures():
    shrinks = {AveragePool(2): True, GaussianBlur(3, sigma=1.0): False, WalshHadamard(0.3): False}
    for recipe, wanted in shrinks.items():
        assert downscales(recipe.bind((3, 8, 8))) is wanted
    vectors = WalshHadamard(0.3).bind((3, 8, 8))
    vectors.out_shape = (vectors.out_shape[-1] * 3, 1, 1)
    assert not downscales(vectors)
