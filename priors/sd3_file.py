"""Read an SD3 or SD3.5 model from one safetensors file, in the layout that ComfyUI detects.

The architecture is inferred from the tensors' names and shapes. Nothing is ever unpickled.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .built_in import PHOTO

if TYPE_CHECKING:
    from diffusers import SD3Transformer2DModel

SD3_SCALE, SD3_SHIFT = 1.5305, 0.0609
"""A raw SD3 latent is z / SD3_SCALE + SD3_SHIFT, with z of about unit variance."""

SD3_CHANNELS, SD3_STRIDE = 16, 8
SMALL_AUTOENCODER = PHOTO.file
"""The file with the small autoencoder of SD3's latents that comes along: the photo prior's."""

_HEAD = 64
_PICKLES = {".ckpt", ".pt", ".pth", ".bin", ".pkl", ".pickle"}
_SIGN = "joint_blocks.0.context_block.attn.qkv.weight"
_TRANSFORMER_PREFIXES = ("model.diffusion_model.", "")
_AUTOENCODER_PREFIXES = ("first_stage_model.", "vae.", "")
# Files without prefixes may also hold an autoencoder or text encoders.
_TRANSFORMER_ROOTS = (
    "joint_blocks.",
    "x_embedder.",
    "t_embedder.",
    "y_embedder.",
    "context_embedder.",
    "final_layer.",
    "pos_embed",
)
_TINY_SIGN, _KL_SIGN = "taesd_decoder.1.weight", "decoder.conv_in.weight"
# Other models, by a substring of a tensor's name, for error messages; the first match is reported.
_OTHERS = (
    ("lora_", "a LoRA"),
    ("double_blocks.", "a Flux model"),
    ("conditioner.embedders.", "an SDXL model"),
    ("input_blocks.", "a Stable Diffusion 1, 2 or SDXL model"),
    ("transformer_blocks.0.attn.add_q_proj", "a diffusers transformer (give its model folder)"),
    ("text_model.", "a text encoder"),
    ("taesd_decoder.", "an autoencoder alone"),
    ("decoder.", "an autoencoder alone"),
)


class Checkpoint(Mapping[str, Tensor]):
    """The tensors of one safetensors file by name, read on access.

    Raises ValueError, in one sentence, for a missing, truncated or corrupt file and for a pickle.
    """

    def __init__(self, path: str | Path):
        from safetensors import SafetensorError, safe_open

        self.path = Path(path)
        if self.path.suffix.lower() in _PICKLES:
            raise ValueError(self._pickle())
        if not self.path.is_file():
            raise ValueError(f"{self.path} is not a file; expected a safetensors checkpoint")
        size = self.path.stat().st_size
        with self.path.open("rb") as file:
            start = file.read(9)
        length = struct.unpack("<Q", start[:8])[0] if len(start) == 9 else 0
        if start[8:] != b"{" or length > size - 8:
            # The first bytes of zip archives and pickle streams.
            if start.startswith(b"PK\x03\x04") or re.match(rb"\x80[\x02-\x05]", start):
                raise ValueError(self._pickle())
            raise ValueError(
                f"{self.path} is truncated or not a safetensors file ({size} bytes);"
                " download or copy it again"
            )
        try:
            self._file: Any = safe_open(str(self.path), framework="pt", device="cpu")
        except (SafetensorError, OSError) as error:
            raise ValueError(
                f"{self.path} is corrupt or truncated ({error}); download or copy it again"
            ) from error
        self._keys = dict.fromkeys(self._file.keys())

    def _pickle(self) -> str:
        return (
            f"{self.path} is a pickle, which can run any program when it is opened;"
            " only safetensors files are accepted"
        )

    def __getitem__(self, key: str) -> Tensor:
        if key not in self._keys:
            raise KeyError(key)
        return self._file.get_tensor(key)

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __iter__(self):
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def part(self, prefix: str, roots: tuple[str, ...]) -> dict[str, Tensor]:
        """Tensors whose names begin with ``prefix`` and one of ``roots``, keyed without prefix."""
        wanted = tuple(prefix + root for root in roots)
        return {k[len(prefix) :]: self[k] for k in self._keys if k.startswith(wanted)}


@dataclass(frozen=True)
class Autoencoder:
    """diffusers' AutoencoderKL or AutoencoderTiny ``module``, whose latents are
    ``latents * factor + offset`` in terms of the model's."""

    module: Any
    factor: float
    offset: float


def _prefix(keys: Mapping[str, Tensor], prefixes: tuple[str, ...], sign: str) -> str | None:
    return next((prefix for prefix in prefixes if prefix + sign in keys), None)


