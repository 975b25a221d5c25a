"""The correction in pixels, against dense matrices and against itself."""

import math

import pytest
import torch
from comfyui_flowdps.benchmarks import pictures
from comfyui_flowdps.operators import (
    AveragePool,
    Chain,
    Clip,
    GaussianBlur,
    Identity,
    Jpeg,
    Measurement,
    Quantise,
    recipe_for_task,
)
from comfyui_flowdps.operators.linear.preconditioner import Spectrum
from comfyui_flowdps.operators.linear.transforms import Cosine
from comfyui_flowdps.priors.built_in import DEMO, PHOTO
from comfyui_flowdps.priors.error_spectrum import BINS, ErrorSpectrum
from comfyui_flowdps.samplers import MeasuredError, PixelStep
from comfyui_flowdps.samplers.model_error import ColouredError, WhiteError
from comfyui_flowdps.samplers.pixel_prox import PixelProx
from comfyui_flowdps.samplers.schedule import posterior_deviation

from .test_samplers import CurvedPrior

FALLING = ErrorSpectrum(
    (0.1, 1.0),
    tuple(tuple(s * 0.02 * math.exp(-0.3 * k) for k in range(BINS)) for s in (1.0, 3.0)),
)
SIZE = (3, 4, 6)


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()


def problem(recipe, count=2, size=SIZE, noise=0.2):
    operator = recipe.bind(size, dtype=torch.float64)
    y = operator.A(0.5 * drawn(count, *size))
    return Measurement(y + noise * drawn(*y.shape, seed=1), operator, noise)


def matrix_of(function, shape):
    basis = torch.eye(math.prod(shape), dtype=torch.float64).view(-1, *shape)
    return function(basis).flatten(1).T


@pytest.mark.parametrize(
    "recipe", [Identity(), AveragePool(2), GaussianBlur(3, sigma=1.0)], ids=str
)
@pytest.mark.parametrize("coloured", [True, False], ids=["coloured", "white"])
def test_a_linear_correction_is_the_posterior_mean(recipe, coloured):
    measurement, x, sigma = problem(recipe), drawn(2, *SIZE, seed=2), 0.4
    error = ColouredError(FALLING, 1.5) if coloured else WhiteError(0.2)
    prox = PixelProx(measurement, error, weight=2.0)
    if isinstance(error, ColouredError):
        cov = matrix_of(prox._power(error, x, sigma, 1.0), SIZE)
    else:
        cov = (0.2 * posterior_deviation(sigma)) ** 2 * torch.eye(math.prod(SIZE)).double()
    torch.testing.assert_close(cov, cov.T)
    assert float(torch.linalg.eigvalsh(cov).min()) > 0
    a = matrix_of(measurement.operator.A, SIZE)
    gain = cov @ a.T @ torch.linalg.inv(a @ cov @ a.T + 0.2**2 / 2 * torch.eye(len(a)).double())
    rest = measurement.y - measurement.operator.A(x)
    want = x + (rest.flatten(1) @ gain.T).view_as(x)
    torch.testing.assert_close(prox(x, sigma)[0], want, atol=1e-4, rtol=0)


def test_the_covariance_is_that_of_the_spectrum():
    """The variance of a pixel is the mean of the density."""
    error = ColouredError(FALLING, 2.0)
    prox = PixelProx(problem(Identity(), size=(3, 16, 16)), error)
    x = torch.zeros(1, 3, 16, 16, dtype=torch.float64)
    cov = matrix_of(prox._power(error, x, 1.0, 1.0), (3, 16, 16))
    ones = prox._power(error, x, 1.0, 1.0)(x + 1)
    torch.testing.assert_close(ones, (x + 1) * 2 * 3 * 0.02)
    rows, columns = torch.arange(16)[:, None] / 32, torch.arange(16) / 32
    place = (torch.hypot(rows, columns) / math.sqrt(0.5) * BINS - 0.5).clamp(0, BINS - 1)
    # Logarithms that are linear in the frequency are interpolated without error.
    want = 0.12 * (-0.3 * place.double()).exp().mean()
    torch.testing.assert_close(cov.diagonal().mean(), want, atol=0, rtol=1e-4)


def test_a_prior_without_a_spectrum_errs_as_white_noise():
    known, unknown = CurvedPrior(), CurvedPrior()
    known.error_spectrum = FALLING
    assert MeasuredError(2.0).of(known) == ColouredError(FALLING, 2.0)
    assert MeasuredError(2.0, unmeasured=0.4).of(unknown) == WhiteError(0.4)
    variance = WhiteError(0.4).variance(0.3, torch.ones(2), problem(Identity()))
    assert float(variance) == pytest.approx((0.4 * posterior_deviation(0.3)) ** 2)


@pytest.mark.parametrize("recipe", [AveragePool(2), GaussianBlur(3, sigma=1.0)], ids=str)
def test_descent_finds_what_is_known_in_closed_form(recipe):
    measurement, x = problem(recipe), drawn(2, *SIZE, seed=2)
    error = ColouredError(FALLING)
    prox = PixelProx(measurement, error)
    root = prox._power(error, x, 0.4, 0.5)
    got = prox._descent(measurement.operator, x, measurement.y, root, prox.variance)
    torch.testing.assert_close(got, prox(x, 0.4)[0], atol=2e-4, rtol=0)


