"""Compressed sensing: few random numbers of the picture are known. Only to try methods with."""
# pyright: reportMissingImports=false

from __future__ import annotations

from comfy_api.latest import io

from ..operators import BlockSensing, WalshHadamard
from .degradation import DegradationNode, degradation
from .inputs import SEED


def _ratio() -> io.Input:
    return io.Float.Input(
        "ratio",
        default=0.25,
        min=0.01,
        max=1.0,
        step=0.01,
        tooltip="How many numbers are known per pixel. 1 tells everything; 0.25 is a usual test;"
        " below 0.05 almost everything is left to the model.",
    )


def _seed() -> io.Input:
    return io.Int.Input(
        "seed", default=0, tooltip="Draws what is measured; each number something else.", **SEED
    )


class WalshHadamardNode(DegradationNode):
    kind = WalshHadamard

    @classmethod
    def define_schema(cls) -> io.Schema:
        return degradation(
            "WalshHadamard",
            display_name="Single-Pixel Camera (Walsh-Hadamard)",
            description="Random patterns were laid over the whole picture and only the light behind"
            " each was measured. It can be simulated only.",
            search_aliases=["compressed sensing", "hadamard", "random projection"],
            inputs=[_ratio(), _seed()],
        )


class BlockSensingNode(DegradationNode):
    kind = BlockSensing

    @classmethod
    def define_schema(cls) -> io.Schema:
        return degradation(
            "BlockSensing",
            display_name="Block Camera (Compressed Sensing)",
            description="Of every block of pixels a few random sums were measured. It can be"
            " simulated only.",
            search_aliases=["compressed sensing", "random projection"],
            inputs=[
                _ratio(),
                io.Int.Input(
                    "block",
                    default=32,
                    min=1,
                    max=64,
                    tooltip="Side of a block in pixels. 1 is a sample of pixels; 64 mixes the"
                    " most, and takes longer.",
                ),
                _seed(),
            ],
        )


NODES: list[type[io.ComfyNode]] = [WalshHadamardNode, BlockSensingNode]