def _load(module: torch.nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Assign the tensors of ``state`` to ``module``, which is on the meta device."""
    expected = module.state_dict()
    wrong = sorted(expected.keys() ^ state.keys()) or [
        key for key in expected if expected[key].shape != state[key].shape
    ]
    if wrong:
        raise ValueError(
            f"{path} is not a complete SD3 model: {len(wrong)} tensors are missing, unknown or of"
            f" another shape, such as {wrong[0]!r}"
        )
    module.load_state_dict(state, assign=True)


def transformer_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of diffusers' ``SD3Transformer2DModel`` for tensors in SD3's original layout."""
    width, channels, patch, _ = state["x_embedder.proj.weight"].shape
    depth = 1 + max(int(k.split(".")[1]) for k in state if k.startswith("joint_blocks."))
    dual = {int(k.split(".")[1]) for k in state if ".attn2.qkv.weight" in k}
    if width % _HEAD:
        raise ValueError(f"the transformer is {width} wide; SD3 has a multiple of {_HEAD}")
    side = round(state["pos_embed"].shape[1] ** 0.5)
    return {
        "sample_size": side * patch,
        "patch_size": patch,
        "in_channels": channels,
        "num_layers": depth,
        "attention_head_dim": _HEAD,
        "num_attention_heads": width // _HEAD,
        "joint_attention_dim": state["context_embedder.weight"].shape[1],
        "caption_projection_dim": width,
        "pooled_projection_dim": state["y_embedder.mlp.0.weight"].shape[1],
        "out_channels": state["final_layer.linear.weight"].shape[0] // patch**2,
        "pos_embed_max_size": side,
        "dual_attention_layers": tuple(sorted(dual)),
        "qk_norm": "rms_norm" if "joint_blocks.0.x_block.attn.ln_q.weight" in state else None,
    }


def check_sd3(file: Checkpoint) -> None:
    """ValueError, naming the kind of model found, unless ``file`` holds an SD3 transformer."""
    if _prefix(file, _TRANSFORMER_PREFIXES, _SIGN) is None:
        found = next((name for sign, name in _OTHERS if any(sign in k for k in file)), None)
        named = f" such as {min(file)!r}" if len(file) else ""
        found = found or f"{len(file)} tensors{named}"
        raise ValueError(f"{file.path} is not an SD3 model: it holds {found}")


def load_transformer(file: Checkpoint) -> SD3Transformer2DModel:
    """The transformer of ``file``, in the dtype of the file.

    Raises ValueError if the file holds none or an incomplete one.
    """
    from diffusers import SD3Transformer2DModel
    from diffusers.loaders.single_file_utils import convert_sd3_transformer_checkpoint_to_diffusers

    check_sd3(file)
    state = file.part(_prefix(file, _TRANSFORMER_PREFIXES, _SIGN) or "", _TRANSFORMER_ROOTS)
    try:
        config = transformer_config(state)
        with torch.device("meta"):
            model = SD3Transformer2DModel(**config)
        converted = convert_sd3_transformer_checkpoint_to_diffusers(state)
    except KeyError as error:
        raise ValueError(
            f"{file.path} is not a complete SD3 model: it lacks the tensor {error}"
        ) from error
    _load(model, converted, file.path)
    return model


def _tiny(state: dict[str, Tensor], path: Path) -> Autoencoder:
    from diffusers import AutoencoderTiny

    # ComfyUI's defaults for files without scale and shift.
    scale = float(state.get("vae_scale", torch.tensor(1.0)))
    shift = float(state.get("vae_shift", torch.tensor(0.0)))
    if not scale:
        raise ValueError(f"{path} has an autoencoder with vae_scale 0")
    channels = state[_TINY_SIGN].shape[1]
    with torch.device("meta"):
        model = AutoencoderTiny(latent_channels=channels)
    layers = {}
    for key, value in state.items():
        if match := re.match(r"taesd_(encoder|decoder)\.(\d+)\.(.+)", key):
            side, index, rest = match[1], int(match[2]), match[3]
            # Layer 0 of the original decoder is its clamp, which diffusers does not count.
            layers[f"{side}.layers.{index - (side == 'decoder')}.{rest}"] = value
    _load(model, layers, path)
    return Autoencoder(model, scale / SD3_SCALE, (SD3_SHIFT - shift) * scale)


def _kl(state: dict[str, Tensor], path: Path) -> Autoencoder:
    from diffusers import AutoencoderKL
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    levels = 1 + max(int(k.split(".")[2]) for k in state if k.startswith("encoder.down."))
    widths = tuple(state[f"encoder.down.{i}.block.0.conv1.weight"].shape[0] for i in range(levels))
    config = {
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "block_out_channels": widths,
        "layers_per_block": len({k.split(".")[4] for k in state if ".down.0.block." in k}),
        "latent_channels": state[_KL_SIGN].shape[1],
        "use_quant_conv": False,
        "use_post_quant_conv": False,
        "scaling_factor": SD3_SCALE,
        "shift_factor": SD3_SHIFT,
    }
    with torch.device("meta"):
        model = AutoencoderKL(**config)
    _load(model, convert_ldm_vae_checkpoint(state, config), path)
    return Autoencoder(model, 1 / SD3_SCALE, SD3_SHIFT)


def is_sd3_latent(channels: int, stride: int, scale: float, shift: float) -> bool:
    """Whether latents are SD3's, by their channels, pixels per cell, and the two numbers above."""
    known = abs(scale - SD3_SCALE) < 1e-3 and abs(shift - SD3_SHIFT) < 1e-3
    return known and (channels, stride) == (SD3_CHANNELS, SD3_STRIDE)


def load_autoencoder(file: Checkpoint) -> Autoencoder | None:
    """The autoencoder of ``file`` (TAESD or SD3's), or None if it has none."""
    kinds = (
        (_TINY_SIGN, ("taesd_encoder.", "taesd_decoder.", "vae_scale", "vae_shift"), _tiny),
        (_KL_SIGN, ("encoder.", "decoder."), _kl),
    )
    for sign, roots, load in kinds:
        prefix = _prefix(file, _AUTOENCODER_PREFIXES, sign)
        if prefix is None:
            continue
        try:
            return load(file.part(prefix, roots), file.path)
        except KeyError as error:
            raise ValueError(
                f"{file.path} has an incomplete autoencoder: it lacks the tensor {error}"
            ) from error
    return None
