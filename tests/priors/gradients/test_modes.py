"""Memory modes of the decoder's gradient: the same gradient, whatever is kept."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from comfyui_flowdps.benchmarks import memory
from comfyui_flowdps.operators import AveragePool, Measurement
from comfyui_flowdps.priors.diffusers import load_prior
from comfyui_flowdps.priors.gradients import checkpointing, normalised_strips, strips
from comfyui_flowdps.priors.gradients.modes import DecoderGradient
from comfyui_flowdps.priors.gradients.stages import encoder_stages_of, stages_of
from comfyui_flowdps.samplers import METHODS, preset, published_sigmas, sample
from comfyui_flowdps.samplers.memory import saving_memory
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
    tiled_x, tiled_g = gradient(lambda z: normalised_strips.decode(stages, z, strip_bytes), z)
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
    decoder_gradient = DecoderGradient(autoencoder, "checkpointed")
    with decoder_gradient():
        got = gradient(autoencoder.decoder, z)
    want = gradient(autoencoder.decoder, z)
    assert torch.equal(got[0], want[0])
    assert torch.equal(got[1], want[1])


@pytest.mark.parametrize("mode", ["full", "checkpointed", "strips"])
@pytest.mark.parametrize("side", ["decoder", "encoder"])
def test_a_pass_without_gradient_is_the_networks_own_and_the_network_is_left_as_found(
    autoencoder, mode, side
):
    """Bit for bit in the modes that do not work in strips, up to rounding in strips."""
    network = getattr(autoencoder, side)
    x = latents(1, *((4, 4, 4) if side == "decoder" else (3, 16, 12)))
    want = network(x)
    before = dict(network.__dict__)
    decoder_gradient = DecoderGradient(autoencoder, mode)
    with decoder_gradient(), torch.no_grad():
        got = network(x)
        assert torch.equal(got, want) == (mode != "strips")
        assert distance(got, want) < 2e-6
    assert network.__dict__ == before
    with pytest.raises(RuntimeError, match="stop"), decoder_gradient():
        raise RuntimeError("stop")
    assert network.__dict__ == before


@pytest.mark.parametrize("strip_bytes", [1, 40_000, 1 << 30], ids=["4 rows", "some", "whole"])
@pytest.mark.parametrize("shape", [(20, 28), (4, 12), (36, 16)], ids=str)
def test_an_encoder_in_strips_is_the_encoder(autoencoder, shape, strip_bytes):
    stages = encoder_stages_of(autoencoder.encoder)
    x = latents(2, 3, *shape)
    kept = x.clone()
    assert distance(normalised_strips.run(stages, x, strip_bytes), autoencoder.encoder(x)) < 2e-6
    assert torch.equal(x, kept)


def test_saved_tensors_shrink_from_mode_to_mode(autoencoder):
    """Bytes that autograd keeps between decoding and its gradient."""
    kept = {}
    weights = {p.untyped_storage().data_ptr() for p in autoencoder.parameters()}
    z = latents(1, 4, 16, 16).requires_grad_()
    for mode in ("full", "checkpointed", "strips"):
        seen: dict[int, int] = {}

        def pack(t, seen=seen):
            if t.untyped_storage().data_ptr() not in weights:
                seen[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        decoder_gradient = DecoderGradient(autoencoder, mode)
        with decoder_gradient(), torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            autoencoder.decoder(z)
        kept[mode] = sum(seen.values())
    assert kept["strips"] <= kept["checkpointed"] < 0.3 * kept["full"]


def test_a_taesd_is_checkpointed_by_layers():
    prior = load_prior(memory="checkpointed")
    plain = load_prior(memory="full")
    z = latents(1, 16, 3, 5, dtype=torch.float32)
    for got, want in zip(gradient(prior.decode, z), gradient(plain.decode, z), strict=True):
        assert torch.equal(got, want)
    assert prior.decoder_gradient.modes == ("full", "checkpointed", "strips")


@pytest.fixture(scope="module")
def taesd():
    """TAESD's layout, narrow."""
    from diffusers import AutoencoderTiny

    torch.manual_seed(0)
    widths = (8,) * 4
    model = AutoencoderTiny(
        latent_channels=4,
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(2, 2, 1, 1),
    )
    return model.eval().requires_grad_(False).double()


