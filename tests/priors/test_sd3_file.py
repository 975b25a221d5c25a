import re

import pytest
import torch
from comfyui_flowdps.priors.sd3_file import (
    Checkpoint,
    load_autoencoder,
    load_transformer,
    transformer_config,
)
from comfyui_flowdps.training.export import transformer_state
from safetensors.torch import save_file


def _velocity(model, height=6, width=8):
    generator = torch.Generator().manual_seed(7)
    config, wide = model.config, torch.float64
    return model(
        hidden_states=torch.randn(2, 16, height, width, generator=generator, dtype=wide),
        encoder_hidden_states=torch.randn(
            2, 3, config["joint_attention_dim"], generator=generator, dtype=wide
        ),
        pooled_projections=torch.randn(
            2, config["pooled_projection_dim"], generator=generator, dtype=wide
        ),
        timestep=torch.tensor([300.0, 900.0]),
        return_dict=False,
    )[0]


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", ""])
@pytest.mark.parametrize(
    "shape",
    [
        {"patch": 1, "layers": 3},
        {"patch": 2, "qk_norm": None},
        {"patch": 2, "dual": (0,), "pooled": 20},
        {"patch": 1, "layers": 1, "context": 40},
    ],
)
def test_transformer_survives_the_round_trip_through_a_file(
    tmp_path, tiny_transformer, shape, prefix
):
    model = tiny_transformer(**shape)
    state = transformer_state(model)
    config = transformer_config(state)
    assert config == {key: model.config[key] for key in config}
    path = tmp_path / "model.safetensors"
    save_file({prefix + k: v for k, v in state.items()}, path)
    loaded = load_transformer(Checkpoint(path))
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)
    reference = _velocity(model.double())
    assert reference.std() > 0.1
    torch.testing.assert_close(_velocity(loaded.double()), reference, rtol=0, atol=1e-6)


def test_exporter_writes_what_comfyui_looks_for(tiny_transformer):
    state = transformer_state(tiny_transformer(layers=2))
    assert state["joint_blocks.0.context_block.attn.qkv.weight"].shape == (3 * 128, 128)
    assert state["pos_embed"].shape == (1, 64, 128)
    # The last context block only feeds the attention.
    last = {k for k in state if k.startswith("joint_blocks.1.context_block.")}
    assert {k.split(".")[3] for k in last} == {"attn", "adaLN_modulation"}
    assert not any("attn.proj" in k for k in last)
    assert state["joint_blocks.1.context_block.adaLN_modulation.1.weight"].shape == (256, 128)


def test_tiny_autoencoder_speaks_latents_of_unit_variance(demo):
    found = load_autoencoder(Checkpoint(demo.path))
    assert (found.factor, found.offset) == pytest.approx((demo.scale, 0), abs=1e-6)
    z, x = torch.randn(1, 16, 2, 3), torch.rand(1, 3, 16, 24) * 2 - 1
    torch.testing.assert_close(found.module.decode(z).sample, demo.autoencoder.decode(z))
    torch.testing.assert_close(found.module.encode(x).latents, demo.autoencoder.encode(x))


def test_tiny_autoencoder_without_a_scale_gets_raw_latents_as_in_comfyui(demo, tmp_path):
    path = tmp_path / "raw.safetensors"
    save_file({k: v for k, v in demo.state.items() if "vae_s" not in k}, path)
    found = load_autoencoder(Checkpoint(path))
    assert (found.factor, found.offset) == pytest.approx((1 / 1.5305, 0.0609))


def _original_kl(state, levels):
    """diffusers' names of an AutoencoderKL in the layout of single files."""
    found = {}
    for key, value in state.items():
        name = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", key)
        name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
        up = re.search(r"up_blocks\.(\d)", name)
        if up:
            name = name.replace(up[0], f"up.{levels - 1 - int(up[1])}")
            name = name.replace("resnets", "block").replace("upsamplers.0", "upsample")
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
        name = name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        if "attentions" in name:
            name = name.replace("mid_block.attentions.0", "mid.attn_1").replace(
                "to_out.0", "proj_out"
            )
            name = re.sub(r"to_([qkv])", r"\1", name).replace("group_norm", "norm")
            value = value[..., None, None] if value.ndim == 2 else value
        found[name] = value
    return found


