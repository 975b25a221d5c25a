"""What the sampler nodes share: settings, checks, and the host's SAMPLER object."""
# pyright: reportMissingImports=false

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Sequence
from typing import Any

import comfy.model_management
import comfy.sample
import comfy.samplers
import latent_preview
import torch
from torch import Tensor
from tqdm import tqdm

from ..operators import Measurement
from ..operators.observation import Observation
from ..priors.base import FlowPrior, is_out_of_memory
from ..priors.comfy import (
    ComfyPrior,
    check_memory,
    check_pair,
    latent_shape,
    sampler_generators,
    stride_of,
    tile_of,
)
from ..priors.tiling import TiledPrior
from ..samplers import METHODS, Settings, Step, Work, check_sigmas, data_consistency, preset
from .kit import from_images, to_images

log = logging.getLogger(__name__)


def settings_of(
    method: str, name: str, step_size: float, inner_steps: int = 0, stop: float = 0.0
) -> Settings:
    """The preset ``name`` with its step size multiplied, and its inner steps and the ratio at which
    it stops replaced unless 0.
    """
    settings = preset(method, name)
    changes: dict[str, Any] = {"step_size": settings.step_size * step_size}
    if inner_steps:
        changes["inner_steps"] = inner_steps
    if stop:
        changes["stop"] = stop
    return dataclasses.replace(settings, **changes)