@pytest.mark.parametrize("strip_bytes", [1, 6000, 1 << 30], ids=["thin", "some", "whole"])
@pytest.mark.parametrize("size", [(40, 3), (1, 5), (13, 4)], ids=str)
def test_strips_give_a_taesd_and_its_gradient(taesd, size, strip_bytes):
    segments = strips.segments_of(taesd.decoder.layers)
    assert [segment.scale for segment in segments] == [1, 2, 2, 2]
    z = latents(2, 4, *size)
    x, g = gradient(taesd.decoder.layers, z)
    strip_x, strip_g = gradient(lambda z: strips.decode(segments, z, strip_bytes), z)
    assert distance(strip_x, x) < 1e-12
    assert distance(strip_g, g) < 1e-12


def test_thin_strips_without_their_margin_are_wrong(taesd):
    """The test above can fail."""
    segments = [
        dataclasses.replace(each, margin=0) for each in strips.segments_of(taesd.decoder.layers)
    ]
    z = latents(1, 4, 12, 4)
    x, _ = gradient(taesd.decoder.layers, z)
    strip_x, _ = gradient(lambda z: strips.decode(segments, z, 1), z)
    assert distance(strip_x, x) > 1e-3


def test_a_tiny_decoder_guides_and_the_true_one_decodes(autoencoder, taesd):
    decoder_gradient = DecoderGradient(autoencoder, "tiny", tiny=taesd)
    assert decoder_gradient.modes == ("full", "checkpointed", "strips", "tiny")
    z = latents(1, 4, 3, 2)
    assert not decoder_gradient.small(z)
    z.requires_grad_()
    assert decoder_gradient.small(z)
    with torch.no_grad():
        assert not decoder_gradient.small(z)
    decoder_gradient.take("strips")
    assert not decoder_gradient.small(z)


class InPlace(nn.Module):
    """A block that changes what it is given."""

    def __init__(self, k: int):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5 + k), requires_grad=False)

    def forward(self, x, scale=None):
        x *= self.weight if scale is None else scale
        return torch.tanh(x) * x


