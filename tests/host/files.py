"""Pictures and tiny random models for a test server's folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from comfyui_flowdps.priors.built_in import DEMO
from comfyui_flowdps.training.export import transformer_state
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from .graphs import CONTEXT, POOLED, TINY

LORA = "tiny_lora.safetensors"
LORA_LAYERS = ("joint_blocks.0.x_block.mlp.fc1", "joint_blocks.1.x_block.attn.qkv")
HIDDEN, LAYERS, POSITIONS = 128, 2, 8
SHAPE: dict[str, Any] = {
    "sample_size": 2 * POSITIONS,
    "patch_size": 2,
    "in_channels": 16,
    "attention_head_dim": 64,
    "num_attention_heads": HIDDEN // 64,
    "joint_attention_dim": CONTEXT,
    "caption_projection_dim": HIDDEN,
    "pooled_projection_dim": POOLED,
    "out_channels": 16,
    "pos_embed_max_size": POSITIONS,
}
"""Of the transformer and of its control network."""


def _fill(module: torch.nn.Module, seed: int) -> None:
    """Random weights of a size that lets signals through."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in module.named_parameters():
        centre = 1.0 if "norm" in name and value.ndim == 1 else 0.0
        size = 0.7 / value[0].numel() ** 0.5 if value.ndim > 1 else 0.1
        value.data.copy_(centre + size * torch.randn(value.shape, generator=generator))


def pictures(folder: Path, held_out: Path) -> None:
    """small.png 64x64, odd.png 75x53, wide.png 96x64, and large.png 160x112, for tiles; other.png
    64x64 of something else."""
    folder.mkdir(parents=True, exist_ok=True)
    files = sorted(held_out.glob("*.png"))
    one, other = (Image.open(f).convert("RGB") for f in (files[9], files[4]))
    one.resize((64, 64), Image.Resampling.BICUBIC).save(folder / "small.png")
    one.resize((75, 53), Image.Resampling.BICUBIC).save(folder / "odd.png")
    one.resize((96, 64), Image.Resampling.BICUBIC).save(folder / "wide.png")
    one.resize((160, 112), Image.Resampling.BICUBIC).save(folder / "large.png")
    other.resize((64, 64), Image.Resampling.BICUBIC).save(folder / "other.png")


def _sd3() -> dict[str, Tensor]:
    from diffusers import SD3Transformer2DModel

    model = SD3Transformer2DModel(num_layers=LAYERS, qk_norm="rms_norm", **SHAPE).requires_grad_(
        False
    )
    _fill(model, 1)
    return {f"model.diffusion_model.{k}": v for k, v in transformer_state(model).items()}


def _control() -> dict[str, Tensor]:
    from diffusers import SD3ControlNetModel

    model = SD3ControlNetModel(num_layers=1, **SHAPE).requires_grad_(False)
    _fill(model, 3)
    return {key: value.contiguous() for key, value in model.state_dict().items()}


def _kl() -> dict[str, Tensor]:
    """SD3's kind of autoencoder with 32 channels, in the original layout."""
    from diffusers import AutoencoderKL

    model = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32,) * 4,
        layers_per_block=1,
        latent_channels=16,
        use_quant_conv=False,
        use_post_quant_conv=False,
    ).requires_grad_(False)
    _fill(model, 4)
    return _original(model.state_dict(), levels=4)


def _original(state: dict[str, Tensor], levels: int) -> dict[str, Tensor]:
    """diffusers' names of an autoencoder's tensors in the layout of single files."""
    attention = {
        "group_norm": "norm",
        "to_q": "q",
        "to_k": "k",
        "to_v": "v",
        "to_out.0": "proj_out",
    }
    found = {}
    for key, value in state.items():
        side, rest = key.split(".", 1)
        parts = rest.split(".")
        if parts[0] in ("down_blocks", "up_blocks"):
            down = parts[0] == "down_blocks"
            level = int(parts[1]) if down else levels - 1 - int(parts[1])
            where = f"{'down' if down else 'up'}.{level}"
            if parts[2] == "resnets":
                name = ".".join(parts[4:]).replace("conv_shortcut", "nin_shortcut")
                rest = f"{where}.block.{parts[3]}.{name}"
            else:
                rest = f"{where}.{'downsample' if down else 'upsample'}.{'.'.join(parts[4:])}"
        elif parts[:2] == ["mid_block", "resnets"]:
            rest = f"mid.block_{int(parts[2]) + 1}.{'.'.join(parts[3:])}"
        elif parts[:2] == ["mid_block", "attentions"]:
            name = ".".join(parts[3:-1])
            if name.startswith("to_") and parts[-1] == "weight":
                value = value[:, :, None, None]
            rest = f"mid.attn_1.{attention[name]}.{parts[-1]}"
        else:
            rest = rest.replace("conv_norm_out", "norm_out")
        found[f"{side}.{rest}"] = value.contiguous()
    return found


def lora_change(shape: torch.Size, layer: str) -> tuple[Tensor, Tensor]:
    """The two factors of the LoRA's change of one layer, up and down."""
    generator = torch.Generator().manual_seed(len(layer))
    up = 0.2 * torch.randn(shape[0], 2, generator=generator)
    return up, 0.2 * torch.randn(2, shape[1], generator=generator)


def models(folder: Path) -> None:
    """Everything that the tests load, below the server's models folder."""
    for name in ("checkpoints", "loras", "controlnet", "vae", "diffusion_models"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    autoencoder = {
        key: value.float()
        for key, value in load_file(DEMO.file).items()
        if key.startswith("first_stage_model.")
    }
    state = _sd3() | autoencoder
    save_file(state, folder / "checkpoints" / TINY)
    transformer = {k: v for k, v in state.items() if k not in autoencoder}
    save_file(transformer, folder / "diffusion_models" / TINY)
    lora = {}
    for layer in LORA_LAYERS:
        shape = state[f"model.diffusion_model.{layer}.weight"].shape
        up, down = lora_change(shape, layer)
        lora[f"diffusion_model.{layer}.lora_B.weight"] = up
        lora[f"diffusion_model.{layer}.lora_A.weight"] = down
    save_file(lora, folder / "loras" / LORA)
    save_file(_control(), folder / "controlnet" / "tiny_control.safetensors")
    save_file(_kl(), folder / "vae" / "tiny_kl.safetensors")
    four = {}
    for key, value in autoencoder.items():
        name = key.removeprefix("first_stage_model.")
        if name == "taesd_decoder.1.weight":
            value = value[:, :4]
        elif value.shape[:1] == (16,):
            value = value[:4]
        four[name] = value.contiguous()
    save_file(four, folder / "vae" / "four_channels.safetensors")
