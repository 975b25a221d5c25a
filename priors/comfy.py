"""ComfyUI's MODEL and VAE as a prior; the only module outside ``nodes/`` that imports the host."""
# pyright: reportMissingImports=false

from __future__ import annotations

import contextlib
import copy
import math
import operator
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import comfy.ldm.modules.attention
import comfy.model_management
import comfy.model_sampling
import comfy.samplers
import comfy.sd
import comfy.utils
import torch
from torch import Tensor, nn

from .base import SIDE, BasePrior
from .comfy_tiles import Hints, controls_of, cut_conditions, is_placed
from .gradients.checkpointing import encoder_blocks, transformer_blocks
from .gradients.inference_mode import differentiable, without_inference_mode
from .gradients.inplace import overwriting
from .gradients.modes import DecoderGradient, check_mode
from .sd3_file import SMALL_AUTOENCODER, is_sd3_latent
from .tiling import Tile, cells_of, side_of

Gradients = Literal["none", "decoder", "model"]
"""The networks that gradients of a run go through: with the model, decoder and encoder as well."""
FULL, KEPT = (6.5, 1.8), (1.3, 0.8)
"""Memory of a gradient pass of transformer and encoder, relative to the host's estimate for a pass
without gradient: full, and with checkpointed blocks (``benchmarks/memory.py``, SD3)."""
USUAL = "flowdps_usual_side"
"""Name of a ModelPatcher's attachment: side in pixels of the training images, if not 1024."""
SPECTRUM = "flowdps_error_spectrum"
"""Name of a ModelPatcher's attachment: its ``ErrorSpectrum``, where it was measured."""
ERRORS = "flowdps_velocity_errors"
"""Name of a ModelPatcher's attachment: errors of its velocity, if they are known."""
WHOLE_IMAGES = 12
"""Float32 tensors of the whole image's size that are alive in a tiled sampling step."""


def _encoder(autoencoder: Any) -> nn.Module:
    found = getattr(autoencoder, "taesd_encoder", None)
    found = getattr(autoencoder, "encoder", None) if found is None else found
    return found if isinstance(found, nn.Module) else nn.Identity()


def in_pixels(vae: Any) -> bool:
    """Whether a VAE is the host's stand-in for models in pixels: the latents are the image."""
    return type(vae.first_stage_model).__name__ == "PixelspaceConversionVAE"


def stride_of(vae: Any) -> int:
    """Image pixels per latent cell of a VAE, along either side."""
    return int(vae.spacial_compression_decode())


def is_video(model: Any) -> bool:
    """Whether MODEL has a time axis; model is the host's ModelPatcher."""
    return model.get_model_object("latent_format").latent_dimensions == 3


