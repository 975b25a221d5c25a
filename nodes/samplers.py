"""Two nodes for each method: one all in one, like KSampler, one a SAMPLER for the host's nodes."""
# pyright: reportMissingImports=false

from __future__ import annotations

from typing import Any, ClassVar

from comfy_api.latest import io, ui
from torch import Tensor

from ..operators.observation import Observation
from ..priors.gradients.modes import MODES, check_mode
from ..restoration.verdict import verdict
from ..samplers import METHODS, Method, flat, override, published_sigmas
from .inputs import sampling_seed
from .kit import (
    ADVANCED,
    Folder,
    MeasurementSocket,
    complaint,
    connected,
    from_images,
    required,
    schema,
    side_by_side,
)
from .sampling import Limits, Prompt, Walk, chosen, restore, sampler_object

PAPER = METHODS["flowdps"]
OWN_LEVELS = {row.title: row for row in METHODS.values() if row.levels is not PAPER.levels}
"""The methods that do not follow the paper's noise levels, by title."""
MOST_INNER = 64
"""Largest number of steps towards the photo per noise level."""
SHIFT = 4.0
"""Shift of the published schedule."""


def _pull_inputs(method: Method, *, levels: bool) -> list[io.Input]:
    """``levels``: whether the node makes the noise levels itself."""
    inputs: list[io.Input] = [
        io.Combo.Input(
            "preset",
            options=list(method.presets),
            default=method.default,
            tooltip=" ".join(f"{name}: {note}." for name, note in method.notes.items()),
        ),
        io.Float.Input(
            "step_scale",
            default=1.0,
            min=0.0,
            max=20.0,
            step=0.05,
            tooltip="Multiplies the preset's step towards the photo. 0 ignores your photo and"
            " invents a picture; 1 is the preset; far above 1 copies the photo's noise or breaks"
            " the picture.",
            **ADVANCED,
        ),
    ]
    if levels and method.has("denoise"):
        inputs.append(_denoise(method))
    if method.has("inner_steps"):
        inputs.append(
            io.Int.Input(
                "inner_steps",
                default=0,
                min=0,
                max=MOST_INNER,
                tooltip=f"Steps towards the photo per noise level{_of_presets(method)}. 0: the"
                " preset's own number; 1: fast, but less close to the photo; 16 and more: slow, and"
                " close to the photo.",
                **ADVANCED,
            )
        )
    return inputs


def _of_presets(method: Method) -> str:
    """Which presets have several steps per noise level; nothing if all have."""
    having = method.with_a("inner_steps")
    return (
        "" if len(having) == len(method.presets) else f", in the presets {', '.join(having)} only"
    )


def _denoise(method: Method, *, optional: bool = False) -> io.Input:
    """How much a method invents; of a node for several methods, it says whose input it is."""
    return io.Float.Input(
        "denoise",
        default=flat(method.preset())["denoise"],
        min=0.01,
        max=1.0,
        step=0.01,
        optional=optional,
        tooltip=(f"For {method.title} only. " if optional else "")
        + "How much may be invented. 0.1: hardly anything; 0.3: detail that fits; 0.6: much; 1:"
        " starts from noise alone, with the photo as a guide. Above 0.5, take more steps.",
    )


def _tile_size() -> io.Input:
    return io.Int.Input(
        "tile_size",
        default=0,
        min=0,
        max=4096,
        step=64,
        optional=True,
        tooltip="For large pictures: side in pixels of the overlapping tiles in which model and"
        " VAE work. 0: automatic, the whole picture up to 1.5 megapixels, else tiles of 1024 (192"
        " for the demo prior). Small tiles take less memory; in large ones the model sees more at"
        " once.",
        **ADVANCED,
    )


def _steps(method: Method = PAPER) -> io.Input:
    return io.Int.Input(
        "steps",
        default=method.steps,
        min=1,
        max=1000,
        tooltip=f"Number of noise levels. {method.steps_note}",
    )


def _memory(method: Method) -> list[io.Input]:
    if not method.gradients:
        return []
    return [
        io.Combo.Input(
            "memory",
            options=["auto", *MODES],
            default="auto",
            optional=True,
            tooltip="How to compute the step towards the photo. auto: the fastest way that fits"
            " into memory. full: fastest, most memory. checkpointed: slower, less memory. strips:"
            " slowest, least memory, and still the same picture. tiny: a small VAE computes the"
            " step, with hardly any memory, a little less exactly.",
            **ADVANCED,
        ),
        io.Vae.Input(
            "tiny_vae",
            optional=True,
            tooltip="A small VAE of the same family, from Load VAE, such as taef1 for Flux; SD3 has"
            " one built in for memory = tiny. It is used if memory is tiny, and in auto if nothing"
            " else fits. The other VAE still makes the final picture.",
        ),
    ]


