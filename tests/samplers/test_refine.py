"""Refinement: its update written out, the laws of a run, and its range of strengths."""

import dataclasses
import sys

import pytest
import torch
from comfyui_flowdps.operators import (
    AveragePool,
    Bayer,
    Clip,
    DefocusBlur,
    GaussianBlur,
    Identity,
    Jpeg,
    Mask,
    Measurement,
    Quantise,
)
from comfyui_flowdps.priors.error_spectrum import BINS, ErrorSpectrum
from comfyui_flowdps.samplers import (
    MeasuredError,
    RefineSettings,
    VariationFinish,
    WhiteError,
    finished,
    override,
    preset,
    sample,
    with_values,
)
from comfyui_flowdps.samplers.pixel_prox import PixelProx
from comfyui_flowdps.samplers.refine import classical, refine_levels
from comfyui_flowdps.samplers.variation import regularised

from .test_samplers import SPREAD, CurvedPrior, GaussianPrior, generators, posterior_mean, problem

refining = sys.modules["comfyui_flowdps.samplers.refine"]
"""The module: the package has the function under its name."""
SMALL = with_values(preset("refine"), iterations=20)


def run(measurement, settings=SMALL, prior=None, steps=3, gens=None, seed=0):
    return sample(
        "refine",
        prior or GaussianPrior(),
        measurement,
        sigmas=refine_levels(settings, steps),
        settings=settings,
        generators=gens or generators(seed, len(measurement.y)),
    )


class Seen(GaussianPrior):
    """A prior that notes the noise levels at which it is asked."""

    def __init__(self):
        super().__init__()
        self.levels = set()

    def denoise(self, z, sigma):
        self.levels.add(sigma)
        return super().denoise(z, sigma)


def test_levels_go_from_denoise_to_the_last():
    got = refine_levels(RefineSettings(), 3).tolist()
    assert got == pytest.approx([0.3, 0.2, 0.1, 0.0])
    assert refine_levels(RefineSettings(denoise=0.5), 1).tolist() == [0.5, 0.0]
    for denoise in (0.05, 0.1, 1.0):
        levels = refine_levels(RefineSettings(denoise=denoise), 5)
        assert len(levels) == 6
        assert float(levels[0]) == denoise
        assert bool((levels.diff() < 0).all())


def test_the_update_written_out():
    """Two levels in one view with one pair of noises, and a white error."""
    measurement, prior = problem(AveragePool(2), count=2), CurvedPrior()
    settings = with_values(SMALL, views=1, pairs=1, freedom=0.0, data_weight=1.5)
    got = run(measurement, settings, prior, steps=2)
    gens = generators(0, 2)
    # The sampler's start is drawn first, and not used.
    [torch.randn(3, 4, 6, generator=g) for g in gens]
    image = classical(measurement, settings.finish).image
    z = prior.encode(image)
    for s, last in ((0.3, False), (0.1, True)):
        n = torch.stack([torch.randn(3, 4, 6, generator=g) for g in gens]).double()
        z0 = sum(prior.denoise((1 - s) * z + s * sign * n, s) for sign in (1, -1)) / 2
        x = prior.decode(z0)
        wanted, _ = PixelProx(measurement, WhiteError(0.2), 1.5)(x, s)
        z = z0 if last else z0 + prior.encode(wanted) - prior.encode(x)
    torch.testing.assert_close(got.images, x)
    torch.testing.assert_close(got.latents, z0)


CHEQUERED = Mask.from_tensor(((torch.arange(32)[:, None] + torch.arange(32)) % 2).float())
"""Every second pixel is missing."""


@pytest.mark.parametrize(
    ("recipe", "eased"),
    [
        (DefocusBlur(2.0), True),
        (Bayer(), True),
        (CHEQUERED, False),
        (AveragePool(8), False),
        (Jpeg(30), False),
    ],
    ids=["a blur", "colours", "holes", "small", "JPEG"],
)
def test_levels_are_eased_where_much_of_every_pixel_is_known(recipe, eased):
    measurement = problem(recipe, size=(32, 32), noise=0.05)
    for factor in (1.0, 0.5):
        prior = Seen()
        run(measurement, with_values(SMALL, eased=factor), prior)
        lower = factor if eased else 1.0
        assert sorted(prior.levels, reverse=True) == pytest.approx(
            [lower * s for s in (0.3, 0.2, 0.1)]
        )


@pytest.mark.parametrize(
    "recipe", [AveragePool(2), Identity(), GaussianBlur(3, sigma=1.0)], ids=lambda r: r.name
)
def test_from_noise_it_finds_the_posterior_mean_of_a_gaussian(recipe):
    """At noise level 1 the model knows its mean only, and errs by its own deviation; given that
    error, the correction is the posterior mean, and a last level near 0 keeps it."""
    measurement, prior = problem(recipe, count=2, copies=True), GaussianPrior()
    prior.error_spectrum = ErrorSpectrum((1.0,), ((SPREAD**2,) * BINS,))
    settings = with_values(
        SMALL, views=1, freedom=0.0, denoise=1.0, last=0.001, trust=1.0, iterations=1
    )
    found = run(measurement, settings, prior, steps=2).images
    want = posterior_mean(measurement).expand_as(found)
    torch.testing.assert_close(found, want, atol=1e-3, rtol=0)


