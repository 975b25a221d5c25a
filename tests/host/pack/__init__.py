"""Nodes that only the tests use: they look into a run from inside the host's own executor."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import hashlib
import importlib
import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import comfy.ldm.wan.model
import comfy.ldm.wan.vae
import comfy.model_detection
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.samplers
import comfy.sd
import comfy.supported_models
import comfy.utils
import folder_paths
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

PACK = "ComfyUI-FlowDPS"


def ours(name: str) -> Any:
    """A module of the pack under test, whatever name the host has loaded it under."""
    (root,) = (key for key in sys.modules if key.endswith(f"custom_nodes/{PACK}"))
    return sys.modules[f"{root}.{name}" if name else root]


class Anything(str):
    """A socket type that takes every other."""

    def __ne__(self, other: object) -> bool:
        return False


ANY = Anything("*")
TEXT: tuple[str, dict[str, Any]] = ("STRING", {"default": ""})


def _output(name: str) -> Path:
    return Path(folder_paths.get_output_directory()) / f"{name}.safetensors"


def _write(name: str, tensors: dict[str, Tensor]) -> None:
    plain = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    save_file(plain, _output(name))


class _Test:
    """What every node here has in common."""

    CATEGORY = "FlowDPS tests"
    FUNCTION = "run"
    OUTPUT_NODE = False
    RETURN_TYPES: tuple[str, ...] = ()

    @classmethod
    def inputs(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        given = cls.inputs()
        rest = {k: v for k, v in given.items() if k.startswith("maybe_")}
        return {
            "required": {k: v for k, v in given.items() if k not in rest},
            "optional": rest,
        }


class _Fresh(_Test):
    """One that runs anew in every prompt."""

    @classmethod
    def IS_CHANGED(cls, **_: Any) -> float:
        return float("nan")


class Record(_Test):
    """Write the tensor of any value to a file; tell what is none."""

    OUTPUT_NODE = True

    @classmethod
    def inputs(cls) -> dict[str, Any]:
        return {"value": (ANY,), "name": TEXT}

    def run(self, value: Any, name: str) -> dict[str, Any]:
        if hasattr(value, "to_dict"):
            value = value.to_dict()
        if isinstance(value, dict) and "samples" in value:
            value = value["samples"]
        if isinstance(value, float | int | str | dict):
            return {"ui": {"text": [json.dumps(value)]}}
        _write(name, {"value": value if isinstance(value, Tensor) else value.y})
        return {"ui": {"text": [json.dumps(list(getattr(value, "shape", ())))]}}


class NaN(_Test):
    """The picture with one broken pixel."""

    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def inputs(cls) -> dict[str, Any]:
        return {"image": ("IMAGE",)}

    def run(self, image: Tensor) -> tuple[Tensor]:
        image = image.clone()
        image[0, 3, 4, 1] = float("nan")
        return (image,)


class Conditioning(_Test):
    """Random text of three tokens, with or without its pooled vector, a mask that keeps all of
    them, and the states of two layers of a language model; NaN for a seed below 0."""

    RETURN_TYPES = ("CONDITIONING",)

    @classmethod
    def inputs(cls) -> dict[str, Any]:
        return {
            "width": ("INT", {"max": 9999}),
            "pooled": ("INT", {"default": 0, "max": 9999}),
            "seed": ("INT", {"min": -1}),
            "maybe_mask": ("BOOLEAN", {"default": False}),
            "maybe_layers": ("BOOLEAN", {"default": False}),
        }

    def run(
        self,
        width: int,
        pooled: int,
        seed: int,
        maybe_mask: bool = False,
        maybe_layers: bool = False,
    ) -> tuple[Any]:
        generator = torch.Generator().manual_seed(abs(seed))
        context = torch.randn(1, 3, width, generator=generator)
        if seed < 0:
            context = context * float("nan")
        values = {"pooled_output": torch.randn(1, pooled, generator=generator)} if pooled else {}
        if maybe_mask:
            values["attention_mask"] = torch.ones(1, 3, dtype=torch.long)
        if maybe_layers:
            values["conditioning_llama3"] = torch.randn(1, 2, 3, width, generator=generator)
        return ([[context, values]],)


class Load(_Test):
    """A model by its file, in a precision that the host would not choose on a CPU."""

    RETURN_TYPES = ("MODEL", "VAE")

    @classmethod
    def inputs(cls) -> dict[str, Any]:
        return {"file": TEXT, "dtype": TEXT}

    def run(self, file: str, dtype: str) -> tuple[Any, Any]:
        path = str(Path(folder_paths.get_folder_paths("checkpoints")[0]) / file)
        state = comfy.utils.load_torch_file(path)
        kind = getattr(torch, dtype)
        model = comfy.sd.load_diffusion_model_state_dict(dict(state), model_options={"dtype": kind})
        prefix = "first_stage_model."
        parts = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        return model, comfy.sd.VAE(sd=parts, dtype=kind)


KL = {
    "double_z": True,
    "z_channels": 16,
    "resolution": 64,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 32,
    "ch_mult": [1, 1, 1, 1],
    "num_res_blocks": 1,
    "attn_resolutions": [],
    "dropout": 0.0,
}


class LoadKL(_Test):
    """SD3's own kind of autoencoder, in miniature: the host reads only its full size from files."""

    RETURN_TYPES = ("VAE",)

    @classmethod
    def inputs(cls) -> dict[str, Any]:
        return {"file": TEXT}

    def run(self, file: str) -> tuple[Any]:
        path = Path(folder_paths.get_folder_paths("vae")[0]) / file
        root = "comfy.ldm.modules.diffusionmodules.model"
        real = comfy.sd.AutoencodingEngine

        def small(**_: Any) -> Any:
            return real(
                regularizer_config={
                    "target": "comfy.ldm.models.autoencoder.DiagonalGaussianRegularizer"
                },
                encoder_config={"target": f"{root}.Encoder", "params": KL},
                decoder_config={"target": f"{root}.Decoder", "params": KL},
            )

        comfy.sd.AutoencodingEngine = small
        try:
            return (comfy.sd.VAE(sd=load_file(path)),)
        finally:
            comfy.sd.AutoencodingEngine = real


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _randomised(module: nn.Module, seed: int, size: float) -> nn.Module:
    generator = _seeded(seed)
    with torch.inference_mode(False), torch.no_grad():
        for name, value in module.named_parameters():
            centre = 1.0 if "norm" in name or "gamma" in name else 0.0
            spread = size / max(1.0, value[0].numel() ** 0.5) if value.ndim > 1 else 0.02
            value.copy_(centre + spread * torch.randn(value.shape, generator=generator))
    return module