@pytest.mark.parametrize("widths", [(32, 64), (32, 32, 64)])
def test_full_autoencoder_in_the_original_layout(tmp_path, widths):
    from diffusers import AutoencoderKL

    torch.manual_seed(5)
    vae = AutoencoderKL(
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        latent_channels=16,
        use_quant_conv=False,
        use_post_quant_conv=False,
    ).requires_grad_(False)
    path = tmp_path / "vae.safetensors"
    state = _original_kl(vae.state_dict(), len(widths))
    save_file({f"first_stage_model.{k}": v.contiguous() for k, v in state.items()}, path)
    found = load_autoencoder(Checkpoint(path))
    assert (found.factor, found.offset) == pytest.approx((1 / 1.5305, 0.0609))
    z, x = torch.randn(1, 16, 4, 4), torch.randn(1, 3, 16, 16)
    torch.testing.assert_close(found.module.decode(z).sample, vae.decode(z).sample)
    torch.testing.assert_close(
        found.module.encode(x).latent_dist.mean, vae.encode(x).latent_dist.mean
    )


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".pth", ".bin", ".PT"])
def test_pickles_are_refused_unread(tmp_path, suffix):
    with pytest.raises(ValueError, match="only safetensors"):
        Checkpoint(tmp_path / f"model{suffix}")


@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_are_refused_by_content(tmp_path, zipped):
    path = tmp_path / "model.safetensors"
    torch.save({"a": torch.zeros(3)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match="only safetensors"):
        Checkpoint(path)


@pytest.mark.parametrize("keep", [0, 5, 8, 300, 0.5, 0.999])
def test_truncated_files_are_refused(demo, tmp_path, keep):
    data = demo.path.read_bytes()
    path = tmp_path / "cut.safetensors"
    path.write_bytes(data[: keep if isinstance(keep, int) else int(keep * len(data))])
    with pytest.raises(ValueError, match="truncated"):
        Checkpoint(path)


def test_corrupt_and_missing_files_are_refused(demo, tmp_path):
    data = bytearray(demo.path.read_bytes())
    data[20:60] = b"\x00" * 40
    path = tmp_path / "bad.safetensors"
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match="corrupt"):
        Checkpoint(path)
    with pytest.raises(ValueError, match="not a file"):
        Checkpoint(tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("model.diffusion_model.input_blocks.0.0.weight", "Stable Diffusion 1, 2 or SDXL"),
        ("double_blocks.0.img_attn.qkv.weight", "a Flux model"),
        ("lora_unet_joint_blocks_0.lora_up.weight", "a LoRA"),
        ("transformer_blocks.0.attn.add_q_proj.weight", "give its model folder"),
        ("taesd_decoder.1.weight", "an autoencoder alone"),
        ("something.else", "1 tensors such as 'something.else'"),
    ],
)
def test_other_models_are_named(tmp_path, key, found):
    path = tmp_path / "other.safetensors"
    save_file({key: torch.zeros(2, 2)}, path)
    with pytest.raises(ValueError, match=f"not an SD3 model.*{found}"):
        load_transformer(Checkpoint(path))


@pytest.mark.parametrize(
    "key",
    [
        "x_embedder.proj.weight",
        "joint_blocks.0.x_block.mlp.fc1.weight",
        "joint_blocks.1.x_block.attn.ln_k.weight",
        "final_layer.linear.bias",
    ],
)
def test_incomplete_transformers_name_the_tensor(demo, tmp_path, key):
    state = {k: v for k, v in demo.state.items() if not k.endswith(key)}
    path = tmp_path / "part.safetensors"
    save_file(state, path)
    with pytest.raises(ValueError, match=f"not a complete SD3 model.*{re.escape(key)}"):
        load_transformer(Checkpoint(path))


def test_wrong_shapes_are_refused(demo, tmp_path):
    state = dict(demo.state)
    state["model.diffusion_model.t_embedder.mlp.2.weight"] = torch.zeros(128, 64)
    state["first_stage_model.taesd_decoder.3.conv.0.bias"] = torch.zeros(63)
    path = tmp_path / "shape.safetensors"
    save_file(state, path)
    for load in (load_transformer, load_autoencoder):
        with pytest.raises(ValueError, match="another shape"):
            load(Checkpoint(path))