@pytest.mark.parametrize(
    "recipe", [Jpeg(20), Jpeg(30, "4:4:4"), Quantise(5), Clip(-0.4, 0.4)], ids=str
)
@pytest.mark.parametrize(
    "error", [ColouredError(FALLING, 4.0), WhiteError(0.3)], ids=["coloured", "white"]
)
def test_what_is_not_linear_comes_nearer_sample_by_sample(recipe, error):
    measurement = problem(recipe, size=(3, 16, 16), noise=0.0)
    x = 0.5 * drawn(2, 3, 16, 16, seed=5)
    got, _ = PixelProx(measurement, error)(x, 0.5)

    def misfit(u):
        return measurement.operator.misfit(u, measurement.y).square().flatten(1).sum(1)

    assert bool((misfit(got) < 0.5 * misfit(x)).all())
    for k in range(2):
        one = Measurement(measurement.y[k : k + 1], measurement.operator, 0.0)
        alone, _ = PixelProx(one, error)(x[k : k + 1], 0.5)
        # The step sizes amplify rounding errors.
        torch.testing.assert_close(got[k : k + 1], alone, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    "recipe",
    [Jpeg(40), Jpeg(40, "4:4:4"), Jpeg(40, orientation=6), Chain([AveragePool(2), Jpeg(70)])],
    ids=["jpeg", "all chroma", "turned", "after shrinking"],
)
@pytest.mark.parametrize("coloured", [True, False], ids=["coloured", "white"])
def test_rounded_measurements_are_corrected_to_the_posterior_mean(recipe, coloured):
    """With the covariance of the rounding error, both errors independent in YCbCr."""
    size, sigma = (3, 8, 16), 0.4
    measurement, x = problem(recipe, size=size, noise=0.0), drawn(2, *size, seed=2)
    rounding = measurement.operator.rounding_error
    inner = rounding.inner or Identity().bind(size, dtype=torch.float64)
    error = ColouredError(FALLING, 1.5) if coloured else WhiteError(0.2)
    got, _ = PixelProx(measurement, error, weight=2.0)(x, sigma)
    if coloured:
        density = error.density(sigma, *size[1:])[None]
    else:
        density = (0.2 * posterior_deviation(sigma)) ** 2 * torch.ones(1, 1, 1, 1).double()
    cov = matrix_of(lambda u: rounding.covariance(u, density), size)
    seen = matrix_of(lambda u: rounding.covariance(u, rounding.density / 2), inner.out_shape)
    a = matrix_of(inner.A, size)
    gain = cov @ a.T @ torch.linalg.inv(a @ cov @ a.T + seen)
    rest = (measurement.y - inner.A(x)).flatten(1)
    torch.testing.assert_close(got, x + (rest @ gain.T).view_as(x), atol=2e-4, rtol=0)


@pytest.mark.parametrize("quality", [10, 30, 50, 75, 90])
def test_a_jpeg_of_a_photograph_gains_by_a_model_that_errs_as_it_says(quality):
    """In brightness, as autoencoders mostly do."""
    error = ColouredError(ErrorSpectrum.beside(PHOTO.file), 2.0)
    cosine = Cosine(64, 64, torch.device("cpu"), torch.float64)
    deviation = Spectrum(cosine, (error.density(0.06, 64, 64) / 2).sqrt())
    operator = Jpeg(quality).bind((3, 64, 64), dtype=torch.float64)
    x = pictures("photos/tune", 8)[..., 90:154, 90:154].double()
    y, mean = operator.A(x), x + deviation(drawn(8, 1, 64, 64))
    got, _ = PixelProx(Measurement(y, operator, 0.01), error)(mean, 0.06)
    assert float((got - x).square().mean()) < 0.95 * float((y - x).square().mean())


def test_rounding_is_not_amplified_where_hardly_anything_is_certain():
    """The spectrum of a model that starts from noise spans five decades."""
    spectrum = ErrorSpectrum.beside(DEMO.file)
    operator = recipe_for_task("sr_bicubic", 4, seed=0).bind((3, 64, 64))
    y = operator.A(0.5 * drawn(1, 3, 64, 64).float())
    nudged = y + 1e-6 * drawn(*y.shape, seed=3).float()
    x = torch.zeros(1, 3, 64, 64)
    first, second = (
        PixelProx(Measurement(v, operator, 0.03), ColouredError(spectrum, 2.0))(x, 1.0)[0]
        for v in (y, nudged)
    )
    assert float((first - second).norm() / first.norm()) < 1e-4


def test_a_data_step_is_the_difference_of_two_encodings():
    measurement, prior = problem(AveragePool(2)), CurvedPrior()
    z = drawn(2, *SIZE)
    step = PixelStep(data_weight=1.5)
    move, loss = step.bind(prior, measurement)(z, 0.3)
    x = prior.decode(z)
    wanted, _ = PixelProx(measurement, step.error.of(prior), 1.5)(x, 0.3)
    torch.testing.assert_close(move, prior.encode(wanted) - prior.encode(x))
    misfit = (measurement.operator.A(x) - measurement.y).square().flatten(1).sum(1)
    torch.testing.assert_close(loss, misfit / (2 * 0.2**2))
    nothing, _ = step.scaled(0).bind(prior, measurement)(z, 0.3)
    assert float(nothing.abs().max()) == 0