class MakeWan(_Test):
    """Write a tiny random Wan 2.1 to models/diffusion_models."""

    OUTPUT_NODE = True

    def run(self) -> dict[str, Any]:
        with torch.inference_mode(False):
            network = comfy.ldm.wan.model.WanModel(
                model_type="t2v",
                patch_size=(1, 2, 2),
                in_dim=16,
                dim=128,
                ffn_dim=64,
                freq_dim=256,
                text_dim=4096,
                out_dim=16,
                num_heads=1,
                num_layers=1,
                operations=comfy.ops.disable_weight_init,
                dtype=torch.float32,
                device="cpu",
            )
            state = _randomised(network, 5, 0.7).state_dict()
        folder = Path(folder_paths.get_folder_paths("diffusion_models")[0])
        folder.mkdir(parents=True, exist_ok=True)
        save_file({k: v.detach().clone() for k, v in state.items()}, folder / "wan.safetensors")
        return {"ui": {"text": ["done"]}}


ROPE = [16, 56, 56]
FLUX = {
    "context_in_dim": 64,
    "hidden_size": 128,
    "mlp_ratio": 2.0,
    "num_heads": 1,
    "depth": 2,
    "depth_single_blocks": 2,
    "axes_dim": ROPE,
    "theta": 10000,
    "qkv_bias": True,
    "txt_ids_dims": [],
}
SD3 = {
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 2,
    "depth": 2,
    "input_size": None,
    "adm_in_channels": 32,
    "context_embedder_config": {
        "target": "torch.nn.Linear",
        "params": {"in_features": 64, "out_features": 128},
    },
    "num_patches": 48**2,
    "pos_embed_max_size": 48,
    "pos_embed_scaling_factor": None,
}
LUMINA2 = {
    "patch_size": 2,
    "in_channels": 16,
    "dim": 96,
    "n_layers": 2,
    "n_refiner_layers": 2,
    "n_heads": 1,
    "n_kv_heads": 1,
    "qk_norm": True,
    "cap_feat_dim": 64,
    "axes_dims": [32, 32, 32],
    "axes_lens": [300, 512, 512],
}
FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "Flux": (
        "flux.model",
        "FluxParams",
        {
            **FLUX,
            "in_channels": 16,
            "out_channels": 16,
            "patch_size": 2,
            "vec_in_dim": 32,
            "guidance_embed": True,
        },
    ),
    "Chroma": (
        "chroma.model",
        "ChromaParams",
        {
            **FLUX,
            "in_channels": 64,
            "out_channels": 64,
            "patch_size": 2,
            "in_dim": 64,
            "out_dim": 128,
            "hidden_dim": 64,
            "n_layers": 2,
            "vec_in_dim": None,
        },
    ),
    # In pixels, without an autoencoder.
    "ChromaRadiance": (
        "chroma_radiance.model",
        "ChromaRadianceParams",
        {
            **FLUX,
            "in_channels": 3,
            "out_channels": 3,
            "patch_size": 16,
            "in_dim": 64,
            "out_dim": 128,
            "hidden_dim": 64,
            "n_layers": 2,
            "vec_in_dim": None,
            "nerf_hidden_size": 16,
            "nerf_mlp_ratio": 2,
            "nerf_depth": 2,
            "nerf_max_freqs": 4,
            "nerf_tile_size": 512,
            "nerf_final_head_type": "conv",
            "nerf_embedder_dtype": torch.float32,
            "use_x0": False,
            "use_sequential_txt_ids": False,
        },
    ),
    "SD3": ("", "", SD3),
    "SD35Medium": ("", "", {**SD3, "qk_norm": "rms", "x_block_self_attn_layers": [0]}),
    "SD35Large": ("", "", {**SD3, "qk_norm": "rms", "x_block_self_attn_layers": []}),
    "Flux2": (
        "flux.model",
        "FluxParams",
        {
            **FLUX,
            "in_channels": 128,
            "out_channels": 128,
            "patch_size": 1,
            "axes_dim": [32, 32, 32, 32],
            "mlp_ratio": 3.0,
            "theta": 2000,
            "qkv_bias": False,
            "ops_bias": False,
            "vec_in_dim": None,
            "guidance_embed": True,
            "txt_ids_dims": [3],
            "global_modulation": True,
            "mlp_silu_act": True,
            "default_ref_method": "index",
            "ref_index_scale": 10.0,
        },
    ),
    "HiDream": (
        "",
        "",
        {
            "in_channels": 16,
            "out_channels": 16,
            "patch_size": 2,
            "num_layers": 1,
            "num_single_layers": 1,
            "attention_head_dim": 128,
            "num_attention_heads": 1,
            "caption_channels": [64, 64],
            "text_emb_dim": 32,
            "num_routed_experts": 4,
            "num_activated_experts": 2,
            "axes_dims_rope": [64, 32, 32],
            "max_resolution": [128, 128],
            "llama_layers": [0, 1],
        },
    ),
    "Wan": (
        "",
        "",
        {
            "model_type": "t2v",
            "patch_size": (1, 2, 2),
            "in_dim": 16,
            "out_dim": 16,
            "dim": 128,
            "ffn_dim": 64,
            "freq_dim": 256,
            "text_dim": 64,
            "num_heads": 1,
            "num_layers": 1,
        },
    ),
    "Lumina2": ("", "", LUMINA2),
    "ZImage": (
        "",
        "",
        {
            **LUMINA2,
            "dim": 256,
            "n_heads": 2,
            "n_kv_heads": 2,
            "axes_dims": [32, 48, 48],
            "rope_theta": 256.0,
            "ffn_dim_multiplier": 8 / 3,
            "z_image_modulation": True,
            "time_scale": 1000.0,
            "pad_tokens_multiple": 32,
        },
    ),
    "QwenImage": (
        "qwen_image.model",
        "",
        {
            "in_channels": 64,
            "out_channels": 16,
            "num_layers": 2,
            "num_attention_heads": 1,
            "joint_attention_dim": 64,
            "axes_dims_rope": ROPE,
        },
    ),
    "Omnigen2": (
        "omnigen.omnigen2",
        "",
        {
            "in_channels": 16,
            "hidden_size": 96,
            "num_layers": 2,
            "num_refiner_layers": 2,
            "num_attention_heads": 1,
            "num_kv_heads": 1,
            "axes_dim_rope": [32, 32, 32],
            "axes_lens": [300, 512, 512],
            "text_feat_dim": 64,
        },
    ),
    "HunyuanVideo": (
        "hunyuan_video.model",
        "HunyuanVideoParams",
        {
            **FLUX,
            "in_channels": 16,
            "out_channels": 16,
            "patch_size": [1, 2, 2],
            "vec_in_dim": 32,
            "guidance_embed": True,
            "byt5": False,
            "meanflow": False,
            "use_cond_type_embedding": False,
            "vision_in_dim": None,
            "meanflow_sum": False,
        },
    ),
}
"""Small sizes of families: module and class that list what this version of the host takes (if there
is such a class), and the values."""
CLASSES = {"SD35Medium": "SD3", "SD35Large": "SD3", "Wan": "WAN21_T2V"}
"""The host's names of the families that it calls otherwise."""
TELLING: dict[str, dict[str, Any]] = {"ZImage": {"dim": 3840, "n_heads": 30, "n_kv_heads": 30}}
"""Sizes by which the host recognises a family; the others are recognised in any size."""


