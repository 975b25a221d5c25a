"""Gradients through networks in float16: neither infinite nor flushed to zero."""

from __future__ import annotations

import importlib

import pytest
import torch
import torch.nn.functional as F
from comfyui_flowdps.operators import AveragePool, Identity, Measurement
from comfyui_flowdps.priors.base import BasePrior
from comfyui_flowdps.priors.tiling import TiledPrior
from comfyui_flowdps.samplers import (
    preset,
    published_sigmas,
    sample,
    with_values,
)
from comfyui_flowdps.samplers.data_loss import LOSSES, DataLoss
from comfyui_flowdps.samplers.scaling import power_of_two, scaled
from torch import Tensor

HIDDEN = 16
RECIPES = {"pool": AveragePool(2), "identity": Identity()}


class RandomPrior(BasePrior):
    """Small random networks in ``dtype``, between latents and images in float32 or float64."""

    latent_channels, stride = 3, 1
    device = torch.device("cpu")

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self.dtype = dtype
        g = torch.Generator().manual_seed(3)

        def matrix(rows: int, columns: int) -> Tensor:
            made = torch.randn(rows, columns, generator=g) / columns**0.5
            # Of values that float16 has, so that every precision has the same networks.
            return made.half().to(dtype)

        self.layers = {
            name: (matrix(HIDDEN, 3), matrix(3, HIDDEN)) for name in ("model", "decoder", "encoder")
        }

    def _network(self, name: str, x: Tensor) -> Tensor:
        first, second = self.layers[name]
        values = x.to(self.dtype).movedim(1, -1)
        return F.linear(torch.tanh(F.linear(values, first)), second).movedim(-1, 1).to(x)

    def denoise(self, z, sigma):
        return z - sigma * self._network("model", z)

    def decode(self, z):
        return self._network("decoder", z)

    def moments(self, x):
        return self._network("encoder", x), None


def problem(recipe, noise: float, dtype=torch.float32, count: int = 2) -> Measurement:
    operator = recipe.bind((3, 8, 8), dtype=dtype)
    g = torch.Generator().manual_seed(5)
    y = operator.A(torch.randn(count, 3, 8, 8, generator=g).to(dtype))
    return Measurement(y=y, operator=operator, noise_level=noise)


def restored(method: str, dtype: torch.dtype, loss: str, recipe: str, noise: float) -> Tensor:
    """What the data steps changed in the latents of a short run, (N, C, h, w)."""
    outer = torch.float64 if dtype == torch.float64 else torch.float32
    measurement = problem(RECIPES[recipe], noise, outer)
    size = {"norm": 0.1, "residual": 0.1, "hybrid": 0.1, "squared": 0.02 * noise**2}[loss]
    found = []
    for factor in (size, 0.0):
        # The noise of FlowDPS is drawn only where there is a data step.
        more = {"renew": 0.0} if method == "flowdps" else {}
        settings = with_values(preset(method, "published"), step_size=factor, loss=loss, **more)
        generators = [torch.Generator().manual_seed(k) for k in range(2)]
        found.append(
            sample(
                method,
                RandomPrior(dtype),
                measurement,
                sigmas=published_sigmas(4),
                settings=settings,
                generators=generators,
            ).latents.double()
        )
    return found[0] - found[1]


def without_scaling(monkeypatch) -> None:
    for name in ("data_loss", "psld"):
        module = importlib.import_module(f"comfyui_flowdps.samplers.{name}")
        monkeypatch.setattr(module, "scaled", lambda network, at: network(at))


def distance(got: Tensor, want: Tensor) -> float:
    return float((got - want).norm() / want.norm())


STEEP, FLAT = 0.005, 1e4
"""Noise levels at which the gradient of the loss ``squared`` does not fit into float16."""


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(
    ("method", "loss"),
    [
        (method, loss)
        for method in ("flowdps", "flowchef", "psld")
        for loss in LOSSES
        if (method, loss) != ("psld", "hybrid")
    ],
)
def test_a_run_in_float16_equals_one_in_float64(method, loss, recipe):
    """Up to rounding: float16 has an error of 0.0005 per operation on numbers of size one, and the
    data steps change the latents by a few hundredths."""
    got = restored(method, torch.float16, loss, recipe, STEEP)
    want = restored(method, torch.float64, loss, recipe, STEEP)
    assert distance(got, want) < 0.04


