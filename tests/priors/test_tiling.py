"""Laws of the tiled prior: where tiles lie, what they weigh, and that nothing else shows them."""

from __future__ import annotations

import contextlib
import itertools
import math
import re
import weakref
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from comfyui_flowdps.operators import AveragePool, GaussianBlur, simulate
from comfyui_flowdps.priors.base import BasePrior
from comfyui_flowdps.priors.diffusers import load_prior
from comfyui_flowdps.priors.tiling import TiledPrior, cells_of, side_of, starts, tiled, weights
from comfyui_flowdps.restoration.images import read_image
from comfyui_flowdps.samplers import (
    METHODS,
    override,
    preset,
    published_sigmas,
    sample,
    with_values,
)
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

SHAPES = [(8, 8), (9, 9), (13, 29), (64, 17), (5, 40), (31, 33)]


def normal(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Convolutions(BasePrior):
    """Curved, coupled in space, with a stride: what a tile answers differs from the whole."""

    latent_channels, stride = 2, 2
    device, dtype = torch.device("cpu"), torch.float64

    def __init__(self):
        super().__init__()
        self.kernels = {
            "denoise": 0.3 * normal(1, 2, 2, 3, 3),
            "decode": 0.3 * normal(2, 12, 2, 3, 3),
            "encode": 0.3 * normal(3, 2, 12, 3, 3),
        }
        self.posterior, self.failing = True, -1

    def _answer(self, name, values):
        return torch.tanh(F.conv2d(values, self.kernels[name].to(values), padding=1))

    def denoise(self, z, sigma):
        self.passes["transformer"] += 1
        return (1 - sigma) * z + sigma * self._answer("denoise", z)

    def decode(self, z):
        self.passes["decoder"] += 1
        if self.passes["decoder"] == self.failing:
            raise torch.cuda.OutOfMemoryError("the test's memory is full")
        return F.pixel_shuffle(self._answer("decode", z), 2)

    def moments(self, x):
        self.passes["encoder"] += 1
        mean = self._answer("encode", F.pixel_unshuffle(x, 2))
        return mean, 0.1 + mean.square() if self.posterior else None

    def save_memory(self):
        self.failing = -1
        return True


class Pointwise(Convolutions):
    """The same without any coupling between cells: tiles cannot show."""

    def __init__(self):
        super().__init__()
        self.kernels = {
            name: F.pad(kernel[..., 1:2, 1:2], (1, 1, 1, 1))
            for name, kernel in self.kernels.items()
        }


def gens(count):
    return [torch.Generator().manual_seed(50 + k) for k in range(count)]


PASSES = {
    "denoise": (1, lambda prior, z: prior.denoise(z, 0.7)),
    "decode": (1, lambda prior, z: prior.decode(z)),
    "encode": (2, lambda prior, x: prior.encode(x)),
    "encode with noise": (2, lambda prior, x: prior.encode(x, gens(len(x)))),
}
each_pass = pytest.mark.parametrize("name", PASSES)


@pytest.mark.parametrize("length", [1, 7, 8, 9, 15, 16, 29, 100])
@pytest.mark.parametrize(("tile", "overlap"), [(8, 0), (8, 2), (8, 7), (16, 8), (5, 2)])
def test_tiles_cover_the_side_with_weights_that_sum_to_one(length, tile, overlap):
    first = starts(length, tile, overlap)
    size = min(tile, length)
    assert first[0] == 0
    assert first[-1] + size == length
    assert all(0 < b - a <= tile - overlap for a, b in itertools.pairwise(first))
    assert len(first) <= math.ceil(length / (tile - overlap))
    for unit in (1, 3):
        total = torch.zeros(length * unit, dtype=torch.float64)
        for start, weight in zip(first, weights(first, length, tile, unit), strict=True):
            assert float(weight.min()) > 0
            total[start * unit : (start + size) * unit] += weight
        torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-12)


def test_weights_are_smooth():
    """No step from one cell to the next is larger than that of the steepest place of a cosine."""
    first = starts(100, 32, 8)
    for start, weight in zip(first, weights(first, 100, 32), strict=True):
        steps = weight.diff().abs()
        shared = min(32 - (b - a) for a, b in itertools.pairwise(first))
        assert float(steps.max()) < 1.05 * math.pi / 2 / shared
        assert float(weight[0]) == 1 if start == 0 else float(weight[0]) < 0.02