class MakeFamily(_Test):
    """A small random MODEL of one of the families, in float32, and the class that the host finds in
    its weights, as it does with files; "" for both where this host does not know the family."""

    RETURN_TYPES = ("MODEL", "STRING")

    @classmethod
    def inputs(cls) -> dict[str, Any]:
        return {"family": TEXT}

    def run(self, family: str) -> tuple[Any, str]:
        name = CLASSES.get(family, family)
        if not hasattr(comfy.supported_models, name):
            return "", ""
        with torch.inference_mode(False):
            model = self.model(name, FAMILIES[family])
            network = _randomised(model.diffusion_model, 7, 1.0)
            for buffer in network.buffers():
                buffer.copy_(0.1 * torch.randn(buffer.shape, generator=_seeded(8)))
            if family in TELLING:
                network = type(network)(
                    **{**FAMILIES[family][2], **TELLING[family]},
                    dtype=torch.float32,
                    device="meta",
                    operations=comfy.ops.disable_weight_init,
                )
        found = comfy.model_detection.model_config_from_unet(network.state_dict(), "")
        device = comfy.model_management.get_torch_device()
        patcher = comfy.model_patcher.ModelPatcher(model, device, torch.device("cpu"))
        return patcher, type(found).__name__

    def model(self, name: str, sizes: tuple[str, str, dict[str, Any]]) -> Any:
        module, params, values = sizes
        if params:
            kind = getattr(importlib.import_module(f"comfy.ldm.{module}"), params)
            known = {each.name for each in dataclasses.fields(kind)}
            values = {name: value for name, value in values.items() if name in known}
        config = getattr(comfy.supported_models, name)({**values})
        config.set_inference_dtype(torch.float32, None)
        config.custom_operations = comfy.ops.disable_weight_init
        return config.get_model({}, "")


