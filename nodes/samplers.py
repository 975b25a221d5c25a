"""The samplers: each all in one, like KSampler, and each as a SAMPLER for the host's own nodes."""
# pyright: reportMissingImports=false

from __future__ import annotations

from typing import Any, ClassVar

from comfy_api.latest import io
from torch import Tensor

from ..operators.observation import Observation
from ..priors.gradients.modes import MODES, check_mode
from ..samplers import METHODS, PRESETS, Method, published_sigmas
from .kit import MeasurementSocket, complaint, schema
from .sampling import Limits, Prompt, Walk, chosen, restore, sampler_object

SHIFT = 4.0
"""Of the published schedule."""


def _pull_inputs(method: Method) -> list[io.Input]:
    inputs: list[io.Input] = [
        io.Combo.Input(
            "preset",
            options=list(PRESETS),
            default=PRESETS[0],
            tooltip="tuned: settings chosen by measurement. fast: a sixth less work for FlowDPS,"
            " at most a tenth of a decibel worse. published: exactly the paper's update.",
        ),
        io.Float.Input(
            "step_scale",
            default=1.0,
            min=0.0,
            max=20.0,
            step=0.05,
            tooltip="Multiplies the preset's step towards the photo. 0 ignores your photo and"
            " invents a picture; 1 is the preset; far above 1 fits the noise or breaks up.",
        ),
    ]
    if method.inner_steps:
        inputs.append(
            io.Int.Input(
                "inner_steps",
                default=0,
                min=0,
                max=64,
                tooltip="Steps towards the photo per noise level. 0 is the preset's own number;"
                " 1 is fast and loose; 16 is slow and close to the photo.",
            )
        )
    return inputs


def _tile_size() -> io.Input:
    return io.Int.Input(
        "tile_size",
        default=0,
        min=0,
        max=4096,
        step=64,
        optional=True,
        tooltip="For large pictures: side in pixels of the overlapping tiles in which model and VAE"
        " see it. 0 chooses: whole up to 1.5 megapixels, else 1024 (192 for the demo prior)."
        " Smaller takes less memory; larger shows the model more at once.",
    )


def _steps() -> io.Input:
    return io.Int.Input(
        "steps",
        default=28,
        min=1,
        max=1000,
        tooltip="Noise levels. Below 10 is coarse; 28 as in the paper; above 50 changes little.",
    )


def _memory() -> list[io.Input]:
    return [
        io.Combo.Input(
            "memory",
            options=["auto", *MODES],
            default="auto",
            optional=True,
            tooltip="What the step towards the photo keeps in memory. auto: the fastest that fits."
            " full is fastest and needs most; strips is slowest, needs least and gives the same"
            " picture; tiny lets tiny_vae guide, a little less exactly.",
        ),
        io.Vae.Input(
            "tiny_vae",
            optional=True,
            tooltip="A small VAE of the same family, from Load VAE: taesd3 for SD3. Used when"
            " memory is tiny, and in auto when nothing else fits; the VAE makes the final picture.",
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
        tooltip="Residual, in units of the noise, at which the pull towards the photo ends. 1 fits"
        " the photo as closely as its noise allows; 3 leaves much to the model; 0 never ends it;"
        " -1 is the preset's own. The noise of Encode Measurement must be right.",
    )


class _Sampler(io.ComfyNode):
    """A node of one method."""

    method: ClassVar[Method]

    @classmethod
    def validate_inputs(cls, memory: str | None = None) -> bool | str:
        return complaint(check_mode, memory)


class _Restore(_Sampler):
    """The all-in-one node of one method."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            f"{cls.method.title}Sampler",
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
                    tooltip="What the photo shows. An empty prompt works; a fitting one helps.",
                ),
                MeasurementSocket.Input("measurement", tooltip="From Encode Measurement."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="The same seed gives the same picture; another one, another picture"
                    " that fits the photo as well.",
                ),
                _steps(),
                io.Float.Input(
                    "cfg",
                    default=2.0,
                    min=0.0,
                    max=30.0,
                    step=0.1,
                    tooltip="Weight of the prompt. 1 takes the prompt as it is, at half the work;"
                    " 2 as in the paper; above 5 the prompt wins over the photo's own look. Without"
                    " a negative it is 1.",
                ),
                *_pull_inputs(cls.method),
                io.Conditioning.Input(
                    "negative",
                    optional=True,
                    tooltip="What the photo does not show; usually an empty prompt.",
                ),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="To start from. Nothing: empty, of the measurement's size. A batch"
                    " gives several restorations of one photo; a noise mask keeps what it leaves"
                    " out.",
                ),
                io.Sigmas.Input(
                    "sigmas",
                    optional=True,
                    tooltip="A schedule of your own, in place of steps and the published schedule.",
                ),
                _tile_size(),
                *_memory(),
                _stop(),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="The restoration's latent."),
                io.Image.Output(display_name="image", tooltip="The restoration, without padding."),
                io.Float.Output(
                    display_name="residual",
                    tooltip="Difference to the measurement over its noise: about 1 is right, above"
                    " it the photo was missed, below it noise was fitted.",
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
    ) -> io.NodeOutput:
        levels = published_sigmas(steps, SHIFT).float() if sigmas is None else sigmas
        return io.NodeOutput(
            *restore(
                chosen(cls.method, preset, step_scale, inner_steps, stop_at),
                model,
                vae,
                Prompt(positive, negative, cfg),
                measurement,
                Walk(seed, levels, latent),
                Limits(tile_size, memory, tiny_vae),
            )
        )


class _Object(_Sampler):
    """The SAMPLER of one method."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            f"{cls.method.title}SamplerObject",
            display_name=f"{cls.method.title} (SAMPLER)",
            description=f"{cls.method.title} for SamplerCustom and SamplerCustomAdvanced: any"
            " guider, any sigmas, any noise.",
            search_aliases=["posterior sampling", "inverse problem", "flowdps"],
            inputs=[
                MeasurementSocket.Input("measurement", tooltip="From Encode Measurement."),
                io.Vae.Input("vae", tooltip="The autoencoder of the MODEL's family."),
                *_pull_inputs(cls.method),
                _tile_size(),
                *_memory(),
                _stop(),
            ],
            outputs=[
                io.Sampler.Output(
                    display_name="sampler", tooltip="For SamplerCustom(Advanced) nodes."
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
    ) -> io.NodeOutput:
        how = chosen(cls.method, preset, step_scale, inner_steps, stop_at)
        limits = Limits(tile_size, memory, tiny_vae)
        return io.NodeOutput(sampler_object(how, measurement, vae, limits))


class FlowDPSSigmas(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "Sigmas",
            display_name="FlowDPS Sigmas",
            description="The schedule of the FlowDPS paper, from noise (1) to the picture (0).",
            search_aliases=["schedule", "scheduler"],
            inputs=[
                _steps(),
                io.Float.Input(
                    "shift",
                    default=SHIFT,
                    min=0.1,
                    max=20.0,
                    step=0.1,
                    tooltip="Where the steps are spent. 1: evenly; 4 as in the paper: mostly on the"
                    " composition; above 8 hardly any step is left for detail.",
                ),
            ],
            outputs=[io.Sigmas.Output(display_name="sigmas", tooltip="For any custom sampler.")],
        )

    @classmethod
    def execute(cls, steps: int, shift: float) -> io.NodeOutput:
        return io.NodeOutput(published_sigmas(steps, shift).float())


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
