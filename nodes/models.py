"""Nodes that load a flow model by the host's own loaders, or condition one without text."""
# pyright: reportMissingImports=false

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.model_sampling
import comfy.sd
import comfy.utils
import folder_paths
import torch
import torch.nn.functional as F
from comfy_api.latest import io

from ..priors.built_in import BUILT_IN
from ..priors.comfy import ERRORS, SPECTRUM, USUAL, check_flow, stride_of
from ..priors.error_spectrum import ErrorSpectrum
from ..priors.prune import prune
from .example import PICTURES, picture_image
from .kit import Folder, required, schema, to_images

OURS = {row.title: row for row in BUILT_IN.values()}
"""The priors that come along, by the option that loads them."""
SAME = "from the checkpoint"

# The layer of each model family that takes the text. Its input width is that of a conditioning.
_TEXT_INPUTS = (
    "context_embedder",  # SD3
    "txt_in",  # Flux, Qwen-Image, Chroma
    "cap_embedder.1",  # Lumina 2, Z-Image
    "cond_seq_linear",  # AuraFlow
    "text_embedding.0",  # Wan
)
# The layer that takes the pooled text vector, of families of which the host does not say its width.
_POOLED_INPUTS = ("vector_in.in_layer",)  # Flux


def _width(network: Any, names: Sequence[str]) -> int | None:
    """Input width of the first of the layers ``names`` that ``network`` has; None: it has none."""
    for name in names:
        try:
            return network.get_submodule(name).in_features
        except AttributeError:
            continue
    return None


def with_shift(model: Any, shift: float) -> Any:
    """A clone of the ModelPatcher whose schedule is shifted, as the host's own nodes do it.

    The model keeps its own time scale. A model without a shift is returned as it is.
    """
    sampling = copy.deepcopy(model.get_model_object("model_sampling"))
    if isinstance(sampling, comfy.model_sampling.ModelSamplingDiscreteFlow):
        sampling.set_parameters(shift=shift, multiplier=sampling.multiplier)
    elif isinstance(sampling, comfy.model_sampling.ModelSamplingFlux):
        sampling.set_parameters(shift=math.log(shift))
    else:
        return model
    patched = model.clone()
    patched.add_object_patch("model_sampling", sampling)
    return patched


def fit_patches(model: Any) -> Any:
    """A clone that works with patches of one latent cell, as the demo prior has.

    The host counts patches as ``(n + 1) // patch``, which is one too many for them. Other models
    are returned as they are.
    """
    network = model.model.diffusion_model
    patch = getattr(getattr(network, "x_embedder", None), "patch_size", None)
    if not hasattr(network, "cropped_pos_embed") or patch is None or patch[0] != 1:
        return model
    embed, unpatchify = network.cropped_pos_embed, network.unpatchify

    def fitted_embed(hw: Any, *args: Any, **kwargs: Any) -> Any:
        return embed((hw[0] - 1, hw[1] - 1), *args, **kwargs)

    def fitted_unpatchify(x: Any, hw: Any) -> Any:
        return unpatchify(x, (hw[0] - 1, hw[1] - 1))

    patched = model.clone()
    patched.add_object_patch("diffusion_model.cropped_pos_embed", fitted_embed)
    patched.add_object_patch("diffusion_model.unpatchify", fitted_unpatchify)
    return patched


def without_dead_parts(vae: Any) -> Any:
    """The small VAE of a prior that comes along without its unused channels, if it has some: the
    same pictures, of the demo prior in half the time."""
    network = vae.first_stage_model
    decoder = network.taesd_decoder  # The first layer is its clamp.
    network.taesd_encoder = prune(network.taesd_encoder)
    network.taesd_decoder = torch.nn.Sequential(
        decoder[0], *prune(torch.nn.Sequential(*list(decoder)[1:]))
    )
    if vae.device.type == "cpu":
        network.to(memory_format=torch.channels_last)
    return vae


def with_previews(model: Any, vae: Any) -> Any:
    """Give the demo prior live previews in its own colours.

    Colours are a linear function of the latents, fitted to the pictures that come with the pack:
    the host's own factors are for SD3's latents.
    """
    pictures = torch.cat([picture_image(name) for name in PICTURES])
    form = copy.copy(model.model.latent_format)
    z = form.process_in(vae.encode(pictures)).float().cpu().movedim(1, -1).flatten(0, -2)
    colours = F.avg_pool2d(to_images(pictures), stride_of(vae)).movedim(1, -1).flatten(0, -2)
    ones = torch.ones(len(z), 1)
    fitted = torch.linalg.lstsq(torch.cat([z, ones], 1), colours).solution.tolist()
    form.latent_rgb_factors, form.latent_rgb_factors_bias = fitted[:-1], fitted[-1]
    form.taesd_decoder_name = None
    model.model.latent_format = form
    return model