def _stop() -> io.Input:
    return io.Float.Input(
        "stop_at",
        default=-1.0,
        min=-1.0,
        max=10.0,
        step=0.05,
        optional=True,
        tooltip="Stops the steps towards the photo once the difference to it is down to this many"
        " times the noise. 1: as close to the photo as its noise allows; 3 and more: much is left"
        " to the model; 0: never stops; -1: the preset's own value. The noise in Encode"
        " Measurement must be right.",
        **ADVANCED,
    )


def _latent(method: Method) -> str:
    first = "What to start from."
    if method.own_start:
        first = "How many restorations; this method starts from the photo itself."
    return (
        f"{first} Nothing connected: an empty latent for each photo. A batch gives several"
        " restorations of one photo. With a noise mask, only its white part is restored."
    )


def _samples() -> io.Input:
    return io.Int.Input(
        "samples",
        default=1,
        min=1,
        max=16,
        optional=True,
        tooltip="Different restorations of every photo, in one batch. 1: a single one; 4: enough to"
        " see what is certain; 8 and more: a good mean and map, at as many times the work and"
        " memory. Compare Samples makes the mean, which is closest on average but soft, and a map"
        " that is bright where the model guessed.",
    )


class _Sampler(io.ComfyNode):
    """A node of one method."""

    method: ClassVar[Method]

    @classmethod
    def validate_inputs(
        cls, memory: str | None = None, preset: str | None = None, inner_steps: int | None = None
    ) -> bool | str:
        # The host leaves the bounds of what is validated here to us.
        if inner_steps is not None and not 0 <= inner_steps <= MOST_INNER:
            bound = (
                "smaller than min of 0" if inner_steps < 0 else f"bigger than max of {MOST_INNER}"
            )
            return f"inner_steps is {inner_steps}, {bound}"
        said = complaint(check_mode, memory)
        if said is not True:
            return said
        return complaint(lambda name: chosen(cls.method, name, 1.0, inner_steps or 0), preset)


