"""The node that compares several restorations of one photo."""
# pyright: reportMissingImports=false

from __future__ import annotations

import numpy as np
import torch
from comfy_api.latest import io, ui
from PIL import Image
from torch import Tensor

from ..operators.observation import Observation, pad_to
from ..restoration.images import sheet
from ..restoration.several import GREY_LEVEL, PER_ROW, WHITE, Several
from ..samplers import METHODS
from .kit import Folder, MeasurementSocket, from_images, required, schema, to_images
from .measurement import check_size

FACTORS = [f"{row.calibration:g} for {row.title}" for row in METHODS.values() if row.calibration]
"""The measured factors from the spread of samples to the error of their mean."""


class CompareSamples(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "Samples",
            Folder.CHECK,
            display_name="Compare Samples",
            description="Several restorations of one photo: their mean, a map of where they differ,"
            " and the one that fits the photo best. Where the map is bright, the model guessed.",
            search_aliases=["uncertainty", "posterior mean", "average", "contact sheet", "flowdps"],
            is_output_node=True,
            inputs=[
                io.Image.Input(
                    "image", tooltip="All restorations, from a sampler whose samples are 2 or more."
                ),
                MeasurementSocket.Input("measurement", tooltip="The measurement they came from."),
                io.Float.Input(
                    "calibration",
                    default=1.0,
                    min=0.1,
                    max=20.0,
                    step=0.1,
                    optional=True,
                    tooltip="Multiplies the map. 1: the differences between the samples as they"
                    f" are. For the likely error of the mean: {', '.join(FACTORS)}, as measured"
                    " with the demo prior.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="mean", tooltip="The mean: closest on average, but soft."
                ),
                io.Mask.Output(
                    display_name="spread",
                    tooltip="Where the restorations differ: 0 where they agree, 1 where their"
                    f" standard deviation is {WHITE / GREY_LEVEL:.0f} of 255 grey levels or more.",
                ),
                io.Image.Output(
                    display_name="best",
                    tooltip="The restoration whose difference to the measurement is most like its"
                    " noise. It is sharper than the mean.",
                ),
                io.Image.Output(
                    display_name="sheet",
                    tooltip="Measurement, mean, map and all restorations in one picture.",
                ),
                io.String.Output(display_name="report", tooltip="The result, a line per photo."),
            ],
        )

    @classmethod
    def execute(
        cls, image: Tensor, measurement: Observation, calibration: float = 1.0
    ) -> io.NodeOutput:
        required(measurement=measurement)
        x = to_images(image, "batch of samples", ground=False)
        check_size(x, measurement)
        photos = len(measurement.y)
        if len(x) < 2 * photos or len(x) % photos:
            raise ValueError(
                f"the images are {len(x)} and the photos {photos}; expected at least 2 restorations"
                " of every photo: raise samples in the sampler"
            )
        there = Observation.joined([measurement] * (len(x) // photos)).bind()
        ratios = there.residual_ratio(pad_to(x, *measurement.padded_size)).tolist()
        x, seen = measurement.crop(x), measurement.measurement_picture
        every = [Several(x[k::photos], ratios[k::photos], calibration) for k in range(photos)]
        sheets = [
            sheet([("measurement", seen[k : k + 1]), *each.pictures], PER_ROW)
            for k, each in enumerate(every)
        ]
        report = "\n".join(each.report for each in every)
        return io.NodeOutput(
            from_images(torch.cat([each.mean for each in every])),
            torch.cat([each.map[:, 0] for each in every]),
            from_images(torch.stack([each.images[each.best] for each in every])),
            torch.stack([_as_image(each) for each in sheets]),
            report,
            ui=ui.PreviewText(report),
        )


def _as_image(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture)).float() / 255


NODES: list[type[io.ComfyNode]] = [CompareSamples]
