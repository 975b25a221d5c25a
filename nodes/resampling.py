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
    Recipe,
)
from .inputs import before, output, scale
from .kit import chained, schema


def _antialias() -> io.Input:
    return io.Boolean.Input(
        "antialias",
        default=True,
        tooltip="On: the filter takes in every pixel, as image programs do. Off: it looks at few"
        " pixels around each point, as quick previews and old games do; edges become jagged.",
    )


class AveragePoolNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "AveragePool",
            display_name="Downscale (Average)",
            description="Every block of pixels became their mean, as in a mosaic or a thumbnail.",
            search_aliases=["pixelate", "mosaic", "super resolution"],
            inputs=[scale(), before()],
            outputs=[output()],
        )

    @classmethod
    def execute(cls, scale: int, operator: Recipe | None = None) -> io.NodeOutput:
        return io.NodeOutput(chained(AveragePool(scale), operator))


class BicubicNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "Bicubic",
            display_name="Downscale (Bicubic)",
            description="Shrunk with a bicubic filter, as most image programs do.",
            search_aliases=["resize", "super resolution"],
            inputs=[scale(), before()],
            outputs=[output()],
        )

    @classmethod
    def execute(cls, scale: int, operator: Recipe | None = None) -> io.NodeOutput:
        return io.NodeOutput(chained(BicubicDownsample(scale), operator))


class LanczosNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "Lanczos",
            display_name="Downscale (Lanczos)",
            description="Shrunk with Lanczos' filter, the sharpest of the usual ones.",
            search_aliases=["resize", "super resolution", "pillow"],
            inputs=[scale(), _antialias(), before()],
            outputs=[output()],
        )

    @classmethod
    def execute(cls, scale: int, antialias: bool, operator: Recipe | None = None) -> io.NodeOutput:
        return io.NodeOutput(chained(LanczosDownsample(scale, antialias), operator))


class BilinearNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "Bilinear",
            display_name="Downscale (Bilinear)",
            description="Shrunk with a soft filter, as browsers and graphics cards do.",
            search_aliases=["resize", "super resolution", "linear"],
            inputs=[scale(), _antialias(), before()],
            outputs=[output()],
        )

    @classmethod
    def execute(cls, scale: int, antialias: bool, operator: Recipe | None = None) -> io.NodeOutput:
        return io.NodeOutput(chained(BilinearDownsample(scale, antialias), operator))


class AreaNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "Area",
            display_name="Downscale (Area)",
            description="Shrunk by the method that image programs call area or box. It gives the"
            " same as Downscale (Average).",
            search_aliases=["resize", "super resolution", "box"],
            inputs=[scale(), before()],
            outputs=[output()],
        )

    @classmethod
    def execute(cls, scale: int, operator: Recipe | None = None) -> io.NodeOutput:
        return io.NodeOutput(chained(AreaDownsample(scale), operator))


class NearestNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "Nearest",
            display_name="Downscale (Nearest Pixel)",
            description="One pixel of every block was kept and the others thrown away.",
            search_aliases=["resize", "super resolution", "pixel art", "decimate"],
            inputs=[scale(), before()],
            outputs=[output()],
        )

    @classmethod
    def execute(cls, scale: int, operator: Recipe | None = None) -> io.NodeOutput:
        return io.NodeOutput(chained(NearestDownsample(scale), operator))


NODES: list[type[io.ComfyNode]] = [
    AveragePoolNode,
    BicubicNode,
    LanczosNode,
    BilinearNode,
    AreaNode,
    NearestNode,
]
