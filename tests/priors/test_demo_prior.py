"""The shipped file: small, loadable by its layout alone, and better than knowing nothing."""

from __future__ import annotations

import pytest
import torch
from comfyui_flowdps.priors.built_in import DEMO
from comfyui_flowdps.priors.diffusers import load_prior
from comfyui_flowdps.restoration.images import read_image
from comfyui_flowdps.restoration.metrics import psnr
from safetensors import safe_open

from ..conftest import HELD_OUT

COUNT = 16


@pytest.fixture(scope="module")
def prior():
    return load_prior(None, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def pictures():
    return torch.cat([read_image(f)[0] for f in sorted((HELD_OUT / "test").glob("*.png"))[:COUNT]])


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def test_file_is_small_and_in_the_single_file_layout():
    assert DEMO.file.stat().st_size <= 20_000_000
    with safe_open(DEMO.file, "pt") as file:
        keys = set(file.keys())
        large = [k for k in keys if file.get_slice(k).get_shape() not in ([], [1])]
        assert {file.get_slice(k).get_dtype() for k in large} == {"F16"}
    assert "model.diffusion_model.joint_blocks.0.context_block.attn.qkv.weight" in keys
    assert {"first_stage_model.taesd_decoder.1.weight", "first_stage_model.vae_scale"} <= keys


@torch.no_grad()
def test_autoencoder_reproduces_pictures_it_never_saw(prior, pictures):
    again = prior.decode(prior.encode(pictures))
    scores = [psnr(a[None], b[None]) for a, b in zip(again, pictures, strict=True)]
    assert sum(scores) / COUNT >= 33


@torch.no_grad()
@pytest.mark.parametrize("sigma", [0.2, 0.5, 0.8])
def test_flow_denoises_better_than_the_best_gaussian(prior, pictures, sigma):
    clean = prior.encode(pictures)
    assert float(clean.std()) == pytest.approx(1, abs=0.15)
    z = (1 - sigma) * clean + sigma * noise(*clean.shape)
    # The best guess for independent N(0, 1) latents, which is what a network knows untrained.
    gaussian = (1 - sigma) / ((1 - sigma) ** 2 + sigma**2) * z
    error, without = (
        float((guess - clean).square().mean()) for guess in (prior.denoise(z, sigma), gaussian)
    )
    assert error < 0.8 * without


@torch.no_grad()
def test_rectangles_and_batches(prior):
    z = noise(3, prior.latent_channels, 10, 21)
    x = prior.decode(z)
    assert x.shape == (3, 3, 80, 168)
    assert prior.encode(x).shape == z.shape
    together = prior.denoise(z, 0.6)
    alone = torch.cat([prior.denoise(z[k : k + 1], 0.6) for k in range(3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-4)


def test_too_large_an_image_is_refused_by_size(prior):
    with pytest.raises(ValueError, match=str(prior.largest)):
        prior.denoise(noise(1, 16, 8, prior.largest // 8 + 1), 0.5)