def check_latent(observation: Observation, vae: Any, shape: tuple[int, ...]) -> None:
    """ValueError unless latents of ``shape`` are those of the measurement's images."""
    height, width = (n * stride_of(vae) for n in shape[-2:])
    if (height, width) != observation.size:
        raise ValueError(
            f"the latent is {width}x{height} pixels and the measurement belongs to an image of"
            f" {observation.size[1]}x{observation.size[0]}: use the latent of Encode Measurement"
        )


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a run may take.

    tile_size: side in pixels of the tiles in which MODEL and VAE see a large image; 0 is automatic.
    memory: mode of the decoder's gradient, or auto; tiny_vae: the VAE of mode tiny.
    """

    tile_size: int = 0
    memory: str = "auto"
    tiny_vae: Any = None


def sampler_object(
    method: str,
    settings: Settings,
    observation: Observation,
    vae: Any,
    limits: Limits = Limits(),
    reports: bool = True,
    places: Sequence[int] | None = None,
) -> comfy.samplers.KSAMPLER:
    """A SAMPLER for the host's own sampling nodes, with any guider and any sigmas.

    It ``reports`` to the log how far the restoration is from the measurement. ``places`` of the
    samples in their batch choose their noise.
    """
    check_memory(limits.memory, vae, limits.tiny_vae)

    def run(
        model: Any,
        x: Tensor,
        sigmas: Tensor,
        extra_args: dict[str, Any] | None = None,
        callback: Any = None,
        disable: bool | None = None,
    ) -> Tensor:
        extra = extra_args or {}
        check_pair(model.inner_model.model_patcher, vae)
        check_latent(observation, vae, tuple(x.shape))
        tile = tile_of(model.inner_model.model_patcher, vae, x.shape, limits.tile_size)
        if len(sigmas) < 2:
            return x
        check_sigmas(sigmas)
        # Outside inference mode: the data step needs gradients.
        with torch.inference_mode(False), torch.no_grad():
            x, levels = x.clone(), sigmas.detach().double().cpu().clone()
            measurement = observation.bind(x.device, len(x))
            prior = ComfyPrior(model, vae, extra, x, limits.memory, limits.tiny_vae)
            work = Work(prior, measurement)
            tiled = TiledPrior(prior, tile) if tile else prior
            with (
                prior.session(x.shape, method == "psld", tile),
                tqdm(total=len(levels) - 1, disable=disable) as bar,
            ):

                def show(step: Step) -> None:
                    bar.update()
                    if callback is not None:
                        seen = {"i": step.i, "sigma": step.sigma, "sigma_hat": step.sigma}
                        callback({**seen, "x": step.denoised, "denoised": step.denoised})

                z = METHODS[method](
                    tiled,
                    x,
                    levels,
                    work.measurement,
                    settings,
                    sampler_generators(extra.get("seed"), len(x), places),
                    show,
                )
                counts = ", ".join(f"{name} {count}" for name, count in work.counted().items())
                log.info("%s: %s; gradient %s", method, counts, prior.decoder_gradient.mode)
                if reports:
                    log.info("%s: %s", method, left_over(tiled, z, measurement))
        if not math.isfinite(float(z.sum())):
            raise ValueError(
                "the restoration is not finite: choose a smaller step size, or run the model in"
                " bfloat16 or float32"
            )
        return z

    return comfy.samplers.KSAMPLER(run)


def left_over(prior: FlowPrior, z: Tensor, measurement: Measurement) -> str:
    """What is left between latents z (N, C, h, w) and the measurement, as a line for the log."""
    try:
        seen = measurement.operator.A(prior.decode(z).clamp(-1, 1))
    except (RuntimeError, MemoryError) as error:
        # The restoration is done: it shall not be lost for this.
        if not is_out_of_memory(error):
            raise
        return "the residual is not known: no memory is left for it"
    ratio = float((measurement.residual_rms(seen) / measurement.floored_noise_level).mean())
    return f"residual is {ratio:.2f} times the noise"


def check_conditioning(model: Any, conditioning: Any, name: str) -> None:
    """ValueError where MODEL needs a pooled text vector and ``conditioning`` has none."""
    for _, values in conditioning:
        try:
            model.model.encode_adm(**values)
        except KeyError as error:
            if error.args[0] == "pooled_output":
                raise ValueError(
                    f"the {name} conditioning has no pooled output, which this MODEL needs: encode"
                    " the prompt with the CLIP of the same checkpoint, or use Empty Flow"
                    " Conditioning"
                ) from error
        except Exception:  # It may need what only a run knows; the host will say.
            continue


def check_mask(mask: Tensor, observation: Observation, shape: tuple[int, ...]) -> Tensor:
    """The noise mask (N, 1, H, W) at the size of the padded image; ValueError for another size."""
    mask = mask.reshape(-1, 1, *mask.shape[-2:])
    size = tuple(mask.shape[-2:])
    if size == observation.wanted and observation.padded:
        bottom, right = (a - b for a, b in zip(observation.size, size, strict=True))
        return torch.nn.functional.pad(mask, (0, right, 0, bottom), mode="replicate")
    if size not in (observation.size, shape[-2:]):
        raise ValueError(
            f"the mask is {size[1]}x{size[0]} and the restoration {observation.wanted[1]}x"
            f"{observation.wanted[0]}; expected a mask of that size"
        )
    return mask


def residual_ratio(x: Tensor, observation: Observation) -> float:
    """Root mean square of A x − y over the noise level, of images (N, 3, *size) in [-1, 1]."""
    return observation.residual(x)[1] / observation.floored_noise_level


def restore(
    method: str,
    settings: Settings,
    model: Any,
    vae: Any,
    positive: Any,
    negative: Any,
    observation: Observation,
    seed: int,
    sigmas: Tensor,
    cfg: float,
    latent: dict[str, Any] | None = None,
    limits: Limits = Limits(),
) -> tuple[dict[str, Any], Tensor, float]:
    """LATENT and IMAGE (N, H, W, 3) in [0, 1] of one posterior sample per latent, and the ratio of
    their residual to the noise.

    Everything that can be wrong is found before the first pass. ``negative`` may be None: then
    there is no guidance, whatever ``cfg`` is.
    """
    check_pair(model, vae)
    height, width = observation.size
    if height % stride_of(vae) or width % stride_of(vae):
        raise ValueError(
            f"the restoration is {width}x{height} and this VAE needs sides that are multiples of"
            f" {stride_of(vae)}: connect the VAE to Encode Measurement"
        )
    shape = latent_shape(model, vae, len(observation.y), height, width)
    latent = latent or {"samples": torch.zeros(shape)}
    samples = comfy.sample.fix_empty_latent_channels(model, latent["samples"])
    if samples.shape[1] != shape[1]:
        raise ValueError(
            f"the latent has {samples.shape[1]} channels and the MODEL {shape[1]}: encode it with"
            " the VAE of the same model family"
        )
    check_latent(observation, vae, tuple(samples.shape))
    tile_of(model, vae, samples.shape, limits.tile_size)
    observation.bind(count=len(samples))
    mask = latent.get("noise_mask")
    if mask is not None:
        mask = check_mask(mask, observation, tuple(samples.shape))
    for name, conditioning in (("positive", positive), ("negative", negative)):
        check_conditioning(model, conditioning or [], name)
    guider = comfy.samplers.CFGGuider(model)
    if negative is None:
        guider.inner_set_conds({"positive": positive})
        cfg = 1.0
    else:
        guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    places = latent.get("batch_index")
    noise = comfy.sample.prepare_noise(samples, seed, places)
    restored = guider.sample(
        noise,
        samples,
        sampler_object(method, settings, observation, vae, limits, False, places),
        sigmas,
        denoise_mask=mask,
        callback=latent_preview.prepare_callback(model, len(sigmas) - 1),
        disable_pbar=False,
        seed=seed,
    ).to(comfy.model_management.intermediate_device())
    # Older hosts pass the time axis of a video model on to the VAE of a still one.
    flat = restored[:, :, 0] if vae.latent_dim == 2 and restored.ndim == 5 else restored
    image = vae.decode(flat)
    image = image.reshape(-1, *image.shape[-3:])
    if mask is None:
        polished = data_consistency(to_images(image), observation.bind(count=len(image)), settings)
        image = from_images(polished).to(image.device)
    ratio = residual_ratio(to_images(image), observation)
    log.info("%s: residual is %.2f times the noise", method, ratio)
    height, width = observation.wanted
    return {**latent, "samples": restored}, image[:, :height, :width], ratio
