"""Write an SD3 transformer in the original single-file layout, the one that ComfyUI detects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from diffusers import SD3Transformer2DModel

_OUTSIDE = {
    "pos_embed.proj": "x_embedder.proj",
    "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
    "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2",
    "context_embedder": "context_embedder",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
    "proj_out": "final_layer.linear",
}
_INSIDE = {
    "norm1.linear": "x_block.adaLN_modulation.1",
    "norm1_context.linear": "context_block.adaLN_modulation.1",
    "attn.to_out.0": "x_block.attn.proj",
    "attn.to_add_out": "context_block.attn.proj",
    "attn.norm_q": "x_block.attn.ln_q",
    "attn.norm_k": "x_block.attn.ln_k",
    "attn.norm_added_q": "context_block.attn.ln_q",
    "attn.norm_added_k": "context_block.attn.ln_k",
    "attn2.to_out.0": "x_block.attn2.proj",
    "attn2.norm_q": "x_block.attn2.ln_q",
    "attn2.norm_k": "x_block.attn2.ln_k",
    "ff.net.0.proj": "x_block.mlp.fc1",
    "ff.net.2": "x_block.mlp.fc2",
    "ff_context.net.0.proj": "context_block.mlp.fc1",
    "ff_context.net.2": "context_block.mlp.fc2",
}
# Three projections that the original keeps as one matrix.
_FUSED = {
    "x_block.attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "context_block.attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "x_block.attn2.qkv": ("attn2.to_q", "attn2.to_k", "attn2.to_v"),
}


def transformer_state(transformer: SD3Transformer2DModel) -> dict[str, Tensor]:
    """State dict of ``transformer`` in SD3's original key layout, without a prefix.

    ComfyUI looks for the keys under ``model.diffusion_model.``. It reads the depth as the width
    divided by 64, so only a network with as many layers as heads of 64 loads there.
    """
    source = {key: value.detach() for key, value in transformer.state_dict().items()}
    last = len(transformer.transformer_blocks) - 1
    state = {"pos_embed": source.pop("pos_embed.pos_embed")}

    def move(old: str, new: str, swap: bool = False) -> None:
        for kind in ("weight", "bias"):
            if f"{old}.{kind}" in source:
                value = source.pop(f"{old}.{kind}")
                # diffusers' final norms hold (scale, shift); the original holds (shift, scale).
                state[f"{new}.{kind}"] = torch.cat(value.chunk(2)[::-1]) if swap else value

    for old, new in _OUTSIDE.items():
        move(old, new, swap=old == "norm_out.linear")
    for layer in range(last + 1):
        here, there = f"transformer_blocks.{layer}", f"joint_blocks.{layer}"
        for old, new in _INSIDE.items():
            swap = layer == last and old == "norm1_context.linear"
            move(f"{here}.{old}", f"{there}.{new}", swap)
        for new, parts in _FUSED.items():
            for kind in ("weight", "bias"):
                keys = [f"{here}.{part}.{kind}" for part in parts]
                if keys[0] in source:
                    state[f"{there}.{new}.{kind}"] = torch.cat([source.pop(key) for key in keys])
    if source:
        raise ValueError(
            f"no place in the SD3 file layout for {len(source)} tensors, such as {min(source)!r}"
        )
    return {key: value.contiguous() for key, value in state.items()}
