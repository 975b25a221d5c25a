"""A narrow autoencoder of TAESD's topology that embeds exactly into the 64-wide file layout.

ComfyUI and diffusers load only 64-wide TAESD networks. Training one at full width is slow on a CPU,
so the widths here shrink towards the full-resolution end. Zero-padded channels stay zero through
convolution, ReLU and skip connection, and a block of zeros is the identity behind a ReLU: the
embedded network computes the same function.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .taesd import LATENT_CHANNELS, WIDTH, Block

# (channels, residual blocks) per resolution, in the direction of the data.
ENCODER_STAGES = ((24, 1), (32, 2), (64, 3), (64, 3))
DECODER_STAGES = ((64, 3), (64, 3), (48, 2), (24, 1))
ENCODER_BLOCKS = (1, 3, 3, 3)
DECODER_BLOCKS = (3, 3, 3, 1)


def _encoder() -> nn.Sequential:
    first = ENCODER_STAGES[0][0]
    layers: list[nn.Module] = [nn.Conv2d(3, first, 3, padding=1)]
    width = first
    for k, (channels, blocks) in enumerate(ENCODER_STAGES):
        if k:
            layers.append(nn.Conv2d(width, channels, 3, padding=1, stride=2, bias=False))
        layers += [Block(channels) for _ in range(blocks)]
        width = channels
    return nn.Sequential(*layers, nn.Conv2d(width, LATENT_CHANNELS, 3, padding=1))


def _decoder() -> nn.Sequential:
    width = DECODER_STAGES[0][0]
    layers: list[nn.Module] = [nn.Conv2d(LATENT_CHANNELS, width, 3, padding=1), nn.ReLU()]
    for k, (channels, blocks) in enumerate(DECODER_STAGES):
        if k:
            layers += [
                nn.Upsample(scale_factor=2),
                nn.Conv2d(width, channels, 3, padding=1, bias=False),
            ]
        layers += [Block(channels) for _ in range(blocks)]
        width = channels
    return nn.Sequential(*layers, nn.Conv2d(width, 3, 3, padding=1))


class NarrowAutoencoder(nn.Module):
    """Images (N, 3, H, W) in [-1, 1] to latents (N, 16, H/8, W/8) of about unit size, and back."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = _encoder()
        self.decoder = _decoder()

    def encode(self, images: Tensor) -> Tensor:
        return self.encoder(images * 0.5 + 0.5)

    def decode(self, latents: Tensor) -> Tensor:
        return self.decoder(torch.tanh(latents / 3) * 3) * 2 - 1


def _place(state: dict[str, Tensor], key: str, conv: nn.Conv2d, c_in: int, c_out: int) -> None:
    weight = torch.zeros(c_out, c_in, 3, 3)
    weight[: conv.out_channels, : conv.in_channels] = conv.weight.detach()
    state[f"{key}.weight"] = weight
    if conv.bias is not None:
        bias = torch.zeros(c_out)
        bias[: conv.out_channels] = conv.bias.detach()
        state[f"{key}.bias"] = bias


def _place_block(state: dict[str, Tensor], key: str, block: Block | None) -> None:
    for k in (0, 2, 4):
        if block is None:
            state[f"{key}.conv.{k}.weight"] = torch.zeros(WIDTH, WIDTH, 3, 3)
            state[f"{key}.conv.{k}.bias"] = torch.zeros(WIDTH)
        else:
            conv = block.conv[k]
            assert isinstance(conv, nn.Conv2d)
            _place(state, f"{key}.conv.{k}", conv, WIDTH, WIDTH)


def _embed(
    net: nn.Sequential,
    stages: tuple[tuple[int, int], ...],
    blocks: tuple[int, ...],
    prefix: str,
    index: int,
    c_in: int,
    c_out: int,
    between: int,
) -> dict[str, Tensor]:
    """Walk the narrow layers and write them at their index in the 64-wide network."""
    state: dict[str, Tensor] = {}
    convs = [m for m in net if isinstance(m, nn.Conv2d)]
    residual = iter([m for m in net if isinstance(m, Block)])
    _place(state, f"{prefix}.{index}", convs[0], c_in, WIDTH)
    index += between
    for k, (_, used) in enumerate(stages):
        if k:
            index += between - 1
            _place(state, f"{prefix}.{index}", convs[k], WIDTH, WIDTH)
            index += 1
        for j in range(blocks[k]):
            _place_block(state, f"{prefix}.{index}", next(residual) if j < used else None)
            index += 1
    _place(state, f"{prefix}.{index}", convs[-1], WIDTH, c_out)
    return state


def embed(model: NarrowAutoencoder) -> dict[str, Tensor]:
    """State dict in the 64-wide TAESD layout (``taesd_encoder.*``, ``taesd_decoder.*``)."""
    state = _embed(
        model.encoder, ENCODER_STAGES, ENCODER_BLOCKS, "taesd_encoder", 0, 3, LATENT_CHANNELS, 1
    )
    # Decoder: clamp 0, convolution 1, ReLU 2; an upsampling before each later convolution.
    state |= _embed(
        model.decoder, DECODER_STAGES, DECODER_BLOCKS, "taesd_decoder", 1, LATENT_CHANNELS, 3, 2
    )
    return state
