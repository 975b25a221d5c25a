"""Memory modes of the decoder's gradient: the same gradient, whatever is kept."""

from __future__ import annotations

import pytest
import torch
from comfyui_flowdps.operators import AveragePool, Measurement
from comfyui_flowdps.priors import tiled
from comfyui_flowdps.priors.diffusers import load_prior
from comfyui_flowdps.priors.memory import Guidance
from comfyui_flowdps.priors.stages import stages_of
from comfyui_flowdps.samplers import METHODS, preset, published_sigmas, sample
from torch import nn


@pytest.fixture(scope="module")
def autoencoder():
    """SD3's decoder, narrow."""
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    model = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 24, 32),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    return model.eval().requires_grad_(False).double()


def latents(*shape: int, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


def gradient(decode, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    z = z.detach().requires_grad_()
    x = decode(z)
    cotangent = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=x.dtype)
    return x.detach(), torch.autograd.grad(x, z, cotangent)[0]


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("strip_bytes", [1, 40_000, 1 << 30], ids=["4 rows", "some", "whole"])
@pytest.mark.parametrize("size", [(5, 7), (1, 3), (9, 4)], ids=str)
def test_strips_give_the_decoder_and_its_gradient(autoencoder, size, strip_bytes):
    stages = stages_of(autoencoder.decoder)
    z = latents(2, 4, *size)
    x, g = gradient(autoencoder.decoder, z)
    tiled_x, tiled_g = gradient(lambda z: tiled.decode(stages, z, strip_bytes), z)
    assert distance(tiled_x, x) < 2e-6
    assert distance(tiled_g, g) < 2e-6


def test_statistics_of_the_whole_image_matter(autoencoder):
    """What tiling without them would give is far off: the test above can fail."""
    z = latents(1, 4, 8, 6)
    whole = autoencoder.decoder(z)
    halves = torch.cat([autoencoder.decoder(half) for half in z.chunk(2, 2)], 2)
    assert distance(halves, whole) > 1e-2


def test_checkpointed_gradients_are_bit_equal(autoencoder):
    z = latents(1, 4, 6, 5)
    guidance = Guidance(autoencoder, "checkpointed")
    with guidance():
        got = gradient(autoencoder.decoder, z)
    want = gradient(autoencoder.decoder, z)
    assert torch.equal(got[0], want[0])
    assert torch.equal(got[1], want[1])


@pytest.mark.parametrize("mode", ["full", "checkpointed", "tiled"])
def test_a_pass_without_gradient_is_the_decoders_own_and_the_decoder_is_left_as_found(
    autoencoder, mode
):
    z = latents(1, 4, 4, 4)
    before = dict(autoencoder.decoder.__dict__)
    guidance = Guidance(autoencoder, mode)
    with guidance(), torch.no_grad():
        assert torch.equal(
            autoencoder.decoder(z), guidance.target.__class__.forward(guidance.target, z)
        )
    assert autoencoder.decoder.__dict__ == before
    with pytest.raises(RuntimeError, match="stop"), guidance():
        raise RuntimeError("stop")
    assert autoencoder.decoder.__dict__ == before


def test_saved_tensors_shrink_from_mode_to_mode(autoencoder):
    """Bytes that autograd keeps between decoding and its gradient."""
    kept = {}
    weights = {p.untyped_storage().data_ptr() for p in autoencoder.parameters()}
    z = latents(1, 4, 16, 16).requires_grad_()
    for mode in ("full", "checkpointed", "tiled"):
        seen: dict[int, int] = {}

        def pack(t, seen=seen):
            if t.untyped_storage().data_ptr() not in weights:
                seen[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        guidance = Guidance(autoencoder, mode)
        with guidance(), torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            autoencoder.decoder(z)
        kept[mode] = sum(seen.values())
    assert kept["tiled"] <= kept["checkpointed"] < 0.3 * kept["full"]


def test_a_taesd_is_checkpointed_by_layers():
    prior = load_prior(memory="checkpointed")
    plain = load_prior(memory="full")
    z = latents(1, 16, 3, 5, dtype=torch.float32)
    for got, want in zip(gradient(prior.decode, z), gradient(plain.decode, z), strict=True):
        assert torch.equal(got, want)
    assert prior.guidance.modes == ("full", "checkpointed")


def test_other_decoders_have_one_mode():
    class Other(nn.Module):
        def __init__(self):
            super().__init__()
            self.decoder = nn.ConvTranspose2d(4, 3, 8, 8)

    guidance = Guidance(Other(), "tiled")
    assert (guidance.modes, guidance.mode) == (("full",), "full")
    assert not guidance.less()


def test_the_fastest_mode_that_fits_is_chosen(autoencoder):
    guidance = Guidance(autoencoder)
    needs = {mode: guidance.needs(mode, 512 * 512, 2) for mode in guidance.modes}
    assert needs["full"] > needs["checkpointed"] > needs["tiled"] > 0
    for mode, bytes_ in needs.items():
        assert guidance.choose(512 * 512, 2, bytes_) == mode
    assert guidance.choose(512 * 512, 2, 1.0) == "tiled"


class Running:
    """The demo prior; its decoder runs out of memory in ``full`` mode at the third gradient."""

    def __init__(self, prior):
        self._prior, self.count = prior, 0

    def __getattr__(self, name):
        return getattr(self._prior, name)

    def decode(self, z):
        self.count += 1
        if self.count >= 3 and self._prior.guidance.mode == "full":
            raise torch.cuda.OutOfMemoryError("out of memory")
        return self._prior.decode(z)


@pytest.mark.parametrize("method", METHODS)
def test_a_run_goes_on_when_memory_runs_out(method, caplog):
    operator = AveragePool(4).bind((3, 32, 32))
    y = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(3))

    def run(prior):
        return sample(
            method,
            prior,
            Measurement(y, operator, 0.03),
            sigmas=published_sigmas(4),
            settings=preset(method),
            generators=[torch.Generator().manual_seed(0)],
        )

    want = run(load_prior())
    assert torch.equal(run(Running(load_prior())), want)
    assert caplog.text.count("out of memory: going on with") == 1
    stuck = load_prior(memory="checkpointed")

    def fail(z):
        raise torch.cuda.OutOfMemoryError("out of memory")

    stuck.decode = fail
    with pytest.raises(torch.cuda.OutOfMemoryError):
        run(stuck)


def test_unknown_modes_are_named():
    with pytest.raises(ValueError, match="memory is 'small'; expected auto or one of full"):
        load_prior(memory="small")
