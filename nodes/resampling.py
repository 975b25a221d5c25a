"""The photo was shrunk: one node per filter."""
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
        tooltip="On: the filter takes in every pixel, as image programs do. Off: it looks at few"
        " pixels around each point, as quick previews and old games do; edges become jagged.",
    )


class AveragePoolNode(DegradationNode):
    kind = AveragePool

    @classmethod
    def define_schema(cls) -> io.Schema:
        return degradation(
            "AveragePool",
            display_name="Downscale (Average)",
            description="Every block of pixels became their mean, as in a mosaic or a thumbnail.",
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
            description="Shrunk with a bicubic filter, as most image programs do.",
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
            description="Shrunk with Lanczos' filter, the sharpest of the usual ones.",
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
            description="Shrunk with a soft filter, as browsers and graphics cards do.",
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
            description="Shrunk by the method that image programs call area or box. It gives the"
            " same as Downscale (Average).",
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
            description="One pixel of every block was kept and the others thrown away.",
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