@pytest.mark.parametrize("method", ["flowdps", "flowchef", "psld"])
def test_a_steep_loss_would_overflow(method, monkeypatch):
    without_scaling(monkeypatch)
    assert not restored(method, torch.float16, "squared", "identity", STEEP).isfinite().all()


@pytest.mark.parametrize("method", ["flowdps", "flowchef"])
def test_a_flat_loss_is_not_flushed_to_zero(method):
    got = restored(method, torch.float16, "squared", "identity", FLAT)
    want = restored(method, torch.float64, "squared", "identity", FLAT)
    assert distance(got, want) < 0.01


@pytest.mark.parametrize("method", ["flowdps", "flowchef"])
def test_a_flat_loss_would_be_flushed_to_zero(method, monkeypatch):
    without_scaling(monkeypatch)
    got = restored(method, torch.float16, "squared", "identity", FLAT)
    assert distance(got, restored(method, torch.float64, "squared", "identity", FLAT)) > 0.5


def slope(prior: BasePrior, z: Tensor, factors: Tensor, call=scaled) -> Tensor:
    """The gradient of a loss of images, multiplied by one number per sample."""
    z = z.clone().requires_grad_()
    images = call(prior.decode, call(lambda z: prior.denoise(z, 0.5), z))
    loss = (images - 0.3).flatten(1).norm(dim=1) * factors
    return torch.autograd.grad(loss.sum(), z)[0]


def start(count: int = 3, dtype=torch.float32) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(6)).to(dtype)


@pytest.mark.parametrize("power", [-60, -20, 20, 60])
def test_gradients_are_proportional_to_the_loss(power):
    prior, z = RandomPrior(torch.float16), start()
    factors = torch.full((3,), 2.0**power)
    once = slope(prior, z, torch.ones(3))
    assert torch.equal(slope(prior, z, factors), once * 2.0**power)
    plain = slope(prior, z, factors, call=lambda network, at: network(at))
    assert not torch.allclose(plain, once * 2.0**power, rtol=0.1, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_in_full_precision_not_a_bit_changes(dtype):
    prior, z = RandomPrior(dtype), start(dtype=dtype)
    factors = torch.tensor([1e-9, 1.0, 3e7], dtype=dtype)
    plain = slope(prior, z, factors, call=lambda network, at: network(at))
    assert torch.equal(slope(prior, z, factors), plain)


def test_a_sample_does_not_depend_on_the_others():
    prior, z = RandomPrior(torch.float16), start()
    factors = torch.tensor([1e-9, 1.0, 1e9])
    together = slope(prior, z, factors)
    alone = [slope(prior, z[k : k + 1], factors[k : k + 1]) for k in range(3)]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize("loss", LOSSES)
def test_tiles_in_float16(loss):
    def gradient(dtype: torch.dtype, outer: torch.dtype) -> Tensor:
        prior = TiledPrior(RandomPrior(dtype), tile=6, overlap=2)
        measurement = problem(Identity(), STEEP, outer, count=3)
        return DataLoss(prior, measurement, loss).gradient(start(dtype=outer))[1]

    got, want = gradient(torch.float16, torch.float32), gradient(torch.float64, torch.float64)
    assert distance(got.double(), want) < 0.01


def test_gradients_of_zero_stay_zero_and_nan_stays():
    prior, z = RandomPrior(torch.float16), start()
    found = slope(prior, z, torch.tensor([0.0, 1.0, float("nan")]))
    assert not found[0].any()
    assert found[1].isfinite().all()
    assert found[2].isnan().any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_power_of_two(dtype):
    values = torch.tensor([[0.75, -3.0], [1.0, 0.5], [-0.25, 0.1]], dtype=dtype)
    found = power_of_two(values)
    assert found.tolist() == [2.0, 1.0, 0.25]
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
