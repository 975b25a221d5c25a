"""What the sampler nodes share: a run of a method on the host's models, and the host's SAMPLER."""
# pyright: reportMissingImports=false

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import comfy.model_management
import comfy.sample
import comfy.samplers
import latent_preview
import torch
from torch import Tensor
from tqdm import tqdm

from ..operators import Measurement
from ..operators.measurement import rms
from ..operators.observation import Observation
from ..operators.randomness import generators
from ..priors.base import FlowPrior, is_out_of_memory
from ..priors.comfy import (
    SPECTRUM,
    ComfyPrior,
    Gradients,
    check_memory,
    check_pair,
    tile_of,
    tiny_for,
)
from ..priors.tiling import TiledPrior
from ..restoration.diagnosis import Wish
from ..samplers import (
    Method,
    MethodSettings,
    RefineSettings,
    Sample,
    Step,
    Work,
    check_film,
    check_sigmas,
    data_consistency,
    override,
)
from .checks import check_conditioning, check_form, check_latent, images_of, start_of
from .kit import from_images, required, to_images
from .waiting import WithinSteps

log = logging.getLogger(__name__)


def planned(wish: Wish, model: Any) -> tuple[RefineSettings, Tensor]:
    """Settings of Refine for a wish, and noise levels that suit MODEL."""
    return wish.plan(model.get_attachment(SPECTRUM))


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A method with its settings."""

    method: Method
    settings: MethodSettings

    @property
    def gradients(self) -> Gradients:
        """The networks that gradients go through."""
        if self.method.through_model:
            return "model"
        return "decoder" if self.settings.gradients else "none"

    @property
    def encodes(self) -> bool:
        """Whether pictures are encoded without a gradient, by the method or its data step."""
        return self.method.encodes or not self.settings.gradients


def chosen(
    method: Method,
    preset: str,
    step_scale: float,
    inner_steps: int = 0,
    stop_at: float = -1.0,
    denoise: float | None = None,
) -> Chosen:
    """The preset of that name with the user's changes; see :func:`override`."""
    return Chosen(
        method,
        override(
            method.preset(preset),
            step_scale=step_scale,
            inner_steps=inner_steps,
            stop=stop_at,
            denoise=denoise,
        ),
    )


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits to the memory of a run.

    tile_size: side in pixels of the tiles in which MODEL and VAE work; 0 is automatic.
    memory: mode of the decoder's gradient, or auto; tiny_vae: the VAE of mode tiny.
    """

    tile_size: int = 0
    memory: str = "auto"
    tiny_vae: Any = None


@dataclasses.dataclass(frozen=True)
class Prompt:
    """Conditionings and the weight ``cfg`` of guidance; without a negative there is none."""

    positive: Any
    negative: Any = None
    cfg: float = 1.0

    def guider(self, model: Any) -> comfy.samplers.CFGGuider:
        """The host's guider; ValueError where MODEL cannot use a conditioning."""
        for name in ("positive", "negative"):
            check_conditioning(model, getattr(self, name) or [], name)
        guider = comfy.samplers.CFGGuider(model)
        if self.negative is None:
            guider.inner_set_conds({"positive": self.positive})
        else:
            guider.set_conds(self.positive, self.negative)
        guider.set_cfg(1.0 if self.negative is None else self.cfg)
        return guider


@dataclasses.dataclass(frozen=True)
class Walk:
    """Start and noise levels of a run: the seed of the noise, the sigmas, and a LATENT to start
    from, or None for an empty one. ``samples``: restorations of every photo or latent."""

    seed: int
    sigmas: Tensor
    latent: dict[str, Any] | None = None
    samples: int = 1


