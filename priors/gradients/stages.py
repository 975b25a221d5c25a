"""A convolutional autoencoder as lists of stages, for diffusers' and ComfyUI's modules alike.

SD3's autoencoder and those of Flux, SDXL and most others share one topology: a convolution, two
residual blocks around an attention, levels of residual blocks with upsampling in between, and a
head with group normalisation; the encoder is its mirror image. diffusers and ComfyUI name the parts
differently.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Plain:
    """Any differentiable stage; never split into strips."""

    run: Callable[[Tensor], Tensor]

    def __call__(self, x: Tensor) -> Tensor:
        return self.run(x)


@dataclass(frozen=True)
class Residual:
    """``s(x) + conv2(silu(norm2(conv1(silu(norm1(x))))))``, s = ``shortcut`` or the identity."""

    norm1: nn.GroupNorm
    conv1: nn.Module
    norm2: nn.GroupNorm
    conv2: nn.Module
    shortcut: nn.Module | None
    block: Callable[..., Tensor]

    def __call__(self, x: Tensor) -> Tensor:
        return self.block(x, None)


@dataclass(frozen=True)
class Upsample:
    """Nearest-neighbour upsampling by 2, then a 3 x 3 convolution."""

    conv: nn.Module

    def __call__(self, x: Tensor) -> Tensor:
        return self.conv(double(x))


@dataclass(frozen=True)
class Head:
    """``conv(silu(norm(x)))``."""

    norm: nn.GroupNorm
    conv: nn.Module

    def __call__(self, x: Tensor) -> Tensor:
        return self.conv(F.silu(self.norm(x)))


Stage = Plain | Residual | Upsample | Head


def _is_conv(module: Any, size: int) -> bool:
    return (
        isinstance(module, nn.Conv2d)
        and tuple(module.kernel_size) == (size, size)
        and tuple(module.stride) == (1, 1)
        and module.padding in ((size // 2, size // 2), size // 2)
        and module.padding_mode == "zeros"
    )


def is_residual(module: Any) -> bool:
    """Whether a module is a residual block of diffusers' or ComfyUI's autoencoders."""
    return _residual(module) is not None


def _residual(block: Any) -> Residual | None:
    shortcut = None
    for name in ("conv_shortcut", "nin_shortcut"):
        found = getattr(block, name, None)
        shortcut = found if isinstance(found, nn.Module) else shortcut
    norm1: Any = getattr(block, "norm1", None)
    norm2: Any = getattr(block, "norm2", None)
    conv1: Any = getattr(block, "conv1", None)
    conv2: Any = getattr(block, "conv2", None)
    if not (isinstance(norm1, nn.GroupNorm) and isinstance(norm2, nn.GroupNorm)):
        return None
    if not (_is_conv(conv1, 3) and _is_conv(conv2, 3)):
        return None
    if shortcut is not None and not _is_conv(shortcut, 1):
        return None
    if getattr(block, "output_scale_factor", 1.0) != 1.0 or getattr(block, "upsample", None):
        return None
    return Residual(norm1, conv1, norm2, conv2, shortcut, block)


def _upsample(module: Any) -> Upsample | None:
    conv: Any = getattr(module, "conv", None)
    plain = getattr(module, "norm", None) is None and not getattr(module, "use_conv_transpose", 0)
    return Upsample(conv) if plain and _is_conv(conv, 3) else None


def stages_of(decoder: Any) -> list[Stage] | None:
    """The stages of a decoder, or None for another topology.

    decoder is diffusers' or ComfyUI's module, without the post-quantisation convolution.
    """
    levels: list[tuple[list[Any], list[Any]]]
    if hasattr(decoder, "up_blocks") and hasattr(decoder, "mid_block"):  # diffusers
        mid = decoder.mid_block
        attentions = list(getattr(mid, "attentions", None) or [])
        if len(mid.resnets) != 2 or len(attentions) != 1:
            return None
        middle = [mid.resnets[0], attentions[0], mid.resnets[1]]
        levels = [
            (list(level.resnets), list(getattr(level, "upsamplers", None) or []))
            for level in decoder.up_blocks
        ]
        if any(getattr(level, "attentions", None) for level in decoder.up_blocks):
            return None
        norm, conv = decoder.conv_norm_out, decoder.conv_out
        if not isinstance(decoder.conv_act, nn.SiLU):
            return None
    elif hasattr(decoder, "up") and hasattr(decoder, "mid"):  # ComfyUI
        mid = decoder.mid
        middle = [mid.block_1, mid.attn_1, mid.block_2]
        ordered = list(reversed(list(decoder.up)))
        levels = [
            (list(level.block), [level.upsample] if hasattr(level, "upsample") else [])
            for level in ordered
        ]
        if any(len(level.attn) for level in ordered) or getattr(decoder, "tanh_out", False):
            return None
        norm, conv = decoder.norm_out, decoder.conv_out
    else:
        return None
    first, attention, last = _residual(middle[0]), middle[1], _residual(middle[2])
    found: list[Stage | None] = [Plain(decoder.conv_in), first, Plain(attention), last]
    for blocks, ups in levels:
        found += [_residual(block) for block in blocks]
        found += [_upsample(up) for up in ups]
    if not (isinstance(norm, nn.GroupNorm) and _is_conv(conv, 3)):
        return None
    stages = [stage for stage in [*found, Head(norm, conv)] if stage is not None]
    return stages if len(stages) == len(found) + 1 else None


def encoder_stages_of(encoder: Any) -> list[Stage] | None:
    """The stages of an encoder, or None for another topology.

    encoder is diffusers' or ComfyUI's module, without the quantisation convolution.
    """
    if hasattr(encoder, "down_blocks") and hasattr(encoder, "mid_block"):  # diffusers
        mid = encoder.mid_block
        attentions = list(getattr(mid, "attentions", None) or [])
        if len(mid.resnets) != 2 or len(attentions) != 1:
            return None
        middle = [mid.resnets[0], attentions[0], mid.resnets[1]]
        if any(getattr(level, "attentions", None) for level in encoder.down_blocks):
            return None
        levels = [
            (list(level.resnets), list(getattr(level, "downsamplers", None) or []))
            for level in encoder.down_blocks
        ]
        norm, conv = encoder.conv_norm_out, encoder.conv_out
        if not isinstance(encoder.conv_act, nn.SiLU):
            return None
    elif hasattr(encoder, "down") and hasattr(encoder, "mid"):  # ComfyUI
        mid = encoder.mid
        middle = [mid.block_1, mid.attn_1, mid.block_2]
        if any(len(level.attn) for level in encoder.down):
            return None
        levels = [
            (list(level.block), [level.downsample] if hasattr(level, "downsample") else [])
            for level in encoder.down
        ]
        norm, conv = encoder.norm_out, encoder.conv_out
    else:
        return None
    if not (_is_conv(encoder.conv_in, 3) and isinstance(norm, nn.GroupNorm) and _is_conv(conv, 3)):
        return None
    found: list[Stage | None] = [Plain(encoder.conv_in)]
    for blocks, downs in levels:
        found += [_residual(block) for block in blocks]
        found += [Plain(down) for down in downs]
    found += [_residual(middle[0]), Plain(middle[1]), _residual(middle[2]), Head(norm, conv)]
    stages = [stage for stage in found if stage is not None]
    return stages if len(stages) == len(found) else None


def double(x: Tensor) -> Tensor:
    """x (N, C, H, W) upsampled by 2, nearest neighbour."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
