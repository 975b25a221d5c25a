"""An autoencoder in TAESD's layout, with the keys and shapes of ``taesd3_*.safetensors``.

TAESD (madebyollin, MIT) is the small autoencoder that ComfyUI and diffusers load: 64 channels
wide, three halvings, a latent that is passed through a soft clamp before it is decoded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

WIDTH = 64
LATENT_CHANNELS = 16
STRIDE = 8
"""Pixels per latent cell, in each direction."""
ENCODER_FILE, DECODER_FILE = "taesd3_encoder.safetensors", "taesd3_decoder.safetensors"


class Block(nn.Module):
    """Three 3x3 convolutions with ReLU and a skip connection; input and output (N, C, H, W)."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x) + x)


class Clamp(nn.Module):
    """Soft limit of latents to ]-3, 3[; layer 0 of the decoder, without weights."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(z / 3) * 3


def _encoder(width: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1), Block(width)]
    for _ in range(3):
        layers.append(nn.Conv2d(width, width, 3, padding=1, stride=2, bias=False))
        layers += [Block(width) for _ in range(3)]
    return nn.Sequential(*layers, nn.Conv2d(width, LATENT_CHANNELS, 3, padding=1))


def _decoder(width: int) -> nn.Sequential:
    layers: list[nn.Module] = [Clamp(), nn.Conv2d(LATENT_CHANNELS, width, 3, padding=1), nn.ReLU()]
    for blocks in (3, 3, 3):
        layers += [Block(width) for _ in range(blocks)]
        layers += [nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1, bias=False)]
    return nn.Sequential(*layers, Block(width), nn.Conv2d(width, 3, 3, padding=1))


class Autoencoder(nn.Module):
    """Images (N, 3, H, W) in [0, 1] to latents (N, 16, H/8, W/8) of about unit size, and back.

    ``width`` other than 64 gives a smaller network for tests, which no host loads.
    """

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.encoder = _encoder(width)
        self.decoder = _decoder(width)

    def encode(self, images: Tensor) -> Tensor:
        return self.encoder(images)

    def decode(self, latents: Tensor) -> Tensor:
        """Images, not clipped: gradients exist everywhere."""
        return self.decoder(latents)

    @classmethod
    def read(cls, folder: Path) -> Autoencoder:
        """The autoencoder of a folder's ``taesd3_encoder`` and ``taesd3_decoder`` files."""
        state = {
            f"{part}.{key}": value.float()
            for part, name in (("encoder", ENCODER_FILE), ("decoder", DECODER_FILE))
            for key, value in load_file(folder / name).items()
        }
        model = cls(state["encoder.0.weight"].shape[0])
        model.load_state_dict(state)
        return model


def halves(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """State of the encoder and of the decoder, named as in TAESD's two files, in float16."""
    parts: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
    for key, value in state.items():
        part, _, name = key.partition(".")
        parts[part == "decoder"][name] = value.detach().half().contiguous()
    return parts