KINDS = [
    AveragePool(2),
    GaussianBlur(3, sigma=1.0),
    Mask.from_tensor((torch.arange(64).view(8, 8) % 3 > 0).float()),
    Jpeg(30),
    Quantise(5),
    Clip(-0.5, 0.5),
]


@pytest.mark.parametrize("recipe", KINDS, ids=lambda r: r.name)
def test_a_batch_is_its_samples_and_the_global_generator_is_untouched(recipe):
    measurement = problem(recipe, 2, size=(8, 8), noise=0.1)
    before = torch.get_rng_state()
    both = run(measurement, prior=CurvedPrior())
    assert torch.equal(torch.get_rng_state(), before)
    again = run(measurement, prior=CurvedPrior())
    assert torch.equal(both.images, again.images)
    assert torch.equal(both.latents, again.latents)
    assert not torch.equal(both.images, run(measurement, prior=CurvedPrior(), seed=1).images)
    for k in range(2):
        one = dataclasses.replace(measurement, y=measurement.y[k : k + 1])
        alone = run(one, prior=CurvedPrior(), gens=[generators(0, 2)[k]])
        torch.testing.assert_close(both.images[k : k + 1], alone.images, atol=1e-4, rtol=0)


@pytest.mark.parametrize("recipe", KINDS, ids=lambda r: r.name)
@pytest.mark.parametrize("denoise", [0.05, 0.3, 1.0])
def test_the_result_agrees_with_the_measurement(recipe, denoise):
    measurement = problem(recipe, 2, size=(8, 8), noise=0.1)
    settings = with_values(preset("refine"), denoise=denoise)
    image = finished(GaussianPrior(), run(measurement, settings, steps=6), measurement, settings)
    assert bool(image.isfinite().all())
    misfit = measurement.operator.misfit(image, measurement.y)
    if (seen := measurement.measured) is not None:
        misfit = misfit * seen
    assert float(misfit.square().mean().sqrt()) < 2 * 0.1


@pytest.mark.parametrize("recipe", [Identity(), DefocusBlur(1.5)], ids=lambda r: r.name)
def test_a_texture_asks_for_less_total_variation_than_a_flat_picture(recipe):
    """Also in one batch, where each has what it has alone."""
    random = torch.Generator().manual_seed(0)
    flat = torch.zeros(1, 3, 24, 24).double()
    flat[..., 12:] = 0.5
    texture = 0.3 * torch.randn(flat.shape, generator=random).double()
    operator = recipe.bind((3, 24, 24), dtype=torch.float64)
    y = operator.A(torch.cat([flat, texture]))
    y = y + 0.1 * torch.randn(2, 3, 24, 24, generator=random).double()
    finish = preset("refine").finish
    both = classical(Measurement(y, operator, 0.1), finish)
    smooth, rough = both.strength.flatten().tolist()
    assert smooth == float(both.typical)
    assert rough < smooth
    for k in range(2):
        alone = classical(Measurement(y[k : k + 1], operator, 0.1), finish)
        torch.testing.assert_close(both.image[k : k + 1], alone.image)
    # Less error by it than with the strength of flat pictures.
    full = regularised(Measurement(y[1:], operator, 0.1), both.typical, y[1:])
    error = [float(operator.A(image - texture).square().mean()) for image in (both.image[1:], full)]
    assert error[0] < error[1]


class NoOpinion(GaussianPrior):
    """A model that only scales: the mean over opposite noises is the image itself."""

    def denoise(self, z, sigma):
        return z / (1 - sigma)


@pytest.mark.parametrize("sign", [1, -1])
def test_what_is_overexposed_stays_beyond_the_end_and_the_rest_as_measured(sign):
    """A square of 0.8 that was cut off at 0.3: nothing but that is known of it."""
    x = torch.full((1, 3, 24, 24), -0.4, dtype=torch.float64)
    x[..., 4:20, 4:20] = 0.8
    noise = 0.05 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).double()
    recipe = Clip(-1.0, 0.3) if sign > 0 else Clip(-0.3, 1.0)
    operator = recipe.bind((3, 24, 24), dtype=torch.float64)
    measurement = Measurement(operator.A(sign * x) + noise, operator, 0.05)
    image = sign * run(measurement, preset("refine"), NoOpinion()).images
    inside = image[..., 7:17, 7:17]
    assert float(inside.min()) >= 0.3
    # Within the range, and nearer to the truth than the end at which the values were cut off.
    assert float(inside.max()) <= 1
    assert float((inside - 0.8).square().mean().sqrt()) < 0.6 * (0.8 - 0.3)
    outside = torch.ones_like(x, dtype=torch.bool)
    outside[..., 3:21, 3:21] = False
    assert float((image - x)[outside].square().mean().sqrt()) < 0.05