def latent_shape(model: Any, vae: Any, count: int, height: int, width: int) -> tuple[int, ...]:
    """Shape of the latents of ``count`` images: (N, C, h, w), or (N, C, 1, h, w) for a video model.

    model is the host's ModelPatcher.
    """
    form = model.get_model_object("latent_format")
    cells = (height // stride_of(vae), width // stride_of(vae))
    time = (1,) if is_video(model) else ()
    return (count, form.latent_channels, *time, *cells)


def frames_of(vae: Any, cells: int) -> int:
    """How many frames a latent has that is ``cells`` long in time: 4 n − 3 for Wan's VAE, and as
    many for a VAE of still pictures."""
    ratio = vae.upscale_ratio
    return int(ratio[0](cells)) if vae.latent_dim == 3 and isinstance(ratio, tuple) else cells


def cells_for(vae: Any, frames: int) -> int:
    """The least length in time of a latent that has at least so many frames."""
    return next(cells for cells in range(1, frames + 1) if frames_of(vae, cells) >= frames)


def video_shape(model: Any, vae: Any, frames: int, height: int, width: int) -> tuple[int, ...]:
    """Shape (1, C, f, h, w) of the latents of a film that MODEL, one with a time axis, restores at
    once; f is that of at least ``frames`` frames."""
    count, channels, _, *cells = latent_shape(model, vae, 1, height, width)
    return (count, channels, cells_for(vae, frames), *cells)


def check_flow(model: Any) -> None:
    """ValueError unless MODEL is a rectified flow."""
    if not isinstance(model.get_model_object("model_sampling"), comfy.model_sampling.CONST):
        raise ValueError(
            "the MODEL is not a flow model: it predicts noise or another target, as Stable"
            " Diffusion 1.5 and SDXL do; expected a rectified flow such as SD3, SD3.5, Flux,"
            " AuraFlow, Lumina 2, Qwen-Image or Wan"
        )


def check_pair(model: Any, vae: Any) -> None:
    """ValueError unless MODEL is a rectified flow and VAE an image autoencoder for its latents."""
    if getattr(vae, "first_stage_model", None) is None:
        raise ValueError(
            "the VAE input holds no autoencoder; connect the VAE of the same model family"
        )
    check_flow(model)
    sampling = model.get_model_object("model_sampling")
    if getattr(sampling, "noise_scale", 1.0) != 1.0:
        raise ValueError(
            f"the MODEL scales its noise by {sampling.noise_scale}; expected a flow that starts"
            " from noise of variance 1"
        )
    form = model.get_model_object("latent_format")
    if form.latent_channels != vae.latent_channels:
        raise ValueError(
            f"the VAE has {vae.latent_channels} latent channels and the MODEL"
            f" {form.latent_channels}: they belong to different model families"
        )
    # Newer hosts work in place, hence the local tensor.
    with torch.inference_mode(False):
        probe = torch.tensor([-1.0, 0.0, 1.0])
        ends = vae.process_output(probe)
    ends = probe if ends is None else ends
    if ends.tolist() != [0.0, 0.5, 1.0]:
        raise ValueError("the VAE does not decode to images in [-1, 1]; choose an image VAE")


def check_memory(memory: str, vae: Any, tiny_vae: Any) -> None:
    """ValueError unless ``memory`` is a known mode and ``tiny_vae``, if there is one, matches
    ``vae``."""
    check_mode(memory)
    if tiny_vae is None:
        return
    if getattr(tiny_vae, "first_stage_model", None) is None:
        raise ValueError("the tiny_vae input holds no autoencoder; connect Load VAE with taesd3")
    ours, theirs = ((v.latent_channels, stride_of(v)) for v in (vae, tiny_vae))
    if ours != theirs:
        raise ValueError(
            f"the tiny_vae has {theirs[0]} latent channels and a stride of {theirs[1]}, the VAE"
            f" {ours[0]} and {ours[1]}: connect the tiny one of the same model family"
        )


def tiny_for(model: Any, vae: Any, memory: str, tiny_vae: Any) -> Any:
    """The VAE of mode tiny: ``tiny_vae``, or in that mode the one that comes along, if the latents
    of MODEL are SD3's; None in other modes.

    ValueError, if none is given, for other latents and for a VAE that is tiny itself.
    """
    if tiny_vae is not None or memory != "tiny":
        return tiny_vae
    if hasattr(vae.first_stage_model, "taesd_decoder"):
        raise ValueError("memory is tiny, and the VAE is a tiny one already: choose strips")
    form = model.get_model_object("latent_format")
    scale, shift = (getattr(form, f"{name}_factor", 0.0) for name in ("scale", "shift"))
    if not is_sd3_latent(form.latent_channels, stride_of(vae), scale, shift):
        raise ValueError(
            "memory is tiny and no tiny_vae is connected: connect Load VAE with the small VAE of"
            " the model's family (taef1 for Flux; its two files belong into models/vae_approx), or"
            " choose strips"
        )
    weights = comfy.utils.load_torch_file(str(SMALL_AUTOENCODER))
    only = {"first_stage_model.": ""}
    return comfy.sd.VAE(sd=comfy.utils.state_dict_prefix_replace(weights, only, filter_keys=True))


def positions(model: Any) -> float:
    """Latent cells a side covered by MODEL's positional embedding; inf if it has no table."""
    network = model.model.diffusion_model
    most = getattr(network, "pos_embed_max_size", None)
    embedder = getattr(network, "x_embedder", None)
    if most is None or getattr(network, "pos_embed", None) is None or embedder is None:
        return math.inf
    return most * embedder.patch_size[0]


def usual_side(model: Any) -> int:
    """Side in pixels of MODEL's training images."""
    return int(model.get_attachment(USUAL) or SIDE)


def tile_of(model: Any, vae: Any, shape: Sequence[int], tile: int = 0) -> int:
    """Side in cells of the tiles for latents of ``shape``; 0 for no tiling.

    tile: the requested side in pixels, 0 for automatic. ValueError as from
    :func:`~comfyui_flowdps.priors.tiling.side_of`.
    """
    stride = stride_of(vae)
    height, width = (n * stride for n in shape[-2:])
    side = side_of(height, width, positions(model) * stride, tile, usual_side(model))
    return cells_of(side, stride) if side else 0


class ComfyPrior(BasePrior):
    """A :class:`~comfyui_flowdps.priors.base.FlowPrior` of the arguments of a sampler function.

    model is the denoiser, which wraps the guider; ``extra_args`` are passed to every call of it.
    ``like`` (N, C, h, w) gives device, dtype and channels of the latents, which may have a time
    axis, (N, C, f, h, w): images are then the frames of all N films, one after another, as many as
    ``frames_of`` says; f = 1 is that of pictures. ``memory`` is a mode of :mod:`.gradients.modes`
    or auto, ``tiny_vae`` the VAE of mode tiny. Latents are kept fixed where the noise mask is 0. Of
    a model in pixels, the latents are the image: stride 1, and neither decoding nor encoding
    changes or rounds them.
    """

    def __init__(
        self,
        model: Any,
        vae: Any,
        extra_args: dict[str, Any],
        like: Tensor,
        memory: str = "auto",
        tiny_vae: Any = None,
    ):
        super().__init__()
        self.memory, self.tiny_vae = memory, tiny_vae
        self.model, self.vae, self.extra_args = model, vae, dict(extra_args)
        self.guider = model.inner_model
        self.base: Any = self.guider.inner_model
        self.device, self.dtype = like.device, like.dtype
        self.latent_channels, self.stride = like.shape[1], stride_of(vae)
        patcher = self.guider.model_patcher
        self.largest, self.usual = positions(patcher) * self.stride, usual_side(patcher)
        self.velocity_errors = patcher.get_attachment(ERRORS) or ()
        self._video, self._films = like.ndim == 5, len(like)
        self._in_pixels = in_pixels(vae)
        # Its tensors, if any, are inference tensors.
        self._format: Any = copy.copy(self.base.latent_format)
        self._format.__dict__.update(without_inference_mode(vars(self._format)))
        tiny = None if tiny_vae is None else tiny_vae.first_stage_model
        self.decoder_gradient = DecoderGradient(vae.first_stage_model, tiny=tiny)
        mask = self.extra_args.get("denoise_mask")
        self._mask = None if mask is None else mask.clone()
        self.movable = mask is None and not is_placed(
            self.guider.conds, (like.shape[-2], like.shape[-1])
        )
        self.error_spectrum = patcher.get_attachment(SPECTRUM)
        self._hints = Hints(_resize)

    @contextlib.contextmanager
    def session(
        self, shape: Sequence[int], gradients: Gradients, tile: int = 0, encodes: bool = False
    ) -> Iterator[None]:
        """Context of one run on latents of ``shape``: loads the models, reserves memory and makes
        the modules differentiable, unless there are no gradients.

        ``tile``: side of the tiles in cells; 0 for no tiling. ``encodes``: pictures are encoded,
        without a gradient.
        """
        if tile:
            one = (*shape[:-2], *(min(n, tile) for n in shape[-2:]))
            frames = math.prod(frames_of(self.vae, n) for n in shape[2:-2])
            pixels = shape[0] * frames * shape[-2] * shape[-1] * self.stride**2
            self._load(one, gradients, encodes, WHOLE_IMAGES * 3 * 4 * pixels)
        else:
            self._load(shape, gradients, encodes)
        if gradients == "none":
            with self.decoder_gradient():
                yield
            return
        modules: list[nn.Module] = [self.vae.first_stage_model]
        if self.tiny_vae is not None:
            modules.append(self.tiny_vae.first_stage_model)
        with contextlib.ExitStack() as stack:
            if gradients == "model":
                self.decoder_gradient.blocks = [
                    *transformer_blocks(self.base.diffusion_model),
                    *encoder_blocks(_encoder(self.vae.first_stage_model)),
                ]
                modules += [self.base, *self._normal_conditions()]
                stack.enter_context(_training_flag())
            stack.enter_context(differentiable(*modules))
            stack.enter_context(self.decoder_gradient())
            yield

    @contextlib.contextmanager
    def within(self, tile: Tile) -> Iterator[None]:
        """Context in which all passes are of ``tile``; spatial conditioning is cropped to it."""
        held, mask, args = vars(self.model).copy(), self._mask, self.extra_args
        conds = self.guider.conds
        try:
            self.guider.conds = cut_conditions(conds, tile)
            if mask is not None:
                self._mask = tile.of(mask)
                self.extra_args = {**args, "denoise_mask": tile.of(args["denoise_mask"])}
            for name in ("noise", "latent_image"):
                if isinstance(held.get(name), Tensor):
                    setattr(self.model, name, tile.of(held[name]))
            with self._hints.within(controls_of(conds), tile):
                yield
        finally:
            self.guider.conds, self._mask, self.extra_args = conds, mask, args
            for name in ("noise", "latent_image"):
                if name in held:
                    setattr(self.model, name, held[name])

    @contextlib.contextmanager
    def guidance(self, weight: float | None) -> Iterator[None]:
        """Context in which ``weight`` replaces the ``cfg`` of a CFGGuider with a negative; None, or
        any other guider, keeps its own."""
        guider, plain = self.guider, comfy.samplers.CFGGuider
        if (
            weight is None
            or getattr(type(guider), "predict_noise", None) is not plain.predict_noise
            or not guider.conds.get("negative")
        ):
            yield
            return
        before = guider.cfg
        guider.cfg = weight
        try:
            yield
        finally:
            guider.cfg = before

    def _load(
        self, shape: Sequence[int], gradients: Gradients, encodes: bool, also_used: float = 0.0
    ) -> None:
        """Load model and autoencoder, with free memory for one step; choose the memory mode."""
        vae, one = self.vae, (1, *shape[1:])
        frames = [frames_of(vae, n) for n in shape[2:-2]]
        pixels = shape[0] * math.prod(frames) * shape[-2] * shape[-1] * self.stride**2
        size = vae.vae_dtype.itemsize
        # The host's estimate for decoding is about the memory of the checkpointed gradient.
        memory = shape[0] * vae.memory_used_decode(one, vae.vae_dtype)
        if self.memory != "auto":
            mode = self.decoder_gradient.take(self.memory)
            if gradients != "none":
                memory = self.decoder_gradient.needs(mode, pixels, size)
        image = (1, 3, *frames, *(n * self.stride for n in one[-2:]))
        encoding = kept = more = 0.0
        if encodes or gradients == "model":
            encoding = shape[0] * vae.memory_used_encode(image, vae.vae_dtype)
        if encodes:
            memory = max(memory, encoding)
        memory += also_used
        if gradients == "model":
            passes = (self.base.memory_required([2 * shape[0], *shape[1:]]), encoding)
            kept, more = (sum(map(operator.mul, part, passes)) for part in (KEPT, FULL))
            memory += more if self.memory == "full" else kept
        also = getattr(self.guider, "loaded_models", None) or []
        patchers = [self.guider.model_patcher, vae.patcher, *also]
        if self.tiny_vae is not None:
            patchers.append(self.tiny_vae.patcher)
        comfy.model_management.load_models_gpu(patchers, memory_required=memory)
        if self.memory == "auto" and gradients != "none":
            free = comfy.model_management.get_free_memory(vae.device)
            self.decoder_gradient.choose(pixels, size, 0.9 * free - also_used, (more, kept))

    @property
    def memory_mode(self) -> str:
        """Current mode of the decoder's gradient, one of ``MODES``."""
        return self.decoder_gradient.mode

    def save_memory(self) -> bool:
        """Switch to the mode that needs less memory; False if there is none."""
        return self.decoder_gradient.less()

    def _normal_conditions(self) -> list[nn.Module]:
        """Clone the inputs that autograd may save, and return the control networks' modules."""
        guider = self.guider
        guider.conds = without_inference_mode(guider.conds)
        self.extra_args = without_inference_mode(self.extra_args)
        for name in ("noise", "latent_image"):
            if isinstance(getattr(self.model, name, None), Tensor):
                setattr(self.model, name, getattr(self.model, name).clone())
        options = self.extra_args.setdefault("model_options", {})
        transformer_options = options.setdefault("transformer_options", {})
        transformer_options["optimized_attention_override"] = _torch_attention
        modules: list[nn.Module] = []
        for control in controls_of(guider.conds):
            modules += [patcher.model for patcher in control.get_models()]
            for name in ("cond_hint", "cond_hint_original", "extra_concat"):
                if getattr(control, name, None) is not None:
                    setattr(control, name, without_inference_mode(getattr(control, name)))
        # Chained networks are listed more than once.
        return list(dict.fromkeys(modules))

    def denoise(self, z: Tensor, sigma: float) -> Tensor:
        """Posterior mean of the data given ``z`` at σ, including the guider's guidance."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        levels = z.new_full((len(z),), sigma)
        if z.requires_grad and torch.is_grad_enabled():
            with overwriting():
                answer = self.model(z, levels, **self.extra_args).to(z.dtype)
        else:
            with torch.inference_mode():
                answer = self.model(z, levels, **self.extra_args).to(z.dtype)
            answer = answer.clone()
        return self.passes.note("transformer", answer)

    def decode(self, z: Tensor) -> Tensor:
        """Images (N, 3, H, W) in about [-1, 1], not clamped; differentiable."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        if self._mask is not None:
            z = torch.lerp(z.detach(), z, self._mask.to(z))
        if self._in_pixels:
            return self.passes.note("decoder", z.clone())
        vae = self.tiny_vae if self.decoder_gradient.small(z) else self.vae
        raw = self._format.process_out(z)
        if vae.latent_dim == 2 and raw.ndim == 5:
            raw = raw.movedim(2, 1).flatten(0, 1)
        with _pass_of(z):
            x = vae.first_stage_model.decode(raw.to(vae.device, vae.vae_dtype))
        x = x.clone() if x.is_inference() else x
        x = x.movedim(2, 1).flatten(0, 1) if x.ndim == 5 else x
        return self.passes.note("decoder", x.to(z))

    def moments(self, x: Tensor) -> tuple[Tensor, None]:
        """Latents of images (N, 3, H, W) in [-1, 1]; differentiable.

        The host's autoencoders return the mean of their posterior, without standard deviation.
        Where the noise mask is 0, and no gradient is taken, these are the latents that are kept.
        """
        comfy.model_management.throw_exception_if_processing_interrupted()
        if self._in_pixels:
            return self.passes.note("encoder", x.clone()), None
        pixels = x.to(self.vae.device, self.vae.vae_dtype)
        films = self._films if self._video else len(x)
        if self.vae.latent_dim == 3:
            pixels = pixels.unflatten(0, (films, -1)).movedim(1, 2)
        with _pass_of(x):
            raw = self.vae.first_stage_model.encode(pixels)
        raw = raw.clone() if raw.is_inference() else raw
        if self._video and raw.ndim == 4:  # The scale of a video's latents has a time axis.
            raw = raw.unflatten(0, (films, -1)).movedim(1, 2)
        mean = self._format.process_in(raw.to(x))
        if self._mask is not None and not x.requires_grad:
            kept = self.model.latent_image.to(mean)
            mean = torch.lerp(kept, mean, self._mask.to(mean))
        return self.passes.note("encoder", mean), None


def _pass_of(given: Tensor) -> contextlib.AbstractContextManager[Any]:
    """Context for a pass of the autoencoder, which may overwrite its activations: with a gradient,
    or in inference mode, as the host's own passes are."""
    wanted = given.requires_grad and torch.is_grad_enabled()
    return overwriting() if wanted else torch.inference_mode()


def _resize(picture: Tensor, width: int, height: int, algorithm: str) -> Tensor:
    """Resize and centre-crop as the host does for hints of control networks."""
    return comfy.utils.common_upscale(picture, width, height, algorithm, "center")


@contextlib.contextmanager
def _training_flag() -> Iterator[None]:
    """Set the flag with which newer hosts avoid in-place operations."""
    management: Any = comfy.model_management
    if not hasattr(management, "in_training"):
        yield
        return
    before, management.in_training = management.in_training, True
    try:
        yield
    finally:
        management.in_training = before


def _torch_attention(_function: Any, *args: Any, **kwargs: Any) -> Tensor:
    """The host's attention with torch's kernel; other kernels may have no gradient."""
    return comfy.ldm.modules.attention.attention_pytorch(*args, **kwargs)