class LoadFlux2VAE(_Test):
    """Flux 2's own kind of autoencoder, narrow and random: 128 channels, 16 times smaller."""

    RETURN_TYPES = ("VAE",)

    def run(self) -> tuple[Any]:
        real = comfy.sd.AutoencoderKL

        def narrow(**_: Any) -> Any:
            values = {**KL, "z_channels": 32, "batch_norm_latent": True}
            return real(ddconfig=values, embed_dim=32)

        with torch.inference_mode(False):
            state = _randomised(narrow(), 6, 1.0).state_dict()
        comfy.sd.AutoencoderKL = narrow
        try:
            return (comfy.sd.VAE(sd={k: v.clone() for k, v in state.items()}),)
        finally:
            comfy.sd.AutoencoderKL = real


class LoadWanVAE(_Test):
    """Wan's own kind of autoencoder, narrow and random: three-dimensional, causal in time."""

    RETURN_TYPES = ("VAE",)

    def run(self) -> tuple[Any]:
        real = comfy.ldm.wan.vae.WanVAE

        def narrow(**values: Any) -> Any:
            return real(**{**values, "dim": 8})

        with torch.inference_mode(False):
            network = narrow(
                z_dim=16,
                dim_mult=[1, 2, 4, 4],
                num_res_blocks=2,
                attn_scales=[],
                temperal_downsample=[False, True, True],
                dropout=0.0,
            )
            state = _randomised(network, 6, 1.0).state_dict()
        comfy.ldm.wan.vae.WanVAE = narrow
        try:
            return (comfy.sd.VAE(sd={k: v.clone() for k, v in state.items()}),)
        finally:
            comfy.ldm.wan.vae.WanVAE = real


class Watch(_Fresh):
    """The same SAMPLER, which writes down each step, whether it used torch's own generator, and for
    how much memory it asked the host first."""

    RETURN_TYPES = ("SAMPLER",)

    @classmethod
    def inputs(cls) -> dict[str, Any]:
        return {"sampler": ("SAMPLER",), "name": TEXT}

    def run(self, sampler: Any, name: str) -> tuple[Any]:
        def watched(model: Any, x: Tensor, sigmas: Tensor, **given: Any) -> Tensor:
            seen: dict[str, Tensor] = {"start": x}
            tell = given.pop("callback", None)

            def callback(step: dict[str, Any]) -> None:
                seen[f"denoised{step['i']}"] = step["denoised"]
                if tell is not None:
                    tell(step)

            load, asked = comfy.model_management.load_models_gpu, []

            def listening(models: Any, memory_required: float = 0, **more: Any) -> Any:
                asked.append(float(memory_required))
                return load(models, memory_required=memory_required, **more)

            before = torch.get_rng_state()
            comfy.model_management.load_models_gpu = listening
            try:
                answer = sampler.sampler_function(model, x, sigmas, callback=callback, **given)
            finally:
                comfy.model_management.load_models_gpu = load
            seen["asked"] = torch.tensor(asked[0])
            untouched = torch.equal(before, torch.get_rng_state())
            _write(name, {**seen, "answer": answer, "rng_untouched": torch.tensor(untouched)})
            return answer

        return (comfy.samplers.KSAMPLER(watched),)