def repeated(observation: Observation, walk: Walk) -> tuple[Observation, Walk]:
    """Photos and LATENT as often as there are samples, first all of them once, then all again.

    They have the order and the places of the host's Repeat Latent Batch, so that the first ones are
    those of a run with one sample.
    """
    count, latent = walk.samples, walk.latent
    if latent is None or len(observation.y) > 1:
        observation = Observation.joined([observation] * count)
    if latent is not None:
        z, mask, places = latent["samples"], latent.get("noise_mask"), latent.get("batch_index")
        latent = {**latent, "samples": torch.cat([z] * count)}
        if mask is not None and len(mask) > 1:
            latent["noise_mask"] = torch.cat([mask[torch.arange(len(z)) % len(mask)]] * count)
        if places is not None:
            step = max(places) - min(places) + 1
            latent["batch_index"] = [each + k * step for k in range(count) for each in places]
    return observation, dataclasses.replace(walk, latent=latent)


def bound(observation: Observation, device: torch.device, count: int) -> Measurement:
    """The measurement on ``device`` for ``count`` samples, with tensors that autograd may save."""
    with torch.inference_mode(False), torch.no_grad():
        # What another node made in inference mode stays a tensor of that mode until it is copied.
        copied = dataclasses.replace(observation, y=observation.y.clone())
        return copied.bind(device, count)


def sampler_object(
    how: Chosen,
    observation: Observation,
    vae: Any,
    limits: Limits = Limits(),
    *,
    measurement: Measurement | None = None,
    reports: bool = True,
    places: Sequence[int] | None = None,
    keep: Callable[[Sample], None] | None = None,
) -> comfy.samplers.KSAMPLER:
    """A SAMPLER for the host's own sampling nodes, with any guider and any sigmas.

    ``measurement`` is the observation bound to the device of the run; None if the device is not
    known yet. With ``reports``, the final residual is written to the log. ``places`` are the
    positions of the samples in their batch, which choose their noise. ``keep`` receives the result,
    of which the host passes on the latents only.
    """
    required(measurement=observation)
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
        patcher = model.inner_model.model_patcher
        check_pair(patcher, vae)
        check_form(patcher, tuple(x.shape))
        check_latent(observation, vae, tuple(x.shape))
        tile = tile_of(patcher, vae, x.shape, limits.tile_size)
        if len(sigmas) < 2:
            return x
        check_sigmas(sigmas)
        # Outside inference mode: the data step needs gradients.
        with torch.inference_mode(False), torch.no_grad():
            x, levels = x.clone(), sigmas.detach().double().cpu().clone()
            problem = measurement or bound(observation, x.device, images_of(vae, tuple(x.shape)))
            check_film(how.settings, problem, together=problem.count != len(x))
            tiny_vae = tiny_for(patcher, vae, limits.memory, limits.tiny_vae)
            prior = ComfyPrior(model, vae, extra, x, limits.memory, tiny_vae)
            seen = TiledPrior(prior, tile) if tile else prior
            drawn = generators(extra.get("seed") or 0, "sampling", places or range(len(x)))
            with (
                prior.session(x.shape, how.gradients, tile, how.encodes),
                tqdm(total=len(levels) - 1, disable=disable) as bar,
            ):
                within = WithinSteps(patcher, len(levels) - 1)
                if isinstance(seen, TiledPrior):
                    seen.watch = within

                def show(step: Step) -> None:
                    bar.update()
                    within.step(step.denoised)
                    if callback is not None:
                        values = {"i": step.i, "sigma": step.sigma, "sigma_hat": step.sigma}
                        callback({**values, "x": step.denoised, "denoised": step.denoised})

                if problem.count != len(x):
                    log.info(
                        "%s: a film of %d frames at once", how.method.name, problem.count // len(x)
                    )
                result = _walk(how, seen, x, levels, problem, drawn, show)
                z = result.latents
                if reports:
                    log.info("%s: %s", how.method.name, left_over(seen, z, problem))
        if keep is not None:
            keep(result)
        if not math.isfinite(float(z.sum())):
            raise ValueError(
                "the restoration is not finite: choose a smaller step_scale, or run the model in"
                " bfloat16 or float32"
            )
        return z

    return comfy.samplers.KSAMPLER(run)