@each_pass
@pytest.mark.parametrize("shape", SHAPES)
def test_without_coupling_tiles_do_not_show(name, shape):
    unit, run = PASSES[name]
    values = normal(4, 2, 3 if unit == 2 else 2, *(n * unit for n in shape)).requires_grad_()
    answers = []
    for prior in (Pointwise(), TiledPrior(Pointwise(), 8)):
        answer = run(prior, values)
        (gradient,) = torch.autograd.grad((answer * torch.cos(answer)).sum(), values)
        answers.append((answer.detach(), gradient))
    for whole, parts in zip(*answers, strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12)


@each_pass
def test_gradient_agrees_with_finite_differences(name):
    unit, run = PASSES[name]
    prior = TiledPrior(Convolutions(), 8)
    values = normal(4, 2, 3 if unit == 2 else 2, 13 * unit, 17 * unit)
    direction = normal(5, *values.shape)

    def loss(at):
        return run(prior, at).sin().flatten(1).sum(1)

    at = values.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(at).sum(), at)
    h = 1e-5
    with torch.no_grad():
        numeric = (loss(values + h * direction) - loss(values - h * direction)) / (2 * h)
    torch.testing.assert_close((gradient * direction).flatten(1).sum(1), numeric, rtol=1e-7, atol=0)


@each_pass
def test_what_fits_one_tile_is_the_priors_own_answer(name):
    unit, run = PASSES[name]
    values = normal(4, 1, 3 if unit == 2 else 2, 8 * unit, 6 * unit)
    alone, prior = Convolutions(), Convolutions()
    assert torch.equal(run(TiledPrior(prior, 8), values), run(alone, values))
    assert prior.passes == alone.passes
    graph = run(TiledPrior(prior, 8), values.requires_grad_())
    assert "Blend" not in str(graph.grad_fn)


def test_posterior_noise_is_one_field_whatever_the_tiles():
    """A deterministic autoencoder draws nothing; the other draws once, for the whole image."""
    x = normal(4, 2, 3, 40, 34)
    prior, drawn = Pointwise(), gens(2)
    TiledPrior(prior, 8).encode(x, drawn)
    expected = gens(2)
    for g in expected:
        torch.randn(2, 20, 17, generator=g)
    assert all(
        torch.equal(a.get_state(), b.get_state()) for a, b in zip(drawn, expected, strict=True)
    )
    prior.posterior = False
    untouched = gens(2)
    TiledPrior(prior, 8).encode(x, untouched)
    assert all(
        torch.equal(a.get_state(), b.get_state()) for a, b in zip(untouched, gens(2), strict=True)
    )


def test_a_time_axis_goes_along():
    class Video(Pointwise):
        def denoise(self, z, sigma):
            return super().denoise(z[:, :, 0], sigma).unsqueeze(2)

        def decode(self, z):
            return super().decode(z[:, :, 0])

        def encode(self, x, generators=None):
            return super().encode(x).unsqueeze(2)

    prior, still = TiledPrior(Video(), 8), Pointwise()
    z, x = normal(4, 1, 2, 1, 20, 11), normal(5, 1, 3, 40, 22)
    torch.testing.assert_close(prior.denoise(z, 0.4), still.denoise(z[:, :, 0], 0.4).unsqueeze(2))
    torch.testing.assert_close(prior.decode(z), still.decode(z[:, :, 0]))
    torch.testing.assert_close(prior.encode(x), still.encode(x).unsqueeze(2))


class Peak(TorchDispatchMode):
    """Bytes that are alive at once."""

    def __init__(self):
        super().__init__()
        self.alive, self.peak = {}, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        answer = function(*args, **(kwargs or {}))
        for value in answer if isinstance(answer, (tuple, list)) else (answer,):
            if isinstance(value, torch.Tensor):
                storage = value.untyped_storage()
                self.alive[storage._cdata] = (storage.nbytes(), weakref.ref(storage))
        self.alive = {k: v for k, v in self.alive.items() if v[1]() is not None}
        self.peak = max(self.peak, sum(size for size, _ in self.alive.values()))
        return answer