class Compile(_Test):
    """The MODEL compiled as the host's TorchCompileModel does it, by a backend that needs no
    compiler: it runs the traced graph as it is, and counts how often."""

    RETURN_TYPES = ("MODEL",)
    graphs, calls = 0, 0

    @classmethod
    def inputs(cls) -> dict[str, Any]:
        return {"model": ("MODEL",)}

    def run(self, model: Any) -> tuple[Any]:
        from comfy_api.torch_helpers import set_torch_compile_wrapper

        def backend(graph: Any, _: Any) -> Any:
            Compile.graphs += 1

            def counted(*args: Any) -> Any:
                Compile.calls += 1
                return graph.forward(*args)

            return counted

        # Newer hosts have another kind of MODEL, which loads weights piece by piece.
        newer = "disable_dynamic" in inspect.signature(model.clone).parameters
        model = model.clone(disable_dynamic=True) if newer else model.clone()
        set_torch_compile_wrapper(model=model, backend=backend)
        return (model,)


class CompiledCalls(_Fresh):
    """Numbers of graphs that were traced, and of their calls, after a value was made."""

    OUTPUT_NODE = True

    @classmethod
    def inputs(cls) -> dict[str, Any]:
        return {"after": (ANY,)}

    def run(self, after: Any) -> dict[str, Any]:
        return {"ui": {"text": [json.dumps([Compile.graphs, Compile.calls])]}}


class Randomness(_Fresh):
    """Whether the nodes before a sampler leave torch's own generator alone."""

    OUTPUT_NODE = True

    @classmethod
    def inputs(cls) -> dict[str, Any]:
        return {"image": ("IMAGE",)}

    def run(self, image: Tensor) -> dict[str, Any]:
        import nodes

        found = nodes.NODE_CLASS_MAPPINGS
        before = torch.get_rng_state()
        for task in ours("operators").TASKS:
            (operator,) = found["FlowDPS_DegradationOperator"].execute(task, 5, 3).args
            found["FlowDPS_EncodeMeasurement"].execute(image, operator, "simulate", 0.1, 7)
        used = not torch.equal(before, torch.get_rng_state())
        return {"ui": {"text": [json.dumps(used)]}}


def _plain_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    rows = [t.flatten(2).transpose(1, 2) for t in (q, k, v)]
    weights = (rows[0] @ rows[1].transpose(1, 2) / q.shape[1] ** 0.5).softmax(-1)
    return (weights @ rows[2]).transpose(1, 2).reshape(q.shape)


def _plain(vae: Any) -> Any:
    """A copy of ``vae`` in float32 with nothing of the host's or ours on its modules."""
    twin = copy.copy(vae)
    twin.vae_dtype = torch.float32
    twin.first_stage_model = copy.deepcopy(vae.first_stage_model).float().requires_grad_(False)
    for part in twin.first_stage_model.modules():
        if "optimized_attention" in part.__dict__:
            part.optimized_attention = _plain_attention
    return twin


