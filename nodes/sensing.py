"""Nodes for compressed sensing: few random measurements of the picture. For experiments only."""
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
        tooltip="Known numbers per pixel. 1: everything is known; 0.25: a common test; below 0.05:"
        " almost everything is left to the model.",
    )


def _seed() -> io.Input:
    return io.Int.Input(
        "seed",
        default=0,
        tooltip="Chooses what is measured: each number gives another choice.",
        **SEED,
    )


class WalshHadamardNode(DegradationNode):
    kind = WalshHadamard

    @classmethod
    def define_schema(cls) -> io.Schema:
        return degradation(
            "WalshHadamard",
            display_name="Single-Pixel Camera (Walsh-Hadamard)",
            description="Random patterns were laid over the whole picture and only the light"
            " behind each was measured. This can only be simulated.",
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
            description="Only a few random sums were measured of every block of pixels. This can"
            " only be simulated.",
            search_aliases=["compressed sensing", "random projection"],
            inputs=[
                _ratio(),
                io.Int.Input(
                    "block",
                    default=32,
                    min=1,
                    max=64,
                    tooltip="Side of a block in pixels. 1: every pixel is a block of its own; 64:"
                    " the sums mix the most pixels, and take longer.",
                ),
                _seed(),
            ],
        )


NODES: list[type[io.ComfyNode]] = [WalshHadamardNode, BlockSensingNode]
