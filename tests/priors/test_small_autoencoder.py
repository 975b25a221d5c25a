"""The small autoencoder of SD3's latents: photographs survive it, half precision too, and its
gradients can be used; mode tiny takes it for SD3's latents and for no others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from comfyui_flowdps.benchmarks import pictures
from comfyui_flowdps.priors import diffusers as priors
from comfyui_flowdps.priors.sd3_file import (
    SD3_SCALE,
    SD3_SHIFT,
    SMALL_AUTOENCODER,
    Autoencoder,
    Checkpoint,
    load_autoencoder,
)
from comfyui_flowdps.restoration.metrics import psnr


@pytest.fixture(scope="module")
def small() -> Any:
    found = load_autoencoder(Checkpoint(SMALL_AUTOENCODER))
    assert found is not None
    return found.module.float().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def photos() -> torch.Tensor:
    """Four of them, the middle 128 x 128 pixels."""
    return pictures("photos/test", 4)[..., 64:192, 64:192].contiguous()


def encoded(model: Any, x: torch.Tensor) -> torch.Tensor:
    return model.encode(x, return_dict=False)[0]


def decoded(model: Any, z: torch.Tensor) -> torch.Tensor:
    return model.decode(z, return_dict=False)[0]


def decibels(a: torch.Tensor, b: torch.Tensor) -> float:
    return sum(psnr(x[None], y[None]) for x, y in zip(a, b, strict=True)) / len(a)


def test_it_is_whole_and_its_file_says_whose_it_is():
    found = load_autoencoder(Checkpoint(SMALL_AUTOENCODER))
    assert found is not None
    assert found.factor == pytest.approx(1)
    assert found.offset == pytest.approx(0, abs=1e-6)
    assert {p.dtype for p in found.module.parameters()} == {torch.float16}
    assert b"Ollin Boer Bohan" in SMALL_AUTOENCODER.read_bytes()[:100_000]
    notice = (SMALL_AUTOENCODER.parent / "LICENSE.md").read_text(encoding="utf-8")
    assert "Copyright (c) 2023 Ollin Boer Bohan" in notice


@torch.no_grad()
def test_a_photograph_survives_it(small, photos):
    """By 5 dB better than the photo shrunk by 4, which has about as many numbers; and by 30 dB."""
    shrunk = F.interpolate(photos, scale_factor=1 / 4, mode="bicubic", antialias=True)
    enlarged = F.interpolate(shrunk, scale_factor=4, mode="bicubic")
    z = encoded(small, photos)
    assert z.numel() <= 1.4 * shrunk.numel()
    again = decibels(decoded(small, z), photos)
    assert again > decibels(enlarged, photos) + 5
    assert again > 30


@torch.no_grad()
def test_its_latents_are_of_unit_size_as_the_flow_expects(small, photos):
    z = encoded(small, photos)
    assert float(z.std()) == pytest.approx(1, abs=0.25)
    assert float(z.abs().max()) < 10


@torch.no_grad()
def test_half_precision_neither_overflows_nor_loses_the_picture(small, photos):
    """Also far outside of what it was trained on."""
    half = load_autoencoder(Checkpoint(SMALL_AUTOENCODER)).module.half()
    x = photos[:1, :, 40:72, 40:72]
    z = encoded(half, x.half())
    assert decibels(decoded(half, z).float(), decoded(small, encoded(small, x))) > 45
    assert bool(encoded(half, 10 * x.half()).isfinite().all())
    assert bool(decoded(half, 30 * torch.randn(z.shape).half()).isfinite().all())


def gradient(model: Any, z: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Of half the squared misfit after averages over 4 x 4 pixels."""
    z = z.detach().requires_grad_()
    misfit = F.avg_pool2d(decoded(model, z), 4) - F.avg_pool2d(target, 4)
    return torch.autograd.grad(misfit.square().sum() / 2, z)[0]


def test_its_gradients_lead_to_the_photo(small, photos):
    """From noisy latents, a step along the gradient lowers the misfit about as much as the gradient
    says, and hardly turns it."""
    x = photos[:1, :, 32:96, 32:96]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        z = encoded(small, x)
        z = z + 0.3 * torch.randn(z.shape, generator=generator)

    def misfit(at: torch.Tensor) -> float:
        with torch.no_grad():
            error = F.avg_pool2d(decoded(small, at), 4) - F.avg_pool2d(x, 4)
        return float(error.square().sum() / 2)

    g = gradient(small, z, x)
    assert bool(g.isfinite().all())
    step = 0.01 * misfit(z) / float(g.square().sum())
    fallen = misfit(z) - misfit(z - step * g)
    assert fallen == pytest.approx(step * float(g.square().sum()), rel=0.1)
    nearby = gradient(small, z + 0.02 * torch.randn(z.shape, generator=generator), x)
    assert float(torch.cosine_similarity(g.flatten(), nearby.flatten(), 0)) > 0.9


def large(levels: int = 4, channels: int = 16, scale: float = SD3_SCALE) -> Autoencoder:
    """The description of a large autoencoder."""
    config = {"latent_channels": channels, "block_out_channels": (32,) * levels}
    return Autoencoder(SimpleNamespace(config=config), 1 / scale, SD3_SHIFT)


def test_mode_tiny_takes_it_for_the_latents_of_sd3_alone(small):
    found = priors.small_autoencoder(large())
    assert found is not None
    wanted = small.state_dict()
    assert all(torch.equal(v.float(), wanted[k]) for k, v in found.state_dict().items())
    assert priors.small_autoencoder(large(levels=2)) is None
    assert priors.small_autoencoder(large(channels=4)) is None
    assert priors.small_autoencoder(large(scale=0.3611)) is None, "Flux"