class NoGradients(CurvedPrior):
    """Networks that refuse to record a gradient."""

    def denoise(self, z, sigma):
        assert not torch.is_grad_enabled()
        return super().denoise(z, sigma)

    def decode(self, z):
        assert not torch.is_grad_enabled()
        return super().decode(z)

    def moments(self, x):
        assert not torch.is_grad_enabled()
        return super().moments(x)


def test_the_strength_of_a_sample_does_not_depend_on_its_batch(monkeypatch):
    """Each takes the first share after which its risk rises, whatever others go on to try."""
    off = torch.tensor([[0.1, 0.2, 0.0], [0.2, 0.1, 0.05]], dtype=torch.float64)

    def regularised(measurement, strength, *rest):
        rows = measurement.y.mean((1, 2, 3)).round().long()
        tried = refining.SOFTER.index(round(float(strength.flatten()[0]), 2))
        return measurement.y + off[rows, tried].view(-1, 1, 1, 1)

    monkeypatch.setattr(refining, "regularised", regularised)

    def chosen(*rows):
        y = torch.tensor(rows).double().view(-1, 1, 1, 1).expand(-1, 3, 8, 8)
        operator = Identity().bind((3, 8, 8), dtype=torch.float64)
        given = Measurement(y=y, operator=operator, noise_level=0.1)
        one = torch.ones(len(rows), 1, 1, 1, dtype=torch.float64)
        return refining._share(given, one, one, y, 0.0, 1).flatten().tolist()

    assert chosen(0, 1) == chosen(0) + chosen(1) == [0.45, 1.0]


@pytest.mark.parametrize("recipe", KINDS, ids=lambda r: r.name)
def test_no_network_records_a_gradient(recipe):
    measurement = problem(recipe, 1, size=(8, 8), noise=0.1)
    with torch.enable_grad():
        result = run(measurement, prior=NoGradients())
    assert not result.images.requires_grad
    assert not preset("refine").gradients


def test_where_conditioning_has_a_place_there_is_one_view():
    measurement = problem(GaussianBlur(3, sigma=1.0))
    fixed = CurvedPrior()
    fixed.movable = False
    single = run(measurement, with_values(SMALL, views=1), CurvedPrior())
    torch.testing.assert_close(run(measurement, SMALL, fixed).images, single.images)


def test_without_a_weight_the_measurement_only_gives_the_start():
    measurement = problem(AveragePool(2))
    settings = override(with_values(SMALL, views=1, pairs=1), step_scale=0)
    got, prior = run(measurement, settings, steps=1), GaussianPrior()
    z = prior.encode(classical(measurement, settings.finish).image)
    gens = generators(0, 1)
    [torch.randn(3, 4, 6, generator=g) for g in gens]
    n = torch.stack([torch.randn(3, 4, 6, generator=g) for g in gens]).double()
    z0 = sum(prior.denoise(0.7 * z + 0.3 * sign * n, 0.3) for sign in (1, -1)) / 2
    torch.testing.assert_close(got.images, z0)


def test_latents_are_those_of_the_images():
    """With the identity as autoencoder, exactly."""
    result = run(problem(AveragePool(2), count=2))
    torch.testing.assert_close(result.latents, result.images)


def test_a_stop_leaves_the_residual_at_the_noise():
    measurement = problem(Identity(), noise=0.3)
    settings = override(with_values(SMALL, freedom=100.0), stop=1.0)
    image = run(measurement, settings).images
    assert float(measurement.residual_ratio(image).max()) == pytest.approx(1, abs=0.02)


SENSELESS = {
    "views is 5; expected 1 to 4": lambda: RefineSettings(views=5),
    "denoise is 0; expected": lambda: RefineSettings(denoise=0),
    "denoise is 1.2; expected": lambda: RefineSettings(denoise=1.2),
    "last is 0; expected": lambda: RefineSettings(last=0),
    "pairs is 0; expected a number of at least 1": lambda: RefineSettings(pairs=0),
    "freedom is -1; expected": lambda: VariationFinish(freedom=-1),
    "trust is -1; expected": lambda: MeasuredError(-1),
    "has none, as it starts from noise": lambda: override(preset("flowdps"), denoise=0.3),
    "steps is 0; expected at least 1": lambda: refine_levels(RefineSettings(), 0),
}


@pytest.mark.parametrize("words", SENSELESS)
def test_what_makes_no_sense_is_refused(words):
    with pytest.raises(ValueError, match=words):
        SENSELESS[words]()


def test_a_measurement_that_is_exact_has_a_floor_for_its_noise():
    measurement = dataclasses.replace(problem(AveragePool(2)), noise_level=0.0)
    assert isinstance(measurement, Measurement)
    assert bool(run(measurement).images.isfinite().all())