class _Restore(_Sampler):
    """The all-in-one node of one method."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            f"{cls.method.title}Sampler",
            Folder.SAMPLE,
            display_name=f"{cls.method.title} Sampler",
            description=f"Restores a photo. {cls.method.about}",
            search_aliases=["restore", "posterior sampling", "inverse problem", "flowdps"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="Any flow model: SD3, SD3.5, Flux, Lumina 2, Qwen-Image, ..."
                ),
                io.Vae.Input("vae", tooltip="The autoencoder of the same model family."),
                io.Conditioning.Input(
                    "positive",
                    tooltip="What the photo shows. An empty prompt works; a matching one helps.",
                ),
                MeasurementSocket.Input("measurement", tooltip="From Encode Measurement."),
                sampling_seed(
                    "The same seed gives the same picture; another seed gives another picture that"
                    " fits the photo as well."
                ),
                _steps(cls.method),
                io.Float.Input(
                    "cfg",
                    default=cls.method.cfg,
                    min=0.0,
                    max=30.0,
                    step=0.1,
                    tooltip="Weight of the prompt. 0: only the negative prompt counts; 1: the"
                    " prompt as it is, at half the work; 2: as in the paper; above 5: the prompt"
                    " wins over the photo's own look. Without a negative it is always 1.",
                ),
                *_pull_inputs(cls.method, levels=True),
                io.Conditioning.Input(
                    "negative",
                    optional=True,
                    tooltip="What the photo does not show; usually an empty prompt.",
                ),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip=_latent(cls.method),
                ),
                io.Sigmas.Input(
                    "sigmas",
                    optional=True,
                    tooltip="A list of noise levels of your own, in place of steps and the"
                    " built-in schedule.",
                ),
                _tile_size(),
                *_memory(cls.method),
                _stop(),
                _samples(),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="The restoration's latent."),
                io.Image.Output(
                    display_name="image",
                    tooltip="The restoration, without padding; with several samples, all of them.",
                ),
                io.Float.Output(
                    display_name="residual",
                    tooltip="Difference between the restoration, damaged again, and the"
                    " measurement, in units of its noise. About 1 is right; far above, the photo"
                    " was missed; far below, noise was fitted as if it were detail.",
                ),
                io.String.Output(
                    display_name="verdict",
                    tooltip="Whether the restoration agrees with the photo, in one sentence.",
                ),
                io.Image.Output(
                    display_name="before_after",
                    tooltip="The photo, as it was measured, and the restoration side by side.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        vae: Any,
        positive: Any,
        measurement: Observation,
        seed: int,
        steps: int,
        cfg: float,
        preset: str,
        step_scale: float,
        inner_steps: int = 0,
        negative: Any = None,
        latent: dict[str, Any] | None = None,
        sigmas: Tensor | None = None,
        tile_size: int = 0,
        memory: str = "auto",
        tiny_vae: Any = None,
        stop_at: float = -1.0,
        denoise: float | None = None,
        samples: int = 1,
    ) -> io.NodeOutput:
        required(model=model, vae=vae, measurement=measurement)
        required(positive_conditioning=positive)
        connected(tiny_vae=tiny_vae, negative_conditioning=negative)
        how = chosen(cls.method, preset, step_scale, inner_steps, stop_at, denoise)
        levels = cls.method.levels(how.settings, steps).float() if sigmas is None else sigmas
        made, image, ratio = restore(
            how,
            model,
            vae,
            Prompt(positive, negative, cfg),
            measurement,
            Walk(seed, levels, latent, samples),
            Limits(tile_size, memory, tiny_vae),
        )
        said = verdict(ratio)
        both = side_by_side(from_images(measurement.measurement_picture), image)
        return io.NodeOutput(made, image, ratio, said, both, ui=ui.PreviewText(said))


class _Object(_Sampler):
    """The SAMPLER of one method."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            f"{cls.method.title}SamplerObject",
            Folder.ADVANCED,
            display_name=f"{cls.method.title} (SAMPLER)",
            description=f"{cls.method.title} for SamplerCustom and SamplerCustomAdvanced, with any"
            " guider, sigmas and noise.",
            search_aliases=["posterior sampling", "inverse problem", "flowdps"],
            inputs=[
                MeasurementSocket.Input("measurement", tooltip="From Encode Measurement."),
                io.Vae.Input("vae", tooltip="The autoencoder of the MODEL's family."),
                *_pull_inputs(cls.method, levels=False),
                _tile_size(),
                *_memory(cls.method),
                _stop(),
            ],
            outputs=[
                io.Sampler.Output(
                    display_name="sampler", tooltip="For SamplerCustom or SamplerCustomAdvanced."
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        measurement: Observation,
        vae: Any,
        preset: str,
        step_scale: float,
        inner_steps: int = 0,
        tile_size: int = 0,
        memory: str = "auto",
        tiny_vae: Any = None,
        stop_at: float = -1.0,
        denoise: float | None = None,
    ) -> io.NodeOutput:
        required(vae=vae, measurement=measurement)
        connected(tiny_vae=tiny_vae)
        how = chosen(cls.method, preset, step_scale, inner_steps, stop_at, denoise)
        limits = Limits(tile_size, memory, tiny_vae)
        return io.NodeOutput(sampler_object(how, measurement, vae, limits))


class FlowDPSSigmas(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "Sigmas",
            Folder.ADVANCED,
            display_name="FlowDPS Sigmas",
            description="The noise levels of the FlowDPS paper, from 1 (noise) to 0 (the picture),"
            " or those of another method.",
            search_aliases=["schedule", "scheduler"],
            inputs=[
                _steps(),
                io.Float.Input(
                    "shift",
                    default=SHIFT,
                    min=0.1,
                    max=20.0,
                    step=0.1,
                    tooltip="Where the steps are spent. Below 1: hardly any on the composition; 1:"
                    " evenly; 4, as in the paper: mostly on the composition; above 8: hardly any"
                    " on detail.",
                ),
                io.Combo.Input(
                    "method",
                    options=[PAPER.title, *OWN_LEVELS],
                    default=PAPER.title,
                    optional=True,
                    tooltip="FlowDPS: the paper's levels, also for FlowChef and PSLD. The others"
                    " have levels of their own, without shift: Refine takes about 3 steps, FLAIR"
                    " 6, LATINO 8.",
                ),
                _denoise(METHODS["refine"], optional=True),
            ],
            outputs=[
                io.Sigmas.Output(
                    display_name="sigmas",
                    tooltip="The list of noise levels, for any custom sampler.",
                )
            ],
        )

    @classmethod
    def execute(
        cls, steps: int, shift: float, method: str = PAPER.title, denoise: float = 0.3
    ) -> io.NodeOutput:
        if method == PAPER.title:
            return io.NodeOutput(published_sigmas(steps, shift).float())
        row = OWN_LEVELS[method]
        settings = override(row.preset(), denoise=denoise if row.has("denoise") else None)
        return io.NodeOutput(row.levels(settings, steps).float())


def _nodes(kind: type[io.ComfyNode], suffix: str) -> list[type[io.ComfyNode]]:
    """One node class of this kind for every method of the registry."""
    return [
        type(f"{method.title}{suffix}", (kind,), {"method": method}) for method in METHODS.values()
    ]


NODES: list[type[io.ComfyNode]] = [
    *_nodes(_Restore, "Sampler"),
    *_nodes(_Object, "SamplerObject"),
    FlowDPSSigmas,
]
