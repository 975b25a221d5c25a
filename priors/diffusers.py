"""SD3 and SD3.5 by diffusers, without ComfyUI: from folders, hub models and single files."""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
import logging
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import BasePrior, is_out_of_memory
from .built_in import built_in
from .device import device_named, dtype_named
from .error_spectrum import ErrorSpectrum
from .gradients.checkpointing import encoder_blocks, transformer_blocks
from .gradients.modes import DecoderGradient, check_mode, free_memory
from .prune import prune
from .sd3_file import (
    SMALL_AUTOENCODER,
    Autoencoder,
    Checkpoint,
    check_sd3,
    is_sd3_latent,
    load_autoencoder,
    load_transformer,
)

if TYPE_CHECKING:
    from diffusers import SD3Transformer2DModel

log = logging.getLogger(__name__)

_T5_TOKENS = 256
TINY = "madebyollin/taesd3"
"""Hub id of the autoencoder of mode tiny for latents that are not SD3's."""


class NoTextEncoders(ValueError):
    """A prompt was given to a model that has no text encoders."""


class DiffusersPrior(BasePrior):
    """A :class:`~comfyui_flowdps.priors.base.FlowPrior` made of diffusers' modules.

    context (1 or 2, T, D) and pooled (1 or 2, P) condition the transformer: one row for the prompt
    or, for classifier-free guidance of weight ``cfg``, two: the negative prompt, then the prompt.
    Inputs may have any dtype and are cast to the model's; results have the dtype of the input.
    """

    def __init__(
        self,
        transformer: SD3Transformer2DModel,
        autoencoder: Autoencoder,
        context: Tensor,
        pooled: Tensor,
        cfg: float = 1.0,
        memory: str = "auto",
        tiny: nn.Module | None = None,
    ):
        super().__init__()
        self.transformer = transformer.requires_grad_(False).eval()
        self.autoencoder = autoencoder.module.requires_grad_(False).eval()
        check_mode(memory)
        if memory == "tiny" and tiny is None:
            raise ValueError(
                "memory is tiny and there is no tiny autoencoder: name one for the model's latents,"
                " or choose strips"
            )
        self._tiny: Any = None if tiny is None else tiny.requires_grad_(False).eval()
        blocks = [*transformer_blocks(self.transformer), *encoder_blocks(self.autoencoder.encoder)]
        self.decoder_gradient = DecoderGradient(self.autoencoder, tiny=self._tiny, blocks=blocks)
        self.memory = memory
        if memory != "auto":
            self.decoder_gradient.take(memory)
        self._factor, self._offset = autoencoder.factor, autoencoder.offset
        self.device, self.dtype = context.device, context.dtype
        self.context, self.pooled, self.cfg = context, pooled, cfg
        self.texts: dict[str, tuple[Tensor, Tensor]] = {}
        """Context (1, T, D) and pooled vector (1, P) of every text that ``condition`` takes."""
        self.latent_channels: int = transformer.config["in_channels"]
        self.stride: int = 2 ** (len(self.autoencoder.config["block_out_channels"]) - 1)
        self._one_by_one = False
        self._patch: int = transformer.config["patch_size"]
        self.largest = transformer.config["pos_embed_max_size"] * self._patch * self.stride
        if self.autoencoder.config["latent_channels"] != self.latent_channels:
            raise ValueError(
                f"the autoencoder has {self.autoencoder.config['latent_channels']} latent channels"
                f" and the transformer {self.latent_channels}: they belong to different models"
            )

    def condition(self, prompt: str, cfg: float, negative: str = "") -> None:
        """Condition on another prompt of ``load_prior(prompts=...)``, with guidance ``cfg``.

        A model without text encoders stays as it is. KeyError for an unknown text.
        """
        if not self.texts:
            return
        guided = cfg != 1 and prompt != negative
        rows = [self.texts[text] for text in ([negative, prompt] if guided else [prompt])]
        self.context, self.pooled = (
            torch.cat([row[k] for row in rows]).to(self.device) for k in range(2)
        )
        self.cfg = cfg if guided else 1

    def _velocity(self, z: Tensor, sigma: float) -> Tensor:
        height, width = z.shape[-2:]
        if max(height, width) * self.stride > self.largest:
            raise ValueError(
                f"the image is {width * self.stride}x{height * self.stride} pixels (width x"
                f" height); this model takes at most {self.largest:.0f}x{self.largest:.0f}: choose"
                " a smaller size"
            )
        # An incomplete last patch is padded circularly, as in ComfyUI.
        fill = (0, -width % self._patch, 0, -height % self._patch)
        if any(fill):
            z = F.pad(z, fill, mode="circular")
        rows, count = len(self.context), len(z)

        def run(context: Tensor, pooled: Tensor) -> Tensor:
            rows = len(context)
            v = self.transformer(
                hidden_states=z.to(self.device, self.dtype).repeat(rows, 1, 1, 1),
                encoder_hidden_states=context.repeat_interleave(count, 0),
                pooled_projections=pooled.repeat_interleave(count, 0),
                timestep=torch.full((rows * count,), 1000 * sigma, device=self.device),
                return_dict=False,
            )[0]
            return self.passes.note("transformer", v[..., :height, :width].to(z))

        if rows == 1 or self.cfg == 1:
            return run(self.context[-1:], self.pooled[-1:])
        if not self._one_by_one:
            try:
                null, conditional = run(self.context, self.pooled).chunk(2)
                return null + self.cfg * (conditional - null)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            log.warning("out of memory: both prompts are processed one after another from now on")
            self._one_by_one = True
        null, conditional = (run(self.context[k : k + 1], self.pooled[k : k + 1]) for k in range(2))
        return null + self.cfg * (conditional - null)

    def denoise(self, z: Tensor, sigma: float) -> Tensor:
        """Posterior mean ``z − σ v`` of the data given ``z`` (N, C, h, w) at σ in [0, 1].

        Differentiable when ``z`` requires a gradient. Raises ValueError for latents larger than
        the model's positional embedding covers.
        """
        self._choose_memory(z)
        with (
            torch.set_grad_enabled(z.requires_grad and torch.is_grad_enabled()),
            self.decoder_gradient(),
        ):
            return z - sigma * self._velocity(z, sigma)

    @contextlib.contextmanager
    def guidance(self, weight: float | None) -> Iterator[None]:
        """Context in which ``weight`` replaces ``cfg``; None, or a single prompt, keeps it."""
        before = self.cfg
        if weight is not None and len(self.context) == 2:
            self.cfg = weight
        try:
            yield
        finally:
            self.cfg = before

    def decode(self, z: Tensor) -> Tensor:
        """Images (N, 3, H, W) in about [-1, 1], not clamped, of latents z (N, C, h, w)."""
        self._choose_memory(z)
        with self.decoder_gradient():
            if self._tiny is not None and self.decoder_gradient.small(z):
                # It takes the model's latents, without scale and shift.
                images = self._tiny.decode(z.to(self.device, self.dtype), return_dict=False)[0]
            else:
                raw = (z * self._factor + self._offset).to(self.device, self.dtype)
                images = self.autoencoder.decode(raw, return_dict=False)[0]
        return self.passes.note("decoder", images.to(z))

    def _choose_memory(self, z: Tensor) -> None:
        """Choose the memory mode before the first pass with a gradient, unless it was named."""
        if not (self.memory == "auto" and z.requires_grad and torch.is_grad_enabled()):
            return
        if (free := free_memory(self.device)) is not None:
            pixels = len(z) * z.shape[-1] * z.shape[-2] * self.stride**2
            self.decoder_gradient.choose(pixels, self.dtype.itemsize, 0.9 * free)
        self.memory = ""

    @property
    def memory_mode(self) -> str:
        """Current mode of the decoder's gradient, one of ``MODES``."""
        return self.decoder_gradient.mode

    def save_memory(self) -> bool:
        """Switch to the mode that needs less memory; False if there is none."""
        return self.decoder_gradient.less()

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mean and standard deviation of the latents of images (N, 3, H, W) in [-1, 1].

        The standard deviation is None for a deterministic autoencoder like TAESD. Differentiable.
        """
        with self.decoder_gradient():
            encoded = self.autoencoder.encode(x.to(self.device, self.dtype))
        posterior = getattr(encoded, "latent_dist", None)
        raw = encoded.latents if posterior is None else posterior.mean
        mean = self.passes.note("encoder", (raw.to(x) - self._offset) / self._factor)
        if posterior is None:
            return mean, None
        return mean, posterior.std.to(x) / self._factor


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Context without the libraries' log messages and progress bars."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    libraries = (of_diffusers, of_transformers)
    levels = [library.get_verbosity() for library in libraries]
    bars = [library.is_progress_bar_enabled() for library in libraries]
    for library in libraries:
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, level, bar in zip(libraries, levels, bars, strict=True):
            library.set_verbosity(level)
            if bar:
                library.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0].rstrip(".")


def _part(kind: Any, source: str, name: str, dtype: torch.dtype | None = None, **more: Any) -> Any:
    """One part of a model folder or hub model; ValueError in one sentence if it does not load."""
    if dtype is not None:
        # Old and new versions of both libraries accept this name.
        more |= {"torch_dtype": dtype, "use_safetensors": True}
    # diffusers initialises missing tensors at random.
    if checked := name in ("vae", "transformer"):
        more["output_loading_info"] = True
    try:
        found = kind.from_pretrained(source, subfolder=name, **more)
        if checked and found[1]["missing_keys"]:
            raise ValueError(f"it lacks the tensor {min(found[1]['missing_keys'])!r}")
        return found[0] if checked else found
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"cannot load {name} of {source!r}: {_first_line(error)}") from error
    except Exception as error:
        if type(error).__name__ != "SafetensorError":
            raise
        raise ValueError(f"{name} of {source!r} is corrupt or truncated ({error})") from error


def _release(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def _folder_index(source: str) -> dict[str, Any]:
    """``model_index.json`` of a folder or hub model; ValueError if it is not that of SD3."""
    from diffusers import DiffusionPipeline

    try:
        index: Any = DiffusionPipeline.load_config(source)
    except (OSError, ValueError) as error:
        if Path(source).is_dir():
            raise ValueError(
                f"{source} has no readable model_index.json; expected an SD3 model folder in"
                " diffusers' layout"
            ) from error
        raise ValueError(
            f"cannot load {source!r} from the Hugging Face hub: {_first_line(error)}"
        ) from error
    if not str(index.get("_class_name")).startswith("StableDiffusion3"):
        raise ValueError(f"{source} is not an SD3 model: it is a {index.get('_class_name')}")
    return index


def _has(index: dict[str, Any], part: str) -> bool:
    return bool((index.get(part) or [None])[0])


@torch.no_grad()
def _encode_texts(
    source: str, index: dict[str, Any], texts: list[str], device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Text conditioning of SD3: context (len(texts), T, D) and pooled vectors (len(texts), P).

    Only one encoder is in memory at a time, and none afterwards.
    """
    from transformers import AutoTokenizer, CLIPTextModelWithProjection, T5EncoderModel

    work = torch.float32 if dtype == torch.float64 else dtype
    clip: list[Tensor] = []
    pooled: list[Tensor] = []
    t5: Tensor | None = None
    for suffix in ("", "_2", "_3"):
        if not _has(index, f"text_encoder{suffix}"):
            if suffix == "_3":
                continue
            raise ValueError(
                f"{source} lacks text_encoder{suffix}, which SD3 needs to encode prompts"
            )
        tokenizer = _part(AutoTokenizer, source, f"tokenizer{suffix}")
        kind = T5EncoderModel if suffix == "_3" else CLIPTextModelWithProjection
        # Not cast after loading: T5 keeps some layers in float32 against overflow.
        encoder = _part(kind, source, f"text_encoder{suffix}", work).to(device).eval()
        length = _T5_TOKENS if suffix == "_3" else tokenizer.model_max_length
        tokens = tokenizer(
            texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        output = encoder(tokens.input_ids.to(device), output_hidden_states=suffix != "_3")
        if suffix == "_3":
            t5 = output[0].to(dtype)
        else:
            clip.append(output.hidden_states[-2].to(dtype))
            pooled.append(output[0].to(dtype))
        del encoder, output, tokens
        _release(device)
    context = torch.cat(clip, -1)
    if t5 is not None:
        context = F.pad(context, (0, t5.shape[-1] - context.shape[-1]))
        context = torch.cat([context, t5], 1)
    return context, torch.cat(pooled, -1)


def _tiny_autoencoder(source: str, transformer: Any, dtype: torch.dtype) -> nn.Module:
    """An AutoencoderTiny for the latents of ``transformer``; ValueError if it does not match."""
    from diffusers import AutoencoderTiny

    try:
        module = AutoencoderTiny.from_pretrained(source, torch_dtype=dtype, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"cannot load the tiny autoencoder {source!r}: {_first_line(error)}"
        ) from error
    found, wanted = module.config["latent_channels"], transformer.config["in_channels"]
    if found != wanted:
        raise ValueError(
            f"the tiny autoencoder {source!r} has {found} latent channels and the transformer"
            f" {wanted}: they belong to different models"
        )
    return module


def small_autoencoder(large: Autoencoder) -> nn.Module | None:
    """The AutoencoderTiny that comes along, if the latents of ``large`` are SD3's, else None.

    It takes the model's latents, without scale and shift.
    """
    config = large.module.config
    stride = 2 ** (len(config["block_out_channels"]) - 1)
    if not is_sd3_latent(config["latent_channels"], stride, 1 / large.factor, large.offset):
        return None
    found = load_autoencoder(Checkpoint(SMALL_AUTOENCODER))
    return None if found is None else found.module


def _versions(*packages: str) -> str:
    """Names and versions of installed packages."""
    return " and ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)


def load_prior(
    source: str | Path | None = None,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    prompt: str = "",
    negative: str = "",
    cfg: float = 2.0,
    config: str | Path | None = None,
    memory: str = "auto",
    tiny: str | Path | None = None,
    prompts: Sequence[str] = (),
) -> DiffusersPrior:
    """Load a prior.

    source: the name of a prior that comes along (``BUILT_IN``; None is the first of them); a
        safetensors file; a folder in diffusers' layout; or the id of such a model on the Hugging
        Face hub.
    device: auto is CUDA if available, else MPS, else XPU, else the CPU.
    dtype: float16, bfloat16, float32 or float64; auto is float32 on the CPU, else float16.
    prompt, negative: prompt and negative prompt. The text encoders are freed before the
        transformer is loaded. A model without them is conditioned on one token of zeros.
    cfg: weight w of classifier-free guidance, ``v = v_null + w (v_prompt − v_null)``, both in one
        batch; without guidance (w = 1, or equal prompts) there is a single pass.
    memory: mode of the decoder's gradient: full, checkpointed, strips, tiny, or auto, the first
        of them that fits the device's memory.
    tiny: folder or hub id of the autoencoder (AutoencoderTiny) of mode tiny; None is the one that
        comes along for SD3's latents, and ``madebyollin/taesd3`` for others.
    prompts: further prompts, which ``DiffusersPrior.condition`` can then choose.
    config: folder or hub id in diffusers' layout for parts that a single file lacks: the text
        encoders and, if need be, the autoencoder.

    The error spectrum is read from NAME.spectrum.json beside a file NAME.safetensors, if it is
    there.

    Raises ValueError, in one sentence, for anything but a complete SD3 model.
    """
    if not (math.isfinite(cfg) and cfg >= 0):
        raise ValueError(f"cfg is {cfg}; expected a number of at least 0 (1 is no guidance)")
    at = device_named(device)
    precision = dtype_named(dtype, at)
    if known := built_in(source):
        source = known.file
    assert source is not None, "no source is the first prior that comes along"
    path = Path(source).expanduser()
    hub = re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)) and path.suffix != ".safetensors"
    if not path.exists() and (isinstance(source, Path) or not hub):
        raise ValueError(f"no such prior: {source}; expected a safetensors file or a model folder")
    file = Checkpoint(path) if path.is_file() else None
    if file is not None:
        check_sd3(file)
    try:
        import diffusers
        import transformers  # noqa: F401
    except ModuleNotFoundError as error:
        raise ValueError(
            f"the standalone prior needs the package {error.name!r}:"
            ' pip install "flowdps[standalone]"'
        ) from error
    except Exception as error:  # They allow versions of each other that they do not work with.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{_versions('diffusers', 'transformers')} cannot be loaded beside"
            f" {_versions('torch')} ({reason[:200]}): pip install -U torch diffusers transformers,"
            " or install older ones"
        ) from error

    with _quiet():
        # Missing parts of a single file come from `config`; a folder is complete.
        folder = config if file is not None else path if path.exists() else source
        folder = None if folder is None else str(folder)
        index = {} if folder is None else _folder_index(folder)
        guided = cfg != 1 and prompt != negative
        texts: list[str] = []
        if folder is not None and _has(index, "text_encoder"):
            texts = [negative, prompt] if guided else [prompt]
            if prompts:
                texts = list(dict.fromkeys([*texts, negative, *prompts]))
            context, pooled = _encode_texts(folder, index, texts, at, precision)
        elif any((prompt, negative, *prompts)):
            given = "negative prompt" if not prompt and negative else "prompt"
            said = next(text for text in (prompt, negative, *prompts) if text)
            raise NoTextEncoders(
                f"{path.name} has no text encoders, so the {given} {said!r} cannot be"
                " used: leave it empty, or name a model with text encoders"
            )
        else:
            context = pooled = None
        autoencoder = None if file is None else load_autoencoder(file)
        if autoencoder is None:
            if folder is None or not _has(index, "vae"):
                raise ValueError(
                    f"{path} holds no autoencoder (first_stage_model.*): use a complete checkpoint"
                    " or name a model folder that has one"
                )
            kind = index["vae"][1]
            if kind not in ("AutoencoderKL", "AutoencoderTiny"):
                raise ValueError(f"{folder} has an autoencoder of another kind than SD3's: {kind}")
            module = _part(getattr(diffusers, kind), folder, "vae", precision)
            scale, shift = (module.config.get(k) for k in ("scaling_factor", "shift_factor"))
            autoencoder = Autoencoder(module, 1 / (scale or 1.0), shift or 0.0)
        if file is not None:
            transformer: Any = load_transformer(file)
        else:
            transformer = _part(
                diffusers.SD3Transformer2DModel, str(folder), "transformer", precision
            )
        autoencoder.module.to(at, precision)
        transformer.to(at, precision)
    if isinstance(autoencoder.module, diffusers.AutoencoderTiny):
        for side in (autoencoder.module.encoder, autoencoder.module.decoder):
            side.layers = prune(side.layers)
            if at.type == "cpu":  # a quarter faster there
                side.layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    small = None
    if (
        memory == "tiny"
        and tiny is None
        and isinstance(autoencoder.module, diffusers.AutoencoderKL)
    ):
        small = small_autoencoder(autoencoder)
        if small is None:
            tiny = TINY
        else:
            small.to(at, precision)
    if tiny is not None:
        with _quiet():
            small = _tiny_autoencoder(str(tiny), transformer, precision).to(at)
    wide = transformer.config["joint_attention_dim"], transformer.config["pooled_projection_dim"]
    if context is None or pooled is None:
        context = torch.zeros(1, 1, wide[0], device=at, dtype=precision)
        pooled = torch.zeros(1, wide[1], device=at, dtype=precision)
    else:
        # Without T5 the CLIP encodings are narrower than the transformer's input.
        if context.shape[-1] < wide[0]:
            context = F.pad(context, (0, wide[0] - context.shape[-1]))
            context = torch.cat([context, context.new_zeros(len(context), _T5_TOKENS, wide[0])], 1)
        if (context.shape[-1], pooled.shape[-1]) != wide:
            raise ValueError(
                f"the text encoders give vectors of {context.shape[-1]} and {pooled.shape[-1]}, the"
                f" transformer expects {wide[0]} and {wide[1]}: they belong to different models"
            )
    encoded = {
        text: (context[k : k + 1].cpu(), pooled[k : k + 1].cpu()) for k, text in enumerate(texts)
    }
    count = 2 if guided and texts else 1
    prior = DiffusersPrior(
        *(transformer, autoencoder, context[:count], pooled[:count]),
        *(cfg if count == 2 else 1, memory, small),
    )
    if prompts:
        prior.texts = encoded
    if known is not None:
        prior.usual, prior.velocity_errors = known.usual, known.velocity_errors
    prior.error_spectrum = ErrorSpectrum.beside(path)
    return prior