class LoadFlowPrior(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "LoadFlowPrior",
            Folder.LOAD,
            display_name="Load SD3 Flow Prior",
            description="Loads SD3 or SD3.5, or one of two small models that come with this pack"
            " and need no download.",
            search_aliases=["checkpoint", "sd3", "load model", "flowdps"],
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=[*OURS, *folder_paths.get_filename_list("checkpoints")],
                    default=next(iter(OURS)),
                    tooltip="A checkpoint from models/checkpoints, or one of two small models that"
                    " run at once on any computer: the demo prior only knows emoji-like pictures"
                    " of up to about 256 pixels; the photo prior, photographs of any size, and"
                    " far less well than SD3.",
                ),
                io.Float.Input(
                    "shift",
                    default=4.0,
                    min=0.1,
                    max=100.0,
                    step=0.01,
                    tooltip="Where ComfyUI's own schedulers spend their steps. Below 1: mostly on"
                    " detail; 1: evenly; 4, as in the paper: mostly on the composition; large:"
                    " almost only on it. The built-in schedule of the FlowDPS samplers ignores"
                    " this.",
                ),
                io.Combo.Input(
                    "diffusion_model",
                    options=[SAME, *folder_paths.get_filename_list("diffusion_models")],
                    default=SAME,
                    optional=True,
                    tooltip="A transformer from models/diffusion_models, used instead of the"
                    " checkpoint's.",
                ),
                io.Combo.Input(
                    "vae",
                    options=[SAME, *folder_paths.get_filename_list("vae")],
                    default=SAME,
                    optional=True,
                    tooltip="An autoencoder from models/vae, used instead of the checkpoint's.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The flow model."),
                io.Clip.Output(
                    display_name="clip",
                    tooltip="The text encoders, if the checkpoint has them. The built-in"
                    " priors have none: use Empty Flow Conditioning.",
                ),
                io.Vae.Output(display_name="vae", tooltip="The autoencoder."),
            ],
        )

    @classmethod
    def execute(
        cls, checkpoint: str, shift: float, diffusion_model: str = SAME, vae: str = SAME
    ) -> io.NodeOutput:
        known = OURS.get(checkpoint)
        path = (
            str(known.file)
            if known
            else folder_paths.get_full_path_or_raise("checkpoints", checkpoint)
        )
        model, clip, autoencoder = comfy.sd.load_checkpoint_guess_config(
            path,
            output_vae=True,
            output_clip=known is None,
            embedding_directory=folder_paths.get_folder_paths("embeddings"),
        )[:3]
        if known is not None:
            autoencoder = without_dead_parts(autoencoder)
            if known.own_latents:
                model = with_previews(model, autoencoder)
            model.set_attachments(USUAL, known.usual)
            model.set_attachments(ERRORS, known.velocity_errors)
        if diffusion_model != SAME:
            path = folder_paths.get_full_path_or_raise("diffusion_models", diffusion_model)
            model = comfy.sd.load_diffusion_model(path)
        if vae != SAME:
            path = ""
            file = folder_paths.get_full_path_or_raise("vae", vae)
            autoencoder = comfy.sd.VAE(sd=comfy.utils.load_torch_file(file))
        if model is not None and path and (spectrum := ErrorSpectrum.beside(Path(path))):
            model.set_attachments(SPECTRUM, spectrum)
        if model is None:
            raise ValueError(f"{checkpoint} holds no diffusion model; choose an SD3 checkpoint")
        sampling = model.get_model_object("model_sampling")
        if not isinstance(sampling, comfy.model_sampling.CONST):
            raise ValueError(
                f"{diffusion_model if diffusion_model != SAME else checkpoint} is not a flow model;"
                " expected SD3, SD3.5 or another rectified flow"
            )
        return io.NodeOutput(fit_patches(with_shift(model, shift)), clip, autoencoder)


class EmptyFlowConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "EmptyConditioning",
            Folder.LOAD,
            display_name="Empty Flow Conditioning",
            description="A conditioning of zeros, for models without text encoders, such as the"
            " built-in priors. It is not the same as an empty prompt: for SD3, encode an empty"
            " prompt instead.",
            search_aliases=["unconditional", "no prompt"],
            inputs=[
                io.Model.Input("model", tooltip="The model that the conditioning is for."),
                io.Int.Input(
                    "tokens",
                    default=1,
                    min=1,
                    max=512,
                    tooltip="Length of the sequence. 1 is what the built-in priors were trained"
                    " with; a larger number changes its results.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="conditioning", tooltip="For a sampler's positive input."
                )
            ],
        )

    @classmethod
    def execute(cls, model: Any, tokens: int) -> io.NodeOutput:
        required(model=model)
        check_flow(model)
        network = model.model.diffusion_model
        width = _width(network, _TEXT_INPUTS)
        if width is None:
            raise ValueError(
                "this MODEL takes its text in a way that is not known here: encode an empty prompt"
                " with its CLIP instead"
            )
        values: dict[str, Any] = {}
        pooled = getattr(model.model, "adm_channels", 0) or _width(network, _POOLED_INPUTS)
        if pooled:
            values["pooled_output"] = torch.zeros(1, pooled)
        return io.NodeOutput([[torch.zeros(1, tokens, width), values]])


NODES: list[type[io.ComfyNode]] = [LoadFlowPrior, EmptyFlowConditioning]
