"""The file was made too small: JPEG, and few levels of colour."""
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
            description="Saved as a JPEG of low quality: blocks, ringing and washed-out colour.",
            search_aliases=["jpeg artifacts", "compression", "deblocking"],
            inputs=[
                io.Int.Input(
                    "quality",
                    default=30,
                    min=1,
                    max=100,
                    tooltip="Quality at which it was saved. 5 is blocks of plain colour, 30 clearly"
                    " damaged, 90 hardly; 100 loses almost nothing.",
                ),
                io.Combo.Input(
                    "subsampling",
                    options=list(SUBSAMPLING),
                    default="4:2:0",
                    tooltip="Resolution of the colours. 4:2:0: half in both directions, as most"
                    " files have it; 4:2:2: half across; 4:4:4: full.",
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
            description="Every colour channel has few levels left, as in an old GIF: smooth skies"
            " became bands.",
            search_aliases=["posterize", "banding", "quantize", "bit depth"],
            inputs=[
                io.Int.Input(
                    "levels",
                    default=8,
                    min=2,
                    max=256,
                    tooltip="Levels of red, green and blue each. 2 is on or off; 8 shows clear"
                    " bands; 256 is an ordinary picture.",
                ),
            ],
        )


NODES: list[type[io.ComfyNode]] = [JpegNode, QuantiseNode]
