"""Nodes for what a camera or film did not record: colours, rows, bright and dark parts."""
# pyright: reportMissingImports=false

from __future__ import annotations

from comfy_api.latest import io

from ..operators import Bayer, Clip, Colorization, Interlace, Recipe
from ..operators.grey import EQUAL, REC601
from ..operators.sensor import FIELDS, PATTERNS
from .degradation import DegradationNode, degradation

WEIGHTS = {"luma": REC601, "equal": EQUAL}


class ColorizationNode(DegradationNode):
    kind = Colorization

    @classmethod
    def define_schema(cls) -> io.Schema:
        return degradation(
            "Colorization",
            display_name="Black-and-White (Degradation)",
            description="Only the brightness was recorded: the sampler colours the photo.",
            search_aliases=["colorize", "colourise", "grayscale", "old photo"],
            inputs=[
                io.Combo.Input(
                    "weights",
                    options=list(WEIGHTS),
                    default="luma",
                    tooltip="How the colours became grey. luma: green counts most, as in"
                    " television, JPEG and most programs. equal: red, green and blue count the"
                    " same.",
                ),
            ],
        )

    @classmethod
    def recipe(cls, weights: str) -> Recipe:
        if weights not in WEIGHTS:
            raise ValueError(f"unknown weights {weights!r}; expected {' or '.join(WEIGHTS)}")
        return Colorization(WEIGHTS[weights])


class InterlaceNode(DegradationNode):
    kind = Interlace

    @classmethod
    def define_schema(cls) -> io.Schema:
        return degradation(
            "Interlace",
            display_name="Interlaced Frame (Degradation)",
            description="Only every other row is used, as in a frame of old video: the sampler"
            " makes the rows between anew.",
            search_aliases=["deinterlace", "video field", "scan lines", "comb"],
            inputs=[
                io.Combo.Input(
                    "field",
                    options=list(FIELDS),
                    default="top",
                    tooltip="Which rows are used. top: the first, third, fifth, ...; bottom: the"
                    " others. They show two different moments: choose the one you like.",
                ),
            ],
        )


class BayerNode(DegradationNode):
    kind = Bayer

    @classmethod
    def define_schema(cls) -> io.Schema:
        return degradation(
            "Bayer",
            display_name="Camera Raw Mosaic (Bayer)",
            description="A camera's sensor records one of three colours at every pixel: the"
            " sampler finds the other two.",
            search_aliases=["demosaic", "debayer", "raw", "color filter array"],
            inputs=[
                io.Combo.Input(
                    "pattern",
                    options=list(PATTERNS),
                    default="RGGB",
                    tooltip="Colours of the first two pixels in the first row, then in the second"
                    " row. The wrong pattern gives wrong colours, such as blue for red.",
                ),
            ],
        )


class ClipNode(DegradationNode):
    kind = Clip

    @classmethod
    def define_schema(cls) -> io.Schema:
        return degradation(
            "Clip",
            display_name="Over- and Underexposed (Degradation)",
            description="Everything brighter or darker than two limits was lost.",
            search_aliases=["hdr", "clip", "blown highlights", "exposure"],
            inputs=[
                io.Float.Input(
                    "shadows",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Everything darker than this was lost. 0 (black) loses nothing; 0.5"
                    " loses the darker half. Must be below highlights.",
                ),
                io.Float.Input(
                    "highlights",
                    default=0.65,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Everything brighter than this was lost. 1 (white) loses nothing; 0.5"
                    " loses the brighter half. Must be above shadows.",
                ),
            ],
        )

    @classmethod
    def recipe(cls, shadows: float, highlights: float) -> Recipe:
        if not shadows < highlights:
            raise ValueError(
                f"shadows is {shadows:g} and highlights {highlights:g}; expected shadows below"
                " highlights"
            )
        return Clip(2 * shadows - 1, 2 * highlights - 1)


NODES: list[type[io.ComfyNode]] = [ColorizationNode, InterlaceNode, BayerNode, ClipNode]