class Stack(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(InPlace(k) for k in range(3))

    def forward(self, x):
        x = x * 1.0
        for block in self.blocks:
            x = block(x, scale=torch.tensor(0.9))
            x += 0.1
        return x


def test_checkpointed_blocks_may_work_in_place():
    network = Stack()
    assert checkpointing.transformer_blocks(network) == list(network.blocks)
    z = latents(2, 3, 4, 5)
    want = gradient(network, z)
    with checkpointing.checkpointed(network.blocks, lambda: True):
        got = gradient(network, z)
    assert torch.equal(got[0], want[0])
    assert torch.equal(got[1], want[1])
    assert all("forward" not in block.__dict__ for block in network.blocks)


def test_psld_keeps_block_inputs_only_and_moves_alike():
    """Bytes that autograd keeps of a pass through transformer, decoder and encoder."""
    kept, gradients = {}, {}
    z = latents(1, 16, 8, 8, dtype=torch.float32).requires_grad_()
    for mode in ("full", "checkpointed", "strips"):
        prior = load_prior(memory=mode)
        weights = {
            p.untyped_storage().data_ptr()
            for module in (prior.transformer, prior.autoencoder)
            for p in (*module.parameters(), *module.buffers())
        }
        seen: dict[int, int] = {}

        def pack(t, seen=seen, weights=weights):
            if t.untyped_storage().data_ptr() not in weights:
                seen[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            again = prior.encode(prior.decode(prior.denoise(z, 0.5)))
        kept[mode] = sum(seen.values())
        (gradients[mode],) = torch.autograd.grad(again.square().sum(), z)
    assert kept["strips"] <= kept["checkpointed"] < 0.5 * kept["full"]
    assert torch.equal(gradients["checkpointed"], gradients["full"])
    assert distance(gradients["strips"], gradients["full"]) < 1e-5


GOALS = {(768, "strips"): 0.9e9, (1024, "strips"): 1.5e9, (2048, "strips"): 4e9}


@pytest.mark.parametrize(("size", "mode"), GOALS, ids=str)
def test_bytes_of_sd3s_decoder_and_its_gradient(size, mode):
    """Exact bytes in float16, counted on meta tensors as ``benchmarks/memory.py`` prints them."""
    counted = memory.count(memory.decoding, size, mode, torch.float16)
    assert 0.3e9 < counted < GOALS[size, mode]


def test_modes_shrink_what_sd3_needs():
    peaks = [memory.count(memory.decoding, 256, mode, torch.float16) for mode in memory.MODES[1:]]
    assert peaks == sorted(peaks, reverse=True)
    assert peaks[1] < 0.5 * peaks[0]
    for work in (memory.encoding, memory.denoising):
        full, kept = (
            memory.count(work, 256, mode, torch.float16) for mode in ("full", "checkpointed")
        )
        assert kept < 0.6 * full


def test_other_decoders_have_one_mode():
    class Other(nn.Module):
        def __init__(self):
            super().__init__()
            self.decoder = nn.ConvTranspose2d(4, 3, 8, 8)

    decoder_gradient = DecoderGradient(Other(), "strips")
    assert (decoder_gradient.modes, decoder_gradient.mode) == (("full",), "full")
    assert not decoder_gradient.less()


def test_the_fastest_mode_that_fits_is_chosen(autoencoder):
    decoder_gradient = DecoderGradient(autoencoder)
    needs = {mode: decoder_gradient.needs(mode, 512 * 512, 2) for mode in decoder_gradient.modes}
    assert needs["full"] > needs["checkpointed"] > needs["strips"] > 0
    for mode, bytes_ in needs.items():
        assert decoder_gradient.choose(512 * 512, 2, bytes_) == mode
    assert decoder_gradient.choose(512 * 512, 2, 1.0) == "strips"


class Running:
    """The demo prior; its decoder runs out of memory in ``full`` mode at the third gradient."""

    def __init__(self, prior, error):
        self._prior, self.count, self.error = prior, 0, error

    def __getattr__(self, name):
        return getattr(self._prior, name)

    def decode(self, z):
        self.count += 1
        if self.count >= 3 and self._prior.decoder_gradient.mode == "full":
            raise self.error
        return self._prior.decode(z)


ERRORS = [
    torch.cuda.OutOfMemoryError("CUDA out of memory."),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
    RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
]


@pytest.mark.parametrize(
    ("method", "error"),
    [(m, ERRORS[0]) for m, row in METHODS.items() if row.gradients]
    + [("flowchef", e) for e in ERRORS[1:]],
)
def test_a_run_goes_on_when_memory_runs_out(method, error, caplog):
    operator = AveragePool(4).bind((3, 32, 32))
    y = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    settings = next(each for each in METHODS[method].presets.values() if each.gradients)

    def run(prior):
        return sample(
            method,
            prior,
            Measurement(y, operator, 0.03),
            sigmas=published_sigmas(4),
            settings=settings,
            generators=[torch.Generator().manual_seed(0)],
        ).latents

    want = run(load_prior())
    assert torch.equal(run(Running(load_prior(), error)), want)
    assert caplog.text.count("out of memory: going on with") == 1
    stuck = load_prior(memory="strips")

    def fail(z):
        raise error

    stuck.decode = fail
    with pytest.raises(type(error), match="memory"):
        run(stuck)


@pytest.mark.parametrize("side", ["decoder", "encoder"])
def test_refine_goes_on_in_strips_when_memory_runs_out(pipeline, side, caplog):
    """Without gradients, a network that fails as a whole works in strips."""
    operator = AveragePool(4).bind((3, 16, 16))
    y = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(3))

    def run(prior):
        return sample(
            "refine",
            prior,
            Measurement(y, operator, 0.03),
            sigmas=METHODS["refine"].levels(preset("refine"), 2),
            settings=preset("refine"),
            generators=[torch.Generator().manual_seed(0)],
        ).images

    want = run(load_prior(pipeline.folder, device="cpu"))
    prior = load_prior(pipeline.folder, device="cpu")

    def fail(*args, **kwargs):
        raise ERRORS[0]

    getattr(prior.autoencoder, side).forward = fail
    assert distance(run(prior), want) < 1e-4
    assert prior.memory_mode == "strips"
    assert "out of memory: going on with" in caplog.text


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    prior = load_prior()
    with pytest.raises(RuntimeError, match="something else"):
        saving_memory(prior, lambda: (_ for _ in ()).throw(RuntimeError("something else")))
    assert prior.decoder_gradient.mode == "full"


def test_both_prompts_one_after_another_where_memory_runs_out(pipeline, caplog):
    words = {"prompt": "a cat", "negative": "blurry", "cfg": 2.0}
    prior = load_prior(pipeline.folder, device="cpu", **words)
    z = latents(2, 16, 4, 4, dtype=torch.float32)
    want = prior.denoise(z, 0.5)
    forward, sizes = prior.transformer.forward, []

    def limited(hidden_states, **kwargs):
        sizes.append(len(hidden_states))
        if len(hidden_states) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return forward(hidden_states=hidden_states, **kwargs)

    prior.transformer.forward = limited
    for _ in range(2):
        torch.testing.assert_close(prior.denoise(z, 0.5), want, rtol=1e-5, atol=1e-5)
    assert sizes == [4, 2, 2, 2, 2]
    assert caplog.text.count("one after another") == 1


@pytest.fixture(scope="module")
def small_folder(tmp_path_factory):
    """A small autoencoder for the latents of ``pipeline``, in a folder."""
    from diffusers import AutoencoderTiny

    torch.manual_seed(5)
    widths = {f"{side}_block_out_channels": (8, 8) for side in ("encoder", "decoder")}
    blocks = {f"num_{side}_blocks": (1, 1) for side in ("encoder", "decoder")}
    folder = tmp_path_factory.mktemp("tiny")
    AutoencoderTiny(latent_channels=16, **widths, **blocks).save_pretrained(folder)
    return folder


def test_tiny_guides_with_the_small_and_ends_with_the_full_autoencoder(pipeline, small_folder):
    prior = load_prior(pipeline.folder, device="cpu", memory="tiny", tiny=small_folder)
    full = load_prior(pipeline.folder, device="cpu", memory="full")
    z = latents(2, 16, 4, 4, dtype=torch.float32)
    assert distance(prior.decode(z), full.decode(z)) < 2e-6
    from diffusers import AutoencoderTiny

    alone = AutoencoderTiny.from_pretrained(small_folder)
    want = gradient(lambda z: alone.decode(z, return_dict=False)[0], z)
    got = gradient(prior.decode, z)
    assert distance(got[0], want[0]) < 1e-5
    assert distance(got[1], want[1]) < 1e-5


def test_tiny_comes_last_when_memory_runs_out(pipeline, small_folder):
    prior = load_prior(pipeline.folder, device="cpu", memory="full", tiny=small_folder)
    assert [prior.save_memory() for _ in range(4)] == [True, True, True, False]
    assert prior.decoder_gradient.mode == "tiny"


def test_a_tiny_autoencoder_that_does_not_fit_is_refused(pipeline, tmp_path):
    from diffusers import AutoencoderTiny

    with pytest.raises(ValueError, match="no tiny autoencoder: name one"):
        load_prior(memory="tiny")
    with pytest.raises(ValueError, match="cannot load the tiny autoencoder"):
        load_prior(pipeline.folder, memory="tiny", tiny=tmp_path / "nothing")
    AutoencoderTiny(latent_channels=4).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="4 latent channels and the transformer 16"):
        load_prior(pipeline.folder, memory="tiny", tiny=tmp_path)


def test_unknown_modes_are_named():
    with pytest.raises(ValueError, match="memory is 'small'; expected auto or one of full"):
        load_prior(memory="small")
