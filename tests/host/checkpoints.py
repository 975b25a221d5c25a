"""A small random checkpoint that ComfyUI takes for Stable Diffusion 3 with its text encoder.

The transformer has one block and patches of two, like SD3's; the autoencoder is that of the demo
prior; CLIP-L has its real size (the host knows no other), which makes 250 of the file's 260 MB.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from .comfyui import ROOT

WIDTH, PATCH, CHANNELS, CONTEXT, POOLED = 64, 2, 16, 4096, 2048
SIDE = 72  # Patches a side, for latents of up to 144 cells: images of 1152 pixels.


def _random(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    # Rows may repeat: a large table is filled from a small one.
    count = torch.Size(shape).numel()
    some = 0.03 * torch.randn(min(count, 1 << 20), generator=generator)
    return some.half().repeat(-(-count // len(some)))[:count].reshape(shape).contiguous()


def _transformer() -> dict[str, tuple[int, ...]]:
    linear = {
        "t_embedder.mlp.0": (WIDTH, 256),
        "t_embedder.mlp.2": (WIDTH, WIDTH),
        "y_embedder.mlp.0": (WIDTH, POOLED),
        "y_embedder.mlp.2": (WIDTH, WIDTH),
        "context_embedder": (WIDTH, CONTEXT),
        "joint_blocks.0.context_block.adaLN_modulation.1": (2 * WIDTH, WIDTH),
        "joint_blocks.0.context_block.attn.qkv": (3 * WIDTH, WIDTH),
        "joint_blocks.0.x_block.adaLN_modulation.1": (6 * WIDTH, WIDTH),
        "joint_blocks.0.x_block.attn.qkv": (3 * WIDTH, WIDTH),
        "joint_blocks.0.x_block.attn.proj": (WIDTH, WIDTH),
        "joint_blocks.0.x_block.mlp.fc1": (4 * WIDTH, WIDTH),
        "joint_blocks.0.x_block.mlp.fc2": (WIDTH, 4 * WIDTH),
        "final_layer.adaLN_modulation.1": (2 * WIDTH, WIDTH),
        "final_layer.linear": (PATCH**2 * CHANNELS, WIDTH),
        "x_embedder.proj": (WIDTH, CHANNELS, PATCH, PATCH),
    }
    return {**_with_bias(linear), "pos_embed": (1, SIDE**2, WIDTH)}


def _clip() -> dict[str, tuple[int, ...]]:
    width, inner = 768, 3072
    linear: dict[str, tuple[int, ...]] = {}
    norms: dict[str, tuple[int, ...]] = {"final_layer_norm": (width,)}
    for layer in range(12):
        here = f"encoder.layers.{layer}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            linear[f"{here}.self_attn.{part}"] = (width, width)
        linear[f"{here}.mlp.fc1"] = (inner, width)
        linear[f"{here}.mlp.fc2"] = (width, inner)
        norms |= {f"{here}.layer_norm1": (width,), f"{here}.layer_norm2": (width,)}
    return {
        **_with_bias(linear),
        **_with_bias(norms),
        "embeddings.token_embedding.weight": (49408, width),
        "embeddings.position_embedding.weight": (77, width),
    }


def _with_bias(layers: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    shapes = {f"{name}.weight": shape for name, shape in layers.items()}
    return shapes | {f"{name}.bias": shape[:1] for name, shape in layers.items()}


def write_sd3(path: Path) -> None:
    """Write the checkpoint, always the same, in float16."""
    generator = torch.Generator().manual_seed(0)
    state: dict[str, Tensor] = {}
    for prefix, shapes in (
        ("model.diffusion_model.", _transformer()),
        ("text_encoders.clip_l.transformer.text_model.", _clip()),
    ):
        for name, shape in shapes.items():
            value = _random(shape, generator)
            state[prefix + name] = value + 1 if "norm" in name and "weight" in name else value
    demo = load_file(ROOT / "priors" / "demo_prior.safetensors")
    state |= {k: v for k, v in demo.items() if k.startswith("first_stage_model.")}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path)
