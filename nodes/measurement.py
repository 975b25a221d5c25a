"""Nodes that make a measurement, and that compare a restoration with it."""
# pyright: reportMissingImports=false

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ..operators import Recipe
from ..operators.measurement import rms
from ..operators.observation import Observation, pad_to
from ..operators.randomness import generators
from .kit import (
    ADVANCED,
    Folder,
    MeasurementSocket,
    Operator,
    connected,
    from_images,
    required,
    schema,
    to_images,
)

OBSERVED, SIMULATE = "observed", "simulate"
MULTIPLE = 16
"""Both sides of a restoration become multiples of this number where no VAE is connected."""


class EncodeMeasurement(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "EncodeMeasurement",
            Folder.SAMPLE,
            display_name="Encode Measurement",
            description="Makes a measurement of your damaged photo, for a sampler. To try things"
            " out, it can also damage a clean picture first.",
            search_aliases=["degrade", "simulate", "restore photo", "flowdps"],
            inputs=[
                io.Image.Input("image", tooltip="One picture, or a batch of one size."),
                Operator.Input(
                    "operator",
                    tooltip="How the picture was damaged (observed), or how it is damaged here"
                    " (simulate).",
                ),
                io.Combo.Input(
                    "mode",
                    options=[OBSERVED, SIMULATE],
                    default=OBSERVED,
                    tooltip="observed: the picture is your damaged photo, which is left as it is."
                    " With a downscale operator, the result is that many times larger; with"
                    " outpainting, it is larger by the margins. simulate: for experiments; the"
                    " picture is a clean one and is damaged here.",
                ),
                io.Float.Input(
                    "noise",
                    default=0.03,
                    min=0.0,
                    max=1.0,
                    step=0.005,
                    round=0.0001,
                    tooltip="Strength of the noise, for pixel values from -1 to 1. 0: every pixel"
                    " is trusted; 0.03: a good photo (4 of 255 grey levels); 0.2: a very grainy"
                    " one; 1: the photo hardly counts. simulate adds this noise; observed assumes"
                    " that the photo has it.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFF,
                    control_after_generate=False,
                    tooltip="Chooses the added noise (simulate only). The sampler has a seed of"
                    " its own.",
                    **ADVANCED,
                ),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="If connected, the latent fits this VAE. If not, it fits VAEs that"
                    " shrink by 8 and have 16 channels, such as those of SD3 and Flux.",
                ),
                io.Int.Input(
                    "batch_size",
                    default=1,
                    min=1,
                    max=64,
                    optional=True,
                    tooltip="Number of different restorations of one photo, for whatever sampler"
                    " comes next. More than 1 needs a single picture.",
                ),
            ],
            outputs=[
                MeasurementSocket.Output(
                    display_name="measurement", tooltip="For a sampler and Measurement Check."
                ),
                io.Image.Output(
                    display_name="image", tooltip="The measurement as a picture, to look at."
                ),
                io.Latent.Output(
                    display_name="latent",
                    tooltip="An empty latent of the restoration's size, to start from: for the"
                    " host's own samplers. The samplers of this pack need none.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: Tensor,
        operator: Recipe,
        mode: str,
        noise: float,
        seed: int,
        vae: Any = None,
        batch_size: int = 1,
    ) -> io.NodeOutput:
        x = to_images(image)
        required(operator=operator)
        connected(vae=vae)
        if batch_size > 1 and len(x) > 1:
            raise ValueError(
                f"batch_size is {batch_size} and there are {len(x)} images; expected one image, or"
                " batch_size 1"
            )
        if mode not in (SIMULATE, OBSERVED):
            raise ValueError(f"unknown mode {mode!r}; expected {OBSERVED} or {SIMULATE}")
        stride = MULTIPLE if vae is None else int(vae.spacial_compression_decode())
        if mode == OBSERVED:
            observation = Observation.from_photo(x, operator, noise, stride)
        else:
            draws = generators(seed, "noise", range(len(x)))
            observation = Observation.from_clean(x, operator, noise, stride, draws)
        observation = replace(observation, copies=batch_size)
        channels = 16 if vae is None else vae.latent_channels
        cells = (n // (8 if vae is None else stride) for n in observation.padded_size)
        latent = {"samples": torch.zeros(max(len(x), batch_size), channels, *cells)}
        picture = from_images(observation.measurement_picture)
        return io.NodeOutput(observation, picture, latent)


def check_size(x: Tensor, measurement: Observation) -> None:
    """ValueError unless the images (N, 3, H, W) have the size of the measurement's restoration."""
    required(measurement=measurement)
    size = tuple(x.shape[2:])
    height, width = measurement.image_size
    if size not in (measurement.image_size, measurement.padded_size):
        raise ValueError(
            f"the image is {size[1]}x{size[0]} and the measurement belongs to an image of"
            f" {width}x{height}: connect the sampler's image"
        )


class MeasurementCheck(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "MeasurementCheck",
            Folder.CHECK,
            display_name="Measurement Check",
            description="Damages the restoration again and compares it with the measurement. A"
            " faithful restoration differs from it only by the noise.",
            search_aliases=["residual", "consistency", "flowdps"],
            is_output_node=True,
            inputs=[
                io.Image.Input("image", tooltip="The restoration, at its full size."),
                MeasurementSocket.Input("measurement", tooltip="The measurement it came from."),
                io.Float.Input(
                    "tolerance",
                    default=1.2,
                    min=1.0,
                    max=10.0,
                    step=0.05,
                    tooltip="Largest ratio of residual to noise that passes. 1 is strict: even a"
                    " perfect restoration may fail; 10 passes nearly everything.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="residual",
                    tooltip="Difference between the two, as a picture: grey where they agree, full"
                    " black or white at five times the noise.",
                ),
                io.String.Output(display_name="report", tooltip="The result in one line."),
                io.Float.Output(
                    display_name="ratio",
                    tooltip="Residual divided by the noise level. About 1 is right; above, the"
                    " restoration does not match the measurement; below, noise was fitted as if it"
                    " were detail.",
                ),
                io.Boolean.Output(
                    display_name="passed", tooltip="True if the ratio is at most the tolerance."
                ),
            ],
        )

    @classmethod
    def execute(cls, image: Tensor, measurement: Observation, tolerance: float) -> io.NodeOutput:
        x = to_images(image, "restoration", ground=False)
        check_size(x, measurement)
        there = measurement.bind(count=len(x))
        x, level = pad_to(x, *measurement.padded_size), there.floored_noise_level
        picture = measurement.picture(there.operator.A(x) - there.y)
        ratio = rms(there.residual_ratio(x))
        passed = ratio <= tolerance
        verdict = "passed" if passed else "failed"
        hint = "the noise explains the difference"
        if not passed:
            hint = "the restoration does not agree with the measurement"
        elif ratio < 0.8 and measurement.noise_level:
            hint = "below 0.8, noise was fitted as if it were detail"
        report = f"{verdict}: residual is {ratio:.2f} times the noise level {level:g}; {hint}"
        return io.NodeOutput(
            from_images(picture / (5 * level)), report, ratio, passed, ui=ui.PreviewText(report)
        )


NODES: list[type[io.ComfyNode]] = [EncodeMeasurement, MeasurementCheck]
