"""Nodes for pictures that were shrunk, one for each filter."""
# pyright: reportMissingImports=false

from __future__ import annotations

from comfy_api.latest import io

from ..operators import (
    AreaDownsample,
    AveragePool,
    BicubicDownsample,
    BilinearDownsample,
    LanczosDownsample,
    NearestDownsample,
)
from .degradation import DegradationNode, degradation
from .inputs import scale


def _antialias() -> io.Input:
    return io.Boolean.Input(
        "antialias",
        default=True,
        tooltip="On: the filter uses every pixel, as image programs do. Off: it uses only a few"
        " pixels around each point, as quick previews and old games do, and edges become jagged.",
    )


class AveragePoolNode(DegradationNode):
    kind = AveragePool

    @classmethod
    def define_schema(cls) -> io.Schema:
        return degradation(
            "AveragePool",
            display_name="Downscale (Average)",
            description="Every block of pixels was replaced by its mean, as in a mosaic or a"
            " thumbnail.",
            search_aliases=["pixelate", "mosaic", "super resolution"],
            inputs=[scale()],
        )


class BicubicNode(DegradationNode):
    kind = BicubicDownsample

    @classmethod
    def define_schema(cls) -> io.Schema:
        return degradation(
            "Bicubic",
            display_name="Downscale (Bicubic)",
            description="The picture was shrunk with a bicubic filter, as most image programs do.",
            search_aliases=["resize", "super resolution"],
            inputs=[scale()],
        )


class LanczosNode(DegradationNode):
    kind = LanczosDownsample

    @classmethod
    def define_schema(cls) -> io.Schema:
        return degradation(
            "Lanczos",
            display_name="Downscale (Lanczos)",
            description="The picture was shrunk with a Lanczos filter, the sharpest of the common"
            " ones.",
            search_aliases=["resize", "super resolution", "pillow"],
            inputs=[scale(), _antialias()],
        )


class BilinearNode(DegradationNode):
    kind = BilinearDownsample

    @classmethod
    def define_schema(cls) -> io.Schema:
        return degradation(
            "Bilinear",
            display_name="Downscale (Bilinear)",
            description="The picture was shrunk with a soft filter, as browsers and graphics cards"
            " do.",
            search_aliases=["resize", "super resolution", "linear"],
            inputs=[scale(), _antialias()],
        )


class AreaNode(DegradationNode):
    kind = AreaDownsample

    @classmethod
    def define_schema(cls) -> io.Schema:
        return degradation(
            "Area",
            display_name="Downscale (Area)",
            description="The picture was shrunk by the method that image programs call area or"
            " box. It does the same as Downscale (Average).",
            search_aliases=["resize", "super resolution", "box"],
            inputs=[scale()],
        )


class NearestNode(DegradationNode):
    kind = NearestDownsample

    @classmethod
    def define_schema(cls) -> io.Schema:
        return degradation(
            "Nearest",
            display_name="Downscale (Nearest Pixel)",
            description="One pixel of every block was kept and the others were thrown away.",
            search_aliases=["resize", "super resolution", "pixel art", "decimate"],
            inputs=[scale()],
        )


NODES: list[type[io.ComfyNode]] = [
    AveragePoolNode,
    BicubicNode,
    LanczosNode,
    BilinearNode,
    AreaNode,
    NearestNode,
]