class _Counting(nn.Module):
    """An autoencoder that counts its decodings and, at one of them, stops the run."""

    count = 0

    def __init__(self, inner: nn.Module, at: int, how: str):
        super().__init__()
        self.inner, self.at, self.how = inner, at, how
        if how in ("memory", "nothing"):
            self.taesd_decoder = inner.taesd_decoder

    def encode(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        return self.inner.encode(x, *args, **kwargs)

    def decode(self, z: Tensor, *args: Any, **kwargs: Any) -> Any:
        _Counting.count += 1
        if _Counting.count == self.at and self.how == "interrupt":
            comfy.model_management.interrupt_current_processing()
        if _Counting.count == self.at and self.how == "raise":
            raise RuntimeError("the test stops here")
        if _Counting.count == self.at and self.how == "memory":
            raise torch.cuda.OutOfMemoryError("the test's memory is full")
        return self.inner.decode(z, *args, **kwargs)


class Saboteur(_Fresh):
    """The same VAE, whose decoder counts and, at decoding number ``at``, cancels or fails."""

    RETURN_TYPES = ("VAE",)

    @classmethod
    def inputs(cls) -> dict[str, Any]:
        return {"vae": ("VAE",), "at": ("INT", {"default": 0}), "how": TEXT}

    def run(self, vae: Any, at: int, how: str) -> tuple[Any]:
        broken = copy.copy(vae)
        _Counting.count = 0
        broken.first_stage_model = _Counting(vae.first_stage_model, at, how)
        return (broken,)


class _Struck(nn.Module):
    """An autoencoder in which ``strike(network, result)`` follows every pass."""

    def __init__(self, inner: nn.Module, strike: Any):
        super().__init__()
        self.inner, self.strike = inner, strike
        for name in ("taesd_encoder", "taesd_decoder"):
            if hasattr(inner, name):
                setattr(self, name, getattr(inner, name))

    def encode(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        return self.strike("encoder", self.inner.encode(x, *args, **kwargs))

    def decode(self, z: Tensor, *args: Any, **kwargs: Any) -> Any:
        return self.strike("decoder", self.inner.decode(z, *args, **kwargs))


class Fault(_Fresh):
    """MODEL and VAE of which one fails from pass number ``at`` on: ``where`` is transformer,
    decoder, encoder or patch, ``how`` is memory, raise or nan."""

    RETURN_TYPES = ("MODEL", "VAE")

    @classmethod
    def inputs(cls) -> dict[str, Any]:
        number = ("INT", {"default": 1})
        return {"model": ("MODEL",), "vae": ("VAE",), "where": TEXT, "how": TEXT, "at": number}

    def run(self, model: Any, vae: Any, where: str, how: str, at: int) -> tuple[Any, Any]:
        passes = 0

        def strike(network: str, result: Any) -> Any:
            nonlocal passes
            passes += network == where
            if network != where or passes < at:
                return result
            if how == "memory":
                raise torch.cuda.OutOfMemoryError("the test's memory is full")
            if how == "raise":
                raise RuntimeError("the test stops here")
            return result * float("nan")

        struck, broken = model.clone(), copy.copy(vae)
        broken.first_stage_model = _Struck(vae.first_stage_model, strike)

        def wrapped(apply: Any, given: dict[str, Any]) -> Any:
            result = apply(given["input"], given["timestep"], **given["c"])
            return strike("transformer", result)

        struck.set_model_unet_function_wrapper(wrapped)
        struck.set_model_sampler_post_cfg_function(lambda given: strike("patch", given["denoised"]))
        return struck, broken


class Count(_Fresh):
    """How often the saboteur's decoder was called."""

    OUTPUT_NODE = True

    def run(self) -> dict[str, Any]:
        return {"ui": {"text": [json.dumps(_Counting.count)]}}


class Attributes(_Fresh):
    """A fingerprint of everything that hangs on the modules of MODEL and VAE themselves."""

    OUTPUT_NODE = True

    @classmethod
    def inputs(cls) -> dict[str, Any]:
        return {"model": ("MODEL",), "vae": ("VAE",), "maybe_after": (ANY,)}

    def run(self, model: Any, vae: Any, maybe_after: Any = None) -> dict[str, Any]:
        found = []
        skip = {"_parameters", "_buffers", "_modules"}
        for root in (model.model, vae.first_stage_model):
            for name, part in root.named_modules():
                for key, value in sorted(part.__dict__.items()):
                    if key in skip:
                        continue
                    if callable(value):
                        value = getattr(value, "__qualname__", type(value).__name__)
                    elif isinstance(value, list):
                        value = [getattr(f, "__qualname__", type(f).__name__) for f in value]
                    else:
                        value = type(value).__name__
                    found.append(f"{id(root)}:{name}.{key}={value}")
        training = getattr(comfy.model_management, "in_training", None)
        digest = hashlib.sha256("\n".join(found).encode()).hexdigest()
        return {"ui": {"text": [json.dumps({"digest": digest, "training": training})]}}


@contextlib.contextmanager
def _reused_buffer() -> Iterator[None]:
    """Weights live only during their operation, in one buffer that the next one overwrites.

    Their views share storage, but no version counter: autograd cannot notice.
    """
    real = comfy.ops.cast_bias_weight
    buffers: dict[torch.dtype, Tensor] = {}

    def stream(weight: Tensor, functions: Any, dtype: torch.dtype, offset: int) -> Tensor:
        if dtype not in buffers:
            buffers[dtype] = torch.zeros(1 << 22, dtype=dtype)
        storage = buffers[dtype].untyped_storage()
        strides = torch.empty(weight.shape, device="meta").stride()
        view = torch.empty(0, dtype=dtype).set_(storage, offset, weight.shape, strides)
        with torch.no_grad():
            view.copy_(weight)
        for function in functions:
            view = function(view)
        return view

    def cast(s: Any, input: Tensor | None = None, dtype: Any = None, **given: Any) -> Any:
        if input is not None and dtype is None:
            dtype = input.dtype
        weight = stream(s.weight, s.weight_function, dtype, 0)
        bias = None
        if s.bias is not None:
            bias = stream(
                s.bias, s.bias_function, given.get("bias_dtype") or dtype, s.weight.numel()
            )
        return (weight, bias, None) if given.get("offloadable") else (weight, bias)

    comfy.ops.cast_bias_weight = cast
    try:
        yield
    finally:
        comfy.ops.cast_bias_weight = real


def _offloaded(*modules: nn.Module) -> contextlib.ExitStack:
    """Every module of the host's own kind casts its weights when it needs them."""
    stack = contextlib.ExitStack()
    for module in modules:
        for part in module.modules():
            if hasattr(part, "comfy_cast_weights") and "comfy_cast_weights" not in part.__dict__:
                part.comfy_cast_weights = True
                stack.callback(part.__dict__.pop, "comfy_cast_weights", None)
    return stack


STEP = 0.05
"""Length of a central difference's step, in latent standard deviations."""


class Gradient(_Fresh):
    """Write the data gradient at noise level 1 as our prior sees it, and where.

    ``through`` decoder: of the published data loss at z, as FlowDPS and FlowChef use it; model: of
    PSLD's loss with respect to the noisy latents. ``emulate`` what a small GPU makes the host do:
    cast (weights are cast when needed), buffer (into one reused buffer), lowvram (patches applied
    on the fly, too). ``mode`` is the decoder's memory mode, if not the usual one. ``protect`` off
    shows what happens without our clones. Through MODEL, ``slope`` is that of the loss along the
    gradient by a central difference.
    """

    OUTPUT_NODE = True

    @classmethod
    def inputs(cls) -> dict[str, Any]:
        return {
            "model": ("MODEL",),
            "vae": ("VAE",),
            "positive": ("CONDITIONING",),
            "negative": ("CONDITIONING",),
            "cfg": ("FLOAT", {"default": 1.0}),
            "measurement": ("FLOWDPS_MEASUREMENT",),
            "latent": ("LATENT",),
            "through": TEXT,
            "emulate": TEXT,
            "mode": TEXT,
            "protect": ("BOOLEAN", {"default": True}),
            "name": TEXT,
        }

    def run(
        self,
        model: Any,
        vae: Any,
        positive: Any,
        negative: Any,
        cfg: float,
        measurement: Any,
        latent: dict[str, Any],
        through: str,
        emulate: str,
        mode: str,
        protect: bool,
        name: str,
    ) -> dict[str, Any]:
        library, prior_of = ours("samplers.data_loss"), ours("priors.comfy").ComfyPrior
        psld_loss, gradients = (
            ours("samplers.psld").psld_loss,
            ours("priors.gradients.inference_mode"),
        )
        written: dict[str, Tensor] = {}

        def function(denoiser: Any, x: Tensor, sigmas: Tensor, **given: Any) -> Tensor:
            sigma = float(sigmas[0])
            with contextlib.ExitStack() as stack:
                stack.enter_context(torch.inference_mode(False))
                stack.enter_context(torch.no_grad())
                x = x.clone()
                there = measurement.bind(x.device, len(x))
                prior = prior_of(denoiser, vae, given["extra_args"], x)
                reference = None
                if through == "decoder":
                    other = copy.copy(prior)
                    other.vae = _plain(vae)
                    reference = library.DataLoss(other, there, "norm").gradient(x)[1]
                if emulate == "lowvram":
                    patcher = denoiser.inner_model.model_patcher
                    patcher.unpatch_model()
                    patcher.patch_model(patcher.load_device, lowvram_model_memory=1)
                    stack.callback(patcher.detach)
                if emulate in ("cast", "buffer"):
                    stack.enter_context(_offloaded(vae.first_stage_model, prior.base))
                if emulate in ("buffer", "lowvram"):
                    stack.enter_context(_reused_buffer())
                if emulate == "lowvram":
                    prior._load = lambda *_: None
                if not protect:
                    clone, gradients._clone = gradients._clone, lambda weight, *_, **__: weight
                    stack.callback(setattr, gradients, "_clone", clone)
                    passes = ours("priors.comfy")
                    stack.callback(setattr, passes, "overwriting", passes.overwriting)
                    passes.overwriting = contextlib.nullcontext
                loss = library.DataLoss(prior, there, "norm")
                stack.enter_context(prior.session(x.shape, through))
                if mode and prior.decoder_gradient.take(mode) != mode:
                    raise ValueError(f"this decoder has no memory mode {mode}")
                if through == "decoder":
                    value, gradient = loss.gradient(x)
                    written["reference"] = reference
                else:

                    def at(z: Tensor) -> Tensor:
                        return psld_loss(loss, prior.denoise(z, sigma), None)

                    with torch.enable_grad():
                        z = x.clone().requires_grad_()
                        value = at(z)
                        (gradient,) = torch.autograd.grad(value.sum(), z)
                    along = gradient / gradient.norm()
                    rise = at(x + STEP * along) - at(x - STEP * along)
                    written["slope"] = rise / (2 * STEP)
                written.update(start=x, loss=value.detach(), gradient=gradient)
            return x.detach()

        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(positive, negative)
        guider.set_cfg(cfg)
        samples = latent["samples"]
        noise = torch.randn(samples.shape, generator=torch.Generator().manual_seed(11))
        sampler = comfy.samplers.KSAMPLER(function)
        sigmas = torch.tensor([1.0, 0.0])
        guider.sample(noise, samples, sampler, sigmas, seed=11)
        _write(name, written)
        return {"ui": {"text": [json.dumps(float(written["loss"].sum()))]}}


class TilePass(_Fresh):
    """Write what one pass of our prior makes of one tile, and the gradients of it.

    ``tile`` and ``whole`` are JSON lists of cells: top, left, height, width; height, width. The
    latent is of the whole, of which the pass takes its part; or, with ``alone``, everything given
    is of the tile already. The noise is a part of the same noise either way.
    """

    OUTPUT_NODE = True

    @classmethod
    def inputs(cls) -> dict[str, Any]:
        return {
            "model": ("MODEL",),
            "vae": ("VAE",),
            "positive": ("CONDITIONING",),
            "negative": ("CONDITIONING",),
            "latent": ("LATENT",),
            "tile": TEXT,
            "whole": TEXT,
            "alone": ("BOOLEAN", {"default": False}),
            "name": TEXT,
        }

    def run(
        self,
        model: Any,
        vae: Any,
        positive: Any,
        negative: Any,
        latent: dict[str, Any],
        tile: str,
        whole: str,
        alone: bool,
        name: str,
    ) -> dict[str, Any]:
        place = ours("priors.tiling").Tile(*json.loads(tile), tuple(json.loads(whole)))
        written: dict[str, Tensor] = {}

        def function(denoiser: Any, x: Tensor, sigmas: Tensor, **given: Any) -> Tensor:
            sigma = float(sigmas[0])
            with torch.inference_mode(False), torch.no_grad():
                prior = ours("priors.comfy").ComfyPrior(denoiser, vae, given["extra_args"], x)
                with contextlib.ExitStack() as stack:
                    stack.enter_context(prior.session(x.shape, "model"))
                    z = x.clone() if alone else place.of(x).clone()
                    if not alone:
                        stack.enter_context(prior.within(place))
                    written["denoised"] = prior.denoise(z, sigma)
                    with torch.enable_grad():
                        at = z.requires_grad_()
                        z0 = prior.denoise(at, sigma)
                        (written["slope"],) = torch.autograd.grad(z0.square().sum(), at)
                        (written["decoded"],) = torch.autograd.grad(
                            prior.decode(at).square().sum(), at
                        )
            return x

        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(positive, negative)
        guider.set_cfg(3.0)
        samples = latent["samples"]
        shape = (*samples.shape[:-2], *place.whole)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(11))
        sampler = comfy.samplers.KSAMPLER(function)
        guider.sample(
            place.of(noise) if alone else noise,
            samples,
            sampler,
            torch.tensor([0.8, 0.0]),
            denoise_mask=latent.get("noise_mask"),
            seed=11,
        )
        _write(name, written)
        return {"ui": {"text": ["done"]}}


class Weights(_Test):
    """Write the weights that the host holds of MODEL and VAE, in float32."""

    OUTPUT_NODE = True

    @classmethod
    def inputs(cls) -> dict[str, Any]:
        return {"model": ("MODEL",), "vae": ("VAE",), "name": TEXT}

    def run(self, model: Any, vae: Any, name: str) -> dict[str, Any]:
        network = model.model.diffusion_model
        state = {f"model.diffusion_model.{k}": v for k, v in network.state_dict().items()}
        kinds = {str(v.dtype) for v in network.parameters()}
        first = vae.first_stage_model.state_dict()
        state |= {f"first_stage_model.{k}": v for k, v in first.items()}
        kinds_vae = {str(v.dtype) for v in vae.first_stage_model.parameters()}
        _write(name, {k: v.float() for k, v in state.items()})
        return {"ui": {"text": [json.dumps([sorted(kinds), sorted(kinds_vae)])]}}


NODE_CLASS_MAPPINGS = {
    f"FlowDPSTest_{kind.__name__}": kind
    for kind in (
        Record,
        NaN,
        Conditioning,
        Load,
        LoadKL,
        MakeFamily,
        MakeWan,
        LoadWanVAE,
        LoadFlux2VAE,
        Watch,
        Compile,
        CompiledCalls,
        Randomness,
        Saboteur,
        Fault,
        Count,
        Attributes,
        Gradient,
        TilePass,
        Weights,
    )
}
