"""How the image was damaged: one node for all tasks by name, and one per kind of damage."""
# pyright: reportMissingImports=false

from __future__ import annotations

from comfy_api.latest import io

from ..operators import TASKS, Identity, Recipe, recipe_for_task
from . import blurs, camera, compression, masks, resampling, sensing
from .inputs import SEED, before, output
from .kit import chained, schema


class DegradationOperator(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "DegradationOperator",
            display_name="Degradation Operator",
            description="How the image was damaged, by name: the FlowDPS paper's tasks and others.",
            search_aliases=["super resolution", "deblur", "upscale", "flowdps task"],
            inputs=[
                io.Combo.Input(
                    "task",
                    options=list(TASKS),
                    default="sr_bicubic",
                    tooltip="sr_...: it was shrunk. deblur_...: it is out of focus (gauss,"
                    " defocus), shaken (motion), smeared (uni, aniso), or soft in the corners"
                    " (nonuniform)."
                    " outpainting: continue it beyond its edges. colorization: it is grey."
                    " interlace: every other row is missing. bayer: a camera's raw mosaic. cs_...:"
                    " few random numbers of it are known. jpeg: strongly compressed. quantise: few"
                    " levels. clip: overexposed. identity: it is only noisy.",
                ),
                io.Int.Input(
                    "deg_scale",
                    default=4,
                    min=1,
                    max=255,
                    tooltip="Super-resolution: how many times smaller (paper: 12). Blur: width of"
                    " the kernel in pixels (paper: 61; odd for gauss and aniso), or radius"
                    " (defocus). Small is mild, large is severe. outpainting: pixels on each side."
                    " cs: how many times fewer numbers. jpeg: quality, 1 (bad) to 100. quantise:"
                    " levels, from 2. Not used for colorization, interlace, bayer, clip, identity.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    tooltip="Draws the motion blur's path, each number another shake, and what the"
                    " cs tasks measure. Other tasks do not use it.",
                    **SEED,
                ),
                before(),
            ],
            outputs=[output()],
        )

    @classmethod
    def execute(
        cls, task: str, deg_scale: int, seed: int, operator: Recipe | None = None
    ) -> io.NodeOutput:
        return io.NodeOutput(chained(recipe_for_task(task, deg_scale, seed=seed), operator))


class NoDegradation(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "Identity",
            display_name="Noise Only (Degradation)",
            description="The image is complete and sharp, but noisy: with this, sampling denoises.",
            search_aliases=["denoise", "identity"],
            inputs=[],
            outputs=[output()],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(Identity())


NODES: list[type[io.ComfyNode]] = [
    DegradationOperator,
    *resampling.NODES,
    *blurs.NODES,
    *masks.NODES,
    *camera.NODES,
    *compression.NODES,
    *sensing.NODES,
    NoDegradation,
]
