import gc
import shutil
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch
from comfyui_flowdps.priors.diffusers import load_prior
from safetensors.torch import load_file, save_file

PROMPT, NEGATIVE = "a photo of a cat", "blurry"


def _generators(count, seed=0):
    return [torch.Generator().manual_seed(seed + k) for k in range(count)]


def _randn(*shape, seed=11, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.fixture(scope="module")
def prior(demo):
    return load_prior(demo.path, device="cpu")


@pytest.fixture(scope="module")
def full(pipeline):
    return load_prior(pipeline.folder, device="cpu", prompt=PROMPT, negative=NEGATIVE, cfg=2.5)


def test_the_demo_layout_gives_the_trained_function(prior, demo):
    z, x = _randn(2, 16, 4, 6), _randn(2, 3, 32, 48).clamp(-1, 1)
    velocity = demo.transformer(
        hidden_states=z,
        encoder_hidden_states=torch.zeros(2, 1, 24),
        pooled_projections=torch.zeros(2, 12),
        timestep=torch.full((2,), 700.0),
        return_dict=False,
    )[0]
    close = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(prior.denoise(z, 0.7), z - 0.7 * velocity, **close)
    torch.testing.assert_close(prior.decode(z), demo.autoencoder.decode(z * demo.scale), **close)
    torch.testing.assert_close(prior.encode(x), demo.autoencoder.encode(x) / demo.scale, **close)
    assert (prior.stride, prior.latent_channels, prior.largest) == (8, 16, 64)
    assert (prior.device.type, prior.dtype) == ("cpu", torch.float32)


def test_passes_count_batched_calls(demo):
    prior = load_prior(demo.path, device="cpu")
    prior.encode(prior.decode(prior.denoise(_randn(3, 16, 2, 2), 0.5)))
    assert prior.passes == {"transformer": 1, "decoder": 1, "encoder": 1}


def test_guidance_is_one_batched_call(full):
    z, sigma = _randn(2, 16, 4, 4), 0.4
    rows = [
        full.transformer(
            hidden_states=z,
            encoder_hidden_states=full.context[k : k + 1].expand(2, -1, -1),
            pooled_projections=full.pooled[k : k + 1].expand(2, -1),
            timestep=torch.full((2,), 1000 * sigma),
            return_dict=False,
        )[0]
        for k in range(2)
    ]
    assert (rows[1] - rows[0]).abs().max() > 1e-4
    before = full.passes["transformer"]
    expected = z - sigma * (rows[0] + 2.5 * (rows[1] - rows[0]))
    torch.testing.assert_close(full.denoise(z, sigma), expected, rtol=1e-4, atol=1e-5)
    assert full.passes["transformer"] == before + 1


def test_guidance_takes_another_weight_for_a_while(full, prior):
    """At weight 1 the negative prompt costs nothing."""
    z, sigma, sizes = _randn(2, 16, 4, 4), 0.4, []
    hook = full.transformer.register_forward_pre_hook(
        lambda _, __, inputs: sizes.append(len(inputs["hidden_states"])), with_kwargs=True
    )
    own = full.denoise(z, sigma)
    found = {}
    for weight in (0.0, 1.0, 4.0, None):
        with full.guidance(weight):
            found[weight] = full.denoise(z, sigma)
    with pytest.raises(KeyboardInterrupt), full.guidance(7.0):
        raise KeyboardInterrupt
    assert torch.equal(full.denoise(z, sigma), own)
    hook.remove()
    assert sizes == [4, 4, 2, 4, 4, 4]
    assert torch.equal(found[None], own)
    for weight in (2.5, 4.0):
        wanted = found[0.0] + weight * (found[1.0] - found[0.0])
        torch.testing.assert_close(found[weight] if weight == 4 else own, wanted)
    with prior.guidance(4.0):
        assert torch.equal(prior.denoise(z, sigma), prior.denoise(z, sigma))
        assert prior.cfg == 1


@pytest.mark.parametrize(("cfg", "negative"), [(1.0, NEGATIVE), (2.5, PROMPT)])
def test_no_null_pass_where_it_changes_nothing(pipeline, full, cfg, negative):
    single = load_prior(pipeline.folder, device="cpu", prompt=PROMPT, negative=negative, cfg=cfg)
    assert len(single.context) == 1
    torch.testing.assert_close(single.context, full.context[1:])
    sizes = []
    hook = single.transformer.register_forward_pre_hook(
        lambda _, __, inputs: sizes.append(len(inputs["hidden_states"])), with_kwargs=True
    )
    single.denoise(_randn(3, 16, 4, 4), 0.5)
    hook.remove()
    assert sizes == [3]


def test_prompts_are_encoded_as_diffusers_does(pipeline, full):
    with torch.no_grad():
        context, null, pooled, null_pooled = pipeline.pipe.encode_prompt(
            PROMPT, None, None, negative_prompt=NEGATIVE, device="cpu"
        )
    torch.testing.assert_close(full.context, torch.cat([null, context]))
    torch.testing.assert_close(full.pooled, torch.cat([null_pooled, pooled]))


def test_t5_keeps_in_float32_what_overflows(pipeline, full, monkeypatch):
    import transformers

    kinds = {}
    forward = transformers.T5EncoderModel.forward

    def spy(self, *args, **kwargs):
        kinds.update({name.split(".")[-2]: p.dtype for name, p in self.named_parameters()})
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(transformers.T5EncoderModel, "forward", spy)
    half = load_prior(pipeline.folder, device="cpu", dtype="float16", prompt=PROMPT)
    assert (kinds["wi"], kinds["wo"]) == (torch.float16, torch.float32)
    torch.testing.assert_close(half.context[-1].float(), full.context[-1], rtol=0.05, atol=0.02)


def _without(pipeline, tmp_path, part):
    """A copy of the folder whose model_index.json leaves out ``part``."""
    import json

    folder = tmp_path / "sd3"
    shutil.copytree(pipeline.folder, folder)
    shutil.rmtree(folder / part)
    index = json.loads((folder / "model_index.json").read_text())
    index[part] = [None, None]
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def test_a_folder_without_t5_gets_zeros_in_its_place(pipeline, full, tmp_path):
    folder = _without(pipeline, tmp_path, "text_encoder_3")
    found = load_prior(folder, device="cpu", prompt=PROMPT, negative=NEGATIVE, cfg=2.5)
    assert found.context.shape == full.context.shape
    torch.testing.assert_close(found.context[:, :12], full.context[:, :12])
    assert not found.context[:, 12:].any()


def test_text_encoders_are_gone_before_the_transformer_comes(pipeline, monkeypatch):
    import diffusers
    import transformers

    encoders, alive = [], []

    def watch(kind, before, after):
        load = kind.from_pretrained

        def wrapped(*args, **kwargs):
            before()
            model = load(*args, **kwargs)
            after(model)
            return model

        monkeypatch.setattr(kind, "from_pretrained", wrapped)

    def count():
        gc.collect()
        alive.append(sum(ref() is not None for ref in encoders))

    for kind in (transformers.CLIPTextModelWithProjection, transformers.T5EncoderModel):
        watch(kind, count, lambda model: encoders.append(weakref.ref(model)))
    watch(diffusers.SD3Transformer2DModel, count, lambda model: None)
    load_prior(pipeline.folder, device="cpu", prompt=PROMPT)
    assert len(encoders) == 3
    assert alive == [0, 0, 0, 0]


def test_full_autoencoder_scales_and_draws_from_its_posterior(pipeline, full):
    vae = pipeline.pipe.vae
    z, x = _randn(2, 16, 4, 4), _randn(2, 3, 8, 8).clamp(-1, 1)
    with torch.no_grad():
        decoded = vae.decode(z / 1.5305 + 0.0609).sample
        posterior = vae.encode(x).latent_dist
    torch.testing.assert_close(full.decode(z), decoded, rtol=1e-4, atol=1e-4)
    mean = (posterior.mean - 0.0609) * 1.5305
    torch.testing.assert_close(full.encode(x), mean, rtol=1e-4, atol=1e-4)
    noise = torch.stack([torch.randn(16, 4, 4, generator=g) for g in _generators(2)])
    drawn = mean + posterior.std * noise * 1.5305
    batch = full.encode(x, _generators(2))
    torch.testing.assert_close(batch, drawn, rtol=1e-4, atol=1e-4)
    alone = full.encode(x[1:], _generators(1, seed=1))
    torch.testing.assert_close(batch[1:], alone, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="1 generators for 2 samples"):
        full.encode(x, _generators(1))


@pytest.mark.parametrize("name", ["prior", "full"])
def test_gradients_flow_to_the_inputs_only(name, request):
    model = request.getfixturevalue(name)
    z = _randn(2, 16, 4, 4).requires_grad_()
    x = _randn(2, 3, 4 * model.stride, 4 * model.stride).requires_grad_()
    for output, source in (
        (model.denoise(z, 0.6), z),
        (model.decode(z), z),
        (model.encode(x, _generators(2)), x),
    ):
        (gradient,) = torch.autograd.grad(output.square().sum(), source)
        assert gradient.isfinite().all()
        assert gradient.flatten(1).abs().sum(1).gt(0).all()
    for module in (model.transformer, model.autoencoder):
        assert not any(p.requires_grad for p in module.parameters())
    assert not model.denoise(z.detach(), 0.6).requires_grad
    with torch.inference_mode():
        model.denoise(torch.ones(1, 16, 2, 2), 0.5)


def test_float64_gradients_agree_with_finite_differences(demo):
    model = load_prior(demo.path, device="cpu", dtype="float64")
    z = _randn(1, 16, 2, 4, dtype=torch.float64).requires_grad_()
    x = _randn(1, 3, 16, 16, dtype=torch.float64).requires_grad_()

    # RMS norms inside diffusers compute in float32, which bounds what can be asked of `denoise`.
    for function, at, step, tolerance in (
        (lambda v: model.denoise(v, 0.3), z, 1e-3, 1e-4),
        (model.decode, z, 1e-6, 1e-5),
        (model.encode, x, 1e-6, 1e-5),
    ):
        output = function(at)
        assert output.dtype == torch.float64
        weights = _randn(*output.shape, seed=12, dtype=torch.float64)
        (gradient,) = torch.autograd.grad((output * weights).sum(), at)
        direction = gradient / gradient.norm()
        with torch.no_grad():
            ends = [(function(at + s * step * direction) * weights).sum() for s in (1, -1)]
        slope = (ends[0] - ends[1]) / (2 * step)
        torch.testing.assert_close(slope, gradient.norm(), rtol=tolerance, atol=0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", torch.bfloat16])
def test_half_precision_stays_inside(demo, prior, dtype):
    half = load_prior(demo.path, device="cpu", dtype=dtype)
    z = _randn(1, 16, 2, 2)
    result = half.denoise(z, 0.5)
    assert result.dtype == half.decode(z).dtype == torch.float32
    torch.testing.assert_close(result, prior.denoise(z, 0.5), rtol=0.1, atol=0.1)


def test_a_batch_equals_single_runs(prior):
    z = _randn(3, 16, 3, 5)
    batch = prior.decode(prior.denoise(z, 0.8))
    singles = [prior.decode(prior.denoise(one[None], 0.8)) for one in z]
    torch.testing.assert_close(batch, torch.cat(singles), rtol=1e-4, atol=1e-5)


def test_sizes_up_to_the_positions_of_the_model(prior, full):
    assert prior.denoise(_randn(1, 16, 8, 1), 0.5).shape == (1, 16, 8, 1)
    with pytest.raises(ValueError, match=r"16x72 pixels.*at most 64x64"):
        prior.denoise(_randn(1, 16, 9, 2), 0.5)
    # Two latent cells to a patch: an odd side is completed from the other end.
    z = _randn(1, 16, 3, 5)
    wrapped = torch.cat([z, z[:, :, :1]], 2)
    wrapped = torch.cat([wrapped, wrapped[..., :1]], 3)
    expected = full.denoise(wrapped, 0.5)[..., :3, :5]
    torch.testing.assert_close(full.denoise(z, 0.5), expected)


def test_the_demo_prior_has_no_use_for_text(demo):
    for words in ({"prompt": "a cat"}, {"negative": "blurry"}):
        with pytest.raises(ValueError, match="no text encoders"):
            load_prior(demo.path, device="cpu", **words)
    assert load_prior(demo.path, device="cpu", cfg=7.0).cfg == 1


def test_a_single_file_takes_text_encoders_and_autoencoder_from_a_folder(
    demo, pipeline, full, tmp_path
):
    from comfyui_flowdps.training.export import transformer_state

    path = tmp_path / "sd3.safetensors"
    save_file(transformer_state(pipeline.pipe.transformer), path)
    words = {"prompt": PROMPT, "negative": NEGATIVE, "cfg": 2.5}
    single = load_prior(path, device="cpu", config=pipeline.folder, **words)
    z = _randn(1, 16, 4, 4)
    torch.testing.assert_close(single.denoise(z, 0.5), full.denoise(z, 0.5), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(single.decode(z), full.decode(z))
    with pytest.raises(ValueError, match="no autoencoder"):
        load_prior(path, device="cpu")
    with pytest.raises(ValueError, match="belong to different models"):
        load_prior(demo.path, device="cpu", config=pipeline.folder, prompt="a cat")


def test_folders_of_other_kinds_are_refused(pipeline, tmp_path):
    with pytest.raises(ValueError, match=r"no readable model_index\.json"):
        load_prior(tmp_path, device="cpu")
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(ValueError, match="not an SD3 model: it is a FluxPipeline"):
        load_prior(tmp_path, device="cpu")


@pytest.mark.parametrize("part", ["vae", "transformer", "text_encoder_3"])
def test_damaged_folders_name_the_part(pipeline, tmp_path, part):
    folder = tmp_path / "sd3"
    shutil.copytree(pipeline.folder, folder)
    (weights,) = (folder / part).glob("*.safetensors")
    data = weights.read_bytes()
    weights.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=rf"\b{part} of"):
        load_prior(folder, device="cpu")
    # A pickle in its place is not opened.
    weights.unlink()
    torch.save({}, weights.with_suffix(".bin"))
    with pytest.raises(ValueError, match=rf"\b{part} of"):
        load_prior(folder, device="cpu")


@pytest.mark.parametrize("part", ["vae", "transformer"])
def test_folders_that_lack_a_tensor_are_refused(pipeline, tmp_path, part):
    folder = tmp_path / "sd3"
    shutil.copytree(pipeline.folder, folder)
    (weights,) = (folder / part).glob("*.safetensors")
    state = load_file(weights)
    key = min(state)
    del state[key]
    save_file(state, weights, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=rf"\b{part} of .* lacks the tensor '{key}'"):
        load_prior(folder, device="cpu")


def test_an_unreachable_hub_model_is_one_sentence(monkeypatch):
    import diffusers

    def offline(*_, **__):
        raise OSError("We couldn't connect.\nCheckout your internet connection")

    monkeypatch.setattr(diffusers.DiffusionPipeline, "load_config", offline)
    with pytest.raises(ValueError, match=r"^cannot load 'some/model' from the .* hub: [^\n]*$"):
        load_prior("some/model", device="cpu")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": Path("nowhere/at_all")}, "no such prior: nowhere"),
        ({"source": "missing.safetensors"}, "no such prior: missing"),
        ({"source": "folder/missing.safetensors"}, "no such prior: folder"),
        ({"device": "toaster"}, "unknown device 'toaster'"),
        ({"device": "meta"}, "unknown device 'meta'"),
        ({"dtype": "int8"}, "unknown dtype 'int8'.*float16"),
        ({"dtype": torch.int8}, "unknown dtype 'torch.int8'"),
        ({"cfg": float("nan")}, "cfg is nan"),
        ({"cfg": -1.0}, "cfg is -1.0"),
    ],
)
def test_bad_arguments(demo, arguments, message):
    with pytest.raises(ValueError, match=message):
        load_prior(**{"source": demo.path, "device": "cpu", **arguments})


def test_missing_packages_are_named(demo, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ValueError, match=r"'diffusers'.*pip install \"flowdps\[standalone\]\""):
        load_prior(demo.path, device="cpu")


def test_importing_costs_neither_diffusers_nor_transformers():
    code = (
        "import sys, comfyui_flowdps.priors.base, comfyui_flowdps.priors.diffusers;"
        "print([m for m in ('diffusers', 'transformers') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_loading_is_silent_and_restores_the_logging(demo, capfd):
    from diffusers.utils import logging

    before = logging.get_verbosity()
    load_prior(demo.path, device="cpu")
    assert logging.get_verbosity() == before
    assert capfd.readouterr() == ("", "")
