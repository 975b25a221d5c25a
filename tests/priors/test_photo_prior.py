"""The photo prior that comes along: small, whole, and of use on photographs it never saw."""

from __future__ import annotations

import pytest
import torch
from comfyui_flowdps.benchmarks import pictures
from comfyui_flowdps.cli.arguments import parse
from comfyui_flowdps.cli.request import SIDE, prior_of, request_of
from comfyui_flowdps.priors.built_in import BUILT_IN, PHOTO, built_in
from comfyui_flowdps.priors.error_spectrum import ErrorSpectrum
from safetensors import safe_open

PREFIXES = ("model.diffusion_model.", "first_stage_model.")


def arguments(*more: str):
    return parse(["restore", "photo.png", "--device", "cpu", *more])


def test_the_file_is_small_finite_and_in_half_precision():
    assert PHOTO.file.stat().st_size <= 32_000_000
    with safe_open(PHOTO.file, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    assert all(key.startswith(PREFIXES) for key in tensors)
    assert all(bool(value.isfinite().all()) for value in tensors.values())
    assert {v.dtype for v in tensors.values() if v.numel() > 1} == {torch.float16}


def test_every_prior_that_comes_along_is_there_with_its_spectrum():
    assert built_in(None) is next(iter(BUILT_IN.values()))
    for name, row in BUILT_IN.items():
        assert row.name == name
        assert built_in(name) is row
        assert built_in(row.file) is row
        assert built_in(str(row.file)) is row
        assert ErrorSpectrum.beside(row.file) is not None
    assert built_in("someone/model") is None


@torch.no_grad()
def test_the_command_line_loads_it_by_name_as_a_small_model():
    args = arguments("--prior", "photo")
    request, _ = request_of(args)
    assert request.side == SIDE["small"]
    prior = prior_of(args)
    assert prior.usual == PHOTO.usual
    assert prior.error_spectrum == ErrorSpectrum.beside(PHOTO.file)
    assert prior.error_spectrum is not None
    assert prior.error_spectrum.refine is not None
    assert request_of(arguments("--prior", "someone/model"))[0].side == SIDE["large"]


@torch.no_grad()
@pytest.mark.parametrize("sigma", [0.2, 0.5])
def test_it_denoises_photographs_better_than_the_best_gaussian_of_their_own(sigma):
    """Which knows the mean and the covariance of the channels of these very latents."""
    prior = prior_of(arguments("--prior", "photo"))
    x = pictures("photos/test", 4)[..., 64:192, 64:192].contiguous()
    clean = prior.encode(x)
    generator = torch.Generator().manual_seed(3)
    z = (1 - sigma) * clean + sigma * torch.randn(clean.shape, generator=generator)

    cells = clean.movedim(1, -1).flatten(0, -2)
    mean, covariance = cells.mean(0), cells.T.cov()
    seen = z.movedim(1, -1) - (1 - sigma) * mean
    noisy = (1 - sigma) ** 2 * covariance + sigma**2 * torch.eye(len(mean))
    gain = (1 - sigma) * torch.linalg.solve(noisy, covariance)
    gaussian = (mean + seen @ gain).movedim(-1, 1)
    flow, linear = (
        float((guess - clean).square().mean()) for guess in (prior.denoise(z, sigma), gaussian)
    )
    assert flow < 0.8 * linear