def _walk(
    how: Chosen,
    prior: FlowPrior,
    x: Tensor,
    levels: Tensor,
    measurement: Measurement,
    generators: Sequence[torch.Generator],
    show: Any,
) -> Sample:
    """Run the method, and log how often it called the networks and the operator."""
    work = Work(prior, measurement)
    function = how.method.function
    z = Sample.of(function(prior, x, levels, work.measurement, how.settings, generators, show))
    counts = ", ".join(f"{name} {count}" for name, count in work.counted().items())
    gradient = f"gradient {prior.memory_mode}" if how.settings.gradients else "no gradient"
    log.info("%s: %s; %s", how.method.name, counts, gradient)
    return z


def left_over(prior: FlowPrior, z: Tensor, measurement: Measurement) -> str:
    """The residual of latents z (N, C, h, w), as a line for the log."""
    try:
        ratio = rms(measurement.residual_ratio(prior.decode(z).clamp(-1, 1)))
    except (RuntimeError, MemoryError) as error:
        # The restoration is finished, and must not be lost because of this.
        if not is_out_of_memory(error):
            raise
        return "the residual is not known: no memory is left for it"
    return f"residual is {ratio:.2f} times the noise"


def restore(
    how: Chosen,
    model: Any,
    vae: Any,
    prompt: Prompt,
    observation: Observation,
    walk: Walk,
    limits: Limits = Limits(),
    keep: Callable[[Sample], None] | None = None,
) -> tuple[dict[str, Any], Tensor, float]:
    """LATENT and IMAGE (N, H, W, 3) in [0, 1] of ``walk.samples`` posterior samples per latent, and
    the ratio of their residual to the noise. ``keep`` receives the method's own result, padded.

    All inputs are checked before the first pass.
    """
    required(measurement=observation)
    check_pair(model, vae)
    if walk.latent is None:
        walk = dataclasses.replace(walk, samples=walk.samples * observation.copies)
    if walk.samples > 1:
        observation, walk = repeated(observation, walk)
    samples, mask = start_of(model, vae, observation, walk.latent)
    tile_of(model, vae, samples.shape, limits.tile_size)
    count = images_of(vae, tuple(samples.shape))
    measurement = bound(observation, model.load_device, count)
    check_film(how.settings, measurement, together=count != len(samples))
    places = (walk.latent or {}).get("batch_index")
    if observation.recipe.cycle and places is None:
        places = [0] * len(samples)  # The frames of a film share their noise.
    kept: list[Sample] = []
    restored = (
        prompt.guider(model)
        .sample(
            comfy.sample.prepare_noise(samples, walk.seed, places),
            samples,
            sampler_object(
                how,
                observation,
                vae,
                limits,
                measurement=measurement,
                reports=False,
                places=places,
                keep=kept.append,
            ),
            walk.sigmas,
            denoise_mask=mask,
            callback=latent_preview.prepare_callback(model, len(walk.sigmas) - 1),
            disable_pbar=False,
            seed=walk.seed,
        )
        .to(comfy.model_management.intermediate_device())
    )
    if keep is not None:
        keep(kept[-1])
    made = kept[-1].images if kept and mask is None else None
    if made is None:
        image = _decoded(vae, restored)
        if mask is None:
            x = data_consistency(
                to_images(image, ground=False).to(measurement.y), measurement, how.settings
            )
            image = from_images(x).to(image.device)
    else:
        image = from_images(made).to(restored.device)
    ratio = rms(measurement.residual_ratio(to_images(image, ground=False)))
    log.info("%s: residual is %.2f times the noise", how.method.name, ratio)
    height, width = observation.image_size
    return {**(walk.latent or {}), "samples": restored}, image[:, :height, :width], ratio


def _decoded(vae: Any, z: Tensor) -> Tensor:
    """IMAGE (N, H, W, 3) of latents, decoded by the host."""
    # Older hosts pass the time axis of a video model on to a VAE for still images.
    flat = z.movedim(2, 1).flatten(0, 1) if vae.latent_dim == 2 and z.ndim == 5 else z
    image = vae.decode(flat)
    return image.reshape(-1, *image.shape[-3:])