class Heavy(Convolutions):
    """A decoder that needs far more memory than the image has."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(2, 32, 3, padding=1),
            *[nn.Sequential(nn.Tanh(), nn.Conv2d(32, 32, 3, padding=1)) for _ in range(4)],
            nn.Conv2d(32, 12, 3, padding=1),
        ).requires_grad_(False)

    def decode(self, z):
        self.passes["decoder"] += 1
        return F.pixel_shuffle(self.layers(z), 2)


def test_memory_is_that_of_a_tile_and_passes_are_linear():
    def measure(side, tile):
        prior = Heavy()
        guided = TiledPrior(prior, tile) if tile else prior
        z = normal(3, 1, 2, side, side).float().requires_grad_()
        with Peak() as seen:
            torch.autograd.grad(guided.decode(z).sum(), z)
        return seen.peak, prior.passes["decoder"]

    small, _ = measure(32, 16)
    (large, passes), (whole, _) = measure(128, 16), measure(128, 0)
    image = 4 * 3 * 256 * 256
    assert whole > 10 * image, "the network is too small to prove anything"
    assert large - small < 3 * image
    assert large < whole / 3
    assert passes == 2 * 15**2, "tiles of 16 with 8 in common on 128, twice each"
    assert measure(256, 16)[1] / passes == pytest.approx(4, rel=0.1)


def test_running_out_of_memory_reaches_the_sampler_which_goes_on():
    """In the forward pass, and on the way back."""
    recipe = AveragePool(2)
    clean = normal(6, 1, 3, 40, 40).clamp(-1, 1)
    measurement = simulate(clean, recipe.bind((3, 40, 40), dtype=torch.float64), 0.1, gens(1))
    answers = []
    for failing in (-1, 3, 9 + 4):
        prior = Convolutions()
        prior.failing = failing
        guided = TiledPrior(prior, 8)
        settings = with_values(preset("flowchef", "published"), step_size=0.05)
        answers.append(
            sample(
                "flowchef",
                guided,
                measurement,
                sigmas=published_sigmas(2),
                settings=settings,
                generators=gens(1),
            ).latents
        )
        assert prior.failing == -1
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])


def test_every_pass_is_told_where_it_is():
    """Also on the way back, and the context ends whatever happens."""

    class Placed(Convolutions):
        at = None

        def within(self, tile):
            @contextlib.contextmanager
            def context():
                self.at = tile
                try:
                    yield
                finally:
                    self.at = None

            return context()

        def decode(self, z):
            assert self.at is not None
            assert tuple(z.shape[-2:]) == (self.at.height, self.at.width)
            assert torch.equal(z.detach(), self.at.of(whole.detach()))
            if self.at == stop:
                raise KeyboardInterrupt
            return super().decode(z)

    whole, stop = normal(4, 1, 2, 20, 11).requires_grad_(), None
    prior = Placed()
    guided = TiledPrior(prior, 8)
    image = guided.decode(whole)
    seen = prior.passes["decoder"]
    torch.autograd.grad(image.sum(), whole)
    assert prior.passes["decoder"] == 2 * seen == 2 * len(guided.tiles(20, 11))
    stop = guided.tiles(20, 11)[2]
    with pytest.raises(KeyboardInterrupt):
        guided.decode(whole)
    assert prior.at is None


def test_guidance_is_that_of_the_model_in_the_tiles():
    class Guided(Pointwise):
        weight = 2.0

        @contextlib.contextmanager
        def guidance(self, weight):
            self.weight, before = weight, self.weight
            yield
            self.weight = before

        def denoise(self, z, sigma):
            return self.weight * z

    prior, z = Guided(), normal(4, 1, 2, 20, 11)
    whole = TiledPrior(prior, 8)
    with whole.guidance(3.0):
        torch.testing.assert_close(whole.denoise(z, 0.5), 3 * z)
    torch.testing.assert_close(whole.denoise(z, 0.5), 2 * z)


@pytest.mark.parametrize(
    "method", [name for name, row in METHODS.items() if "published" in row.presets]
)
def test_samplers_run_on_sizes_that_nothing_divides(method):
    """Without coupling the whole run is the same with tiles and without."""
    recipe = GaussianBlur(3, sigma=1.0)
    clean = normal(6, 2, 3, 26, 58).clamp(-1, 1)
    measurement = simulate(clean, recipe.bind((3, 26, 58), dtype=torch.float64), 0.1, gens(2))
    settings = override(preset(method, "published"), step_scale=0.05 / 15)
    runs = [
        sample(
            method,
            prior,
            measurement,
            sigmas=published_sigmas(4),
            settings=settings,
            generators=gens(2),
        ).latents
        for prior in (Pointwise(), TiledPrior(Pointwise(), 8), TiledPrior(Convolutions(), 8))
    ]
    torch.testing.assert_close(runs[1], runs[0], rtol=1e-8, atol=1e-8)
    assert bool(runs[2].isfinite().all())


@pytest.mark.parametrize(
    ("size", "largest", "tile", "side"),
    [
        ((1024, 1024), 3072, 0, 0),
        ((1536, 1024), 3072, 0, 0),
        ((1536, 1032), 3072, 0, 1024),
        ((4096, 4096), 3072, 0, 1024),
        ((512, 520), 512, 0, 512),
        ((512, 512), 512, 0, 0),
        ((512, 512), 3072, 512, 0),
        ((512, 520), 3072, 512, 512),
        ((4096, 64), math.inf, 0, 0),
    ],
)
def test_when_there_are_tiles(size, largest, tile, side):
    assert side_of(*size, largest, tile) == side
    prior = Convolutions()
    prior.largest = largest
    found = tiled(prior, *size, tile)
    if side:
        assert isinstance(found, TiledPrior)
        assert found.tile == side // 2
    else:
        assert found is prior


@pytest.mark.parametrize(
    ("size", "tile", "words"),
    [
        ((4104, 64), 0, "64x4104 pixels (width x height); expected at most 4096 a side"),
        ((512, 512), 63, "the tile is 63 pixels a side; expected 0"),
        ((512, 512), -8, "the tile is -8 pixels a side"),
        (
            (2048, 2048),
            1032,
            "the tile is 1032 pixels a side; expected 0 (automatic) or from 64 to",
        ),
    ],
)
def test_what_does_not_serve_is_refused(size, tile, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        side_of(*size, 1024, tile)


def test_tiles_are_even_in_cells():
    assert [cells_of(side, 8) for side in (1024, 1000, 64, 72)] == [128, 124, 8, 8]
    with pytest.raises(ValueError, match="the overlap is 8 and the tile 8"):
        TiledPrior(Convolutions(), 8, 8)
    with pytest.raises(ValueError, match="the image is 40x41"):
        TiledPrior(Convolutions(), 8).encode(normal(1, 1, 3, 41, 40))


def test_no_seams():
    """The error of a restoration jumps no more across the borders of tiles than elsewhere; tiles
    that only touch would be seen."""
    prior = load_prior(device="cpu", dtype="float32")
    file = sorted((Path(__file__).parents[2] / "benchmarks/pictures/test").glob("*.png"))[9]
    clean, _ = read_image(file)
    clean = F.interpolate(clean, (168, 168), mode="bicubic", antialias=True).clamp(-1, 1)
    operator = AveragePool(4).bind((3, 168, 168))
    measurement = simulate(clean, operator, 0.1, gens(1))
    settings = preset("flowchef", "tuned")
    ratios = []
    for overlap in (None, 0):
        guided = TiledPrior(prior, 9, overlap)
        z = sample(
            "flowchef",
            guided,
            measurement,
            sigmas=published_sigmas(6),
            settings=settings,
            generators=gens(1),
        ).latents
        with torch.no_grad():
            error = guided.decode(z) - clean
        first = starts(21, 9, guided.overlap)
        edges = {8 * n for s in first for n in (s, s + 9) if 0 < n < 21}
        at = torch.tensor([k in edges for k in range(1, 168)])
        across, down = (error.diff(dim=axis).abs().mean((0, 1, 5 - axis)) for axis in (3, 2))
        ratios.append(
            float((across[at].mean() + down[at].mean()) / (across[~at].mean() + down[~at].mean()))
        )
    print(ratios)
    assert ratios[0] < 1.1
    assert ratios[1] > 1.3


def test_a_variational_autoencoder_draws_one_field(pipeline):
    """What generators add to the mean is the same noise in any tiles, times the deviation."""
    prior = load_prior(pipeline.folder, device="cpu", dtype="float32")
    x = normal(8, 1, 3, 32, 48).float().clamp(-1, 1)
    stride = prior.stride
    noise = torch.randn(16, 32 // stride, 48 // stride, generator=gens(1)[0])
    for tile in (4, 8, 64):
        guided = TiledPrior(prior, tile)
        added = guided.encode(x, gens(1)) - guided.encode(x)
        assert float((added / noise).min()) > 0, "a deviation is positive"


def test_the_answer_is_the_one_whose_gradient_is_taken():
    """A prior may guide with another decoder than it shows: never both in one loss."""

    class TwoDecoders(Convolutions):
        def decode(self, z):
            return super().decode(z if z.requires_grad and torch.is_grad_enabled() else -z)

    z = normal(4, 1, 2, 20, 11)
    one, other = TiledPrior(TwoDecoders(), 8), TiledPrior(Convolutions(), 8)
    assert torch.equal(one.decode(z), other.decode(-z))
    assert torch.equal(one.decode(z.clone().requires_grad_()), other.decode(z))
