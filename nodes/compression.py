"""Nodes for compressed pictures: JPEG, and few levels of colour."""
# pyright: reportMissingImports=false

from __future__ import annotations

from comfy_api.latest import io

from ..operators import Jpeg, Quantise
from ..operators.jpeg import SUBSAMPLING
from .degradation import DegradationNode, degradation


class JpegNode(DegradationNode):
    kind = Jpeg

    @classmethod
    def define_schema(cls) -> io.Schema:
        return degradation(
            "Jpeg",
            display_name="JPEG Damage (Degradation)",
            description="The picture was saved as a JPEG of low quality: blocks, ringing and"
            " washed-out colour.",
            search_aliases=["jpeg artifacts", "compression", "deblocking"],
            inputs=[
                io.Int.Input(
                    "quality",
                    default=30,
                    min=1,
                    max=100,
                    tooltip="Quality at which the picture was saved. 5 leaves blocks of plain"
                    " colour; 30 is clearly damaged; 90 hardly; 100 loses almost nothing.",
                ),
                io.Combo.Input(
                    "subsampling",
                    options=list(SUBSAMPLING),
                    default="4:2:0",
                    tooltip="Resolution of the colours. 4:2:0: half in both directions, as in most"
                    " files; 4:2:2: half across; 4:4:4: full.",
                ),
            ],
        )


class QuantiseNode(DegradationNode):
    kind = Quantise

    @classmethod
    def define_schema(cls) -> io.Schema:
        return degradation(
            "Quantise",
            display_name="Few Colours (Posterised)",
            description="Every colour channel has only a few levels left, as in an old GIF: smooth"
            " skies became bands.",
            search_aliases=["posterize", "banding", "quantize", "bit depth"],
            inputs=[
                io.Int.Input(
                    "levels",
                    default=8,
                    min=2,
                    max=256,
                    tooltip="Number of levels each for red, green and blue. 2: on or off; 8: clear"
                    " bands; 256: an ordinary picture.",
                ),
            ],
        )


NODES: list[type[io.ComfyNode]] = [JpegNode, QuantiseNode]
