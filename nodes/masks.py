"""Nodes for missing parts of a photo: scratches and holes in it, or its surroundings."""
# pyright: reportMissingImports=false

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

from ..operators import Mask, Outpainting, Recipe
from ..operators.scratches import scratches
from .degradation import DegradationNode, degradation
from .inputs import SEED
from .kit import Folder, numbers, only, schema


def _margin(side: str) -> io.Input:
    return io.Int.Input(
        side,
        default=32,
        min=0,
        max=4096,
        tooltip=f"Pixels to invent at the {side}. 0 keeps that edge; the wider the margin, the less"
        " the photo says about it.",
    )


class MaskNode(DegradationNode):
    kind = Mask

    @classmethod
    def define_schema(cls) -> io.Schema:
        return degradation(
            "Mask",
            display_name="Scratches and Holes (Mask)",
            description="The parts that you painted over are unknown and are made anew, to match"
            " the rest of the photo. A degradation of the whole photo, such as a blur, goes into"
            " the input operator.",
            search_aliases=["inpaint", "scratch removal", "object removal", "old photo"],
            inputs=[
                io.Mask.Input(
                    "mask",
                    tooltip="White (1) marks what is replaced, as painted in the mask editor of"
                    " Load Image. One mask serves all pictures; it is stretched to the photo's"
                    " size.",
                ),
                io.Float.Input(
                    "threshold",
                    default=0.1,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    tooltip="How strongly a pixel must be painted to count as unknown. 0.01: every"
                    " trace of paint, soft edges included; 1: only fully painted pixels.",
                ),
            ],
        )

    @classmethod
    def recipe(cls, mask: Tensor, threshold: float) -> Recipe:
        mask = numbers(mask, "mask", "mask")
        painted = only(mask.reshape(-1, *mask.shape[-2:]), "mask")
        return Mask.from_painted(painted, threshold)


class OutpaintingNode(DegradationNode):
    kind = Outpainting

    @classmethod
    def define_schema(cls) -> io.Schema:
        return degradation(
            "Outpainting",
            display_name="Beyond the Edges (Outpainting)",
            description="The picture continues beyond the photo's edges: the sampler invents what"
            " lies there, to match the photo.",
            search_aliases=["outpaint", "uncrop", "extend", "expand canvas"],
            inputs=[*(_margin(side) for side in ("left", "top", "right", "bottom"))],
        )


class ScratchesNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "Scratches",
            Folder.DEGRADATION,
            display_name="Random Scratches",
            description="A mask of random scratches, to try out Scratches and Holes (Mask) before"
            " you paint a mask of your own.",
            search_aliases=["old photo", "inpaint", "test mask"],
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="The mask gets the size of this picture; nothing else of it is used.",
                ),
                io.Int.Input(
                    "count",
                    default=12,
                    min=1,
                    max=200,
                    tooltip="Number of scratches. 1 is a single one; above 50 little is left of a"
                    " small picture.",
                ),
                io.Float.Input(
                    "thickness",
                    default=2.0,
                    min=0.5,
                    max=64.0,
                    step=0.5,
                    tooltip="Thickness of the scratches in pixels. 1 is a hair; thick ones hide"
                    " whole details, which the model must invent.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    tooltip="Chooses the random scratches: each number gives others.",
                    **SEED,
                ),
            ],
            outputs=[
                io.Mask.Output(
                    display_name="mask",
                    tooltip="The scratches in white, for Scratches and Holes (Mask).",
                )
            ],
        )

    @classmethod
    def execute(cls, image: Tensor, count: int, thickness: float, seed: int) -> io.NodeOutput:
        height, width = numbers(image, "image", "image").shape[1:3]
        mask = scratches(height, width, count=count, thickness=thickness, seed=seed)
        return io.NodeOutput(mask[None])


NODES: list[type[io.ComfyNode]] = [MaskNode, OutpaintingNode, ScratchesNode]
