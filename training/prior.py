"""The single file of a prior: an SD3 transformer and an autoencoder in TAESD's layout.

ComfyUI's CheckpointLoaderSimple loads and samples it; ``flowdps --prior FILE`` takes it, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .export import transformer_state
from .taesd import DECODER_FILE, ENCODER_FILE, Autoencoder, halves

if TYPE_CHECKING:
    from diffusers import SD3Transformer2DModel

SD3_SCALE, SD3_SHIFT = 1.5305, 0.0609
"""Hosts pass raw latents; (raw - shift) * scale is what the autoencoder and the flow see."""
VAE_FILE = "sd3_autoencoder.safetensors"
ABOUT = {
    "title": "small autoencoder for SD3's latents",
    "license": "MIT; trained from TAESD3, Copyright (c) 2023 Ollin Boer Bohan, MIT",
}
_TRANSFORMER, _AUTOENCODER = "model.diffusion_model.", "first_stage_model."


def state(transformer: nn.Module, autoencoder: Autoencoder) -> dict[str, Tensor]:
    """Tensors of the file, float16 but for the two numbers that place the latents."""
    flow = transformer_state(cast("SD3Transformer2DModel", transformer))
    result = {_TRANSFORMER + key: value.half().contiguous() for key, value in flow.items()}
    return result | {_AUTOENCODER + key: value for key, value in autoencoder_state(autoencoder)}


def autoencoder_state(autoencoder: Autoencoder) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of an autoencoder as a host's VAE, float16 but for those two numbers."""
    parts = ("taesd_encoder.", "taesd_decoder.")
    for part, values in zip(parts, halves(autoencoder.state_dict()), strict=True):
        yield from ((part + key, value) for key, value in values.items())
    yield "vae_scale", torch.tensor(SD3_SCALE)
    yield "vae_shift", torch.tensor(SD3_SHIFT)


def write(path: Path, transformer: nn.Module, autoencoder: Autoencoder, **about: str) -> None:
    """Write the file; ``about`` becomes metadata such as ``modelspec.title``."""
    _write(path, state(transformer, autoencoder), about)


def _write(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {f"modelspec.{key}": value for key, value in about.items()}
    save_file({key: value.cpu() for key, value in tensors.items()}, path, metadata=metadata)


def write_autoencoder(folder: Path, autoencoder: Autoencoder) -> None:
    """Write the two files that hosts look for in ``models/vae_approx``, in float16; and a single
    one for ``models/vae``, which the memory mode ``tiny`` uses as well."""
    _write(folder / VAE_FILE, dict(autoencoder_state(autoencoder)), ABOUT)
    names = (ENCODER_FILE, DECODER_FILE)
    for name, values in zip(names, halves(autoencoder.state_dict()), strict=True):
        save_file({key: value.cpu() for key, value in values.items()}, folder / name)


def read_autoencoder(path: Path) -> Autoencoder:
    """The autoencoder of a prior's file, or of a folder with TAESD3's two files; float32.

    Raises ValueError for one that does not use SD3's latents.
    """
    if path.is_dir():
        return Autoencoder.read(path)
    if not path.is_file():
        raise ValueError(f"{path} is not there; expected a prior's file or a folder of TAESD's two")
    found = {
        key.removeprefix(_AUTOENCODER): value.float()
        for key, value in load_file(path).items()
        if key.startswith(_AUTOENCODER)
    }
    scale, shift = (float(found.pop(key, 0.0)) for key in ("vae_scale", "vae_shift"))
    if abs(scale - SD3_SCALE) > 1e-3 or abs(shift - SD3_SHIFT) > 1e-3:
        raise ValueError(
            f"{path} has latents with scale {scale:.4f} and shift {shift:.4f}; a flow is trained"
            f" on SD3's, which have {SD3_SCALE} and {SD3_SHIFT}"
        )
    weights = {key.removeprefix("taesd_"): value for key, value in found.items()}
    model = Autoencoder(weights["encoder.0.weight"].shape[0])
    model.load_state_dict(weights)
    return model


def read_flow(path: Path) -> nn.Module:
    """The transformer of a prior's file, float32."""
    from ..priors.sd3_file import Checkpoint, load_transformer

    return load_transformer(Checkpoint(path)).float()
