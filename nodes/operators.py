"""How the image was damaged: one node for the paper's tasks, and one per family."""
# pyright: reportMissingImports=false

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

from ..operators import (
    TASKS,
    AveragePool,
    BicubicDownsample,
    GaussianBlur,
    Identity,
    MotionBlur,
    Recipe,
    recipe_for_task,
)
from .kit import Operator, chained, schema

SEED = {"min": 0, "max": 0xFFFFFFFF, "control_after_generate": False}


def _before() -> io.Input:
    return Operator.Input(
        "operator",
        optional=True,
        tooltip="A degradation that happened before this one, such as a blur before shrinking."
        " Nothing connected: this one is the only one.",
    )


def _scale() -> io.Input:
    return io.Int.Input(
        "scale",
        default=4,
        min=1,
        max=64,
        tooltip="How many times smaller either side became. 2 asks for little new detail; 12 and"
        " more leave almost everything to the model. 1 shrinks nothing.",
    )


def _boundary() -> io.Input:
    return io.Combo.Input(
        "boundary",
        options=["reflect", "periodic"],
        default="reflect",
        tooltip="What the blur sees beyond the border: the image mirrored (photos), or the image"
        " again (textures that tile).",
    )


def _output() -> io.Output:
    return Operator.Output(
        display_name="operator",
        tooltip="The degradation, for Encode Measurement or another degradation node.",
    )


def _taps(kernel: Tensor) -> Tensor:
    """A kernel (h, w) as an IMAGE to look at, brightest tap white."""
    picture = (kernel / kernel.max()).float()
    return picture[None, ..., None].repeat(1, 1, 1, 3)


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
                _before(),
            ],
            outputs=[_output()],
        )

    @classmethod
    def execute(
        cls, task: str, deg_scale: int, seed: int, operator: Recipe | None = None
    ) -> io.NodeOutput:
        return io.NodeOutput(chained(recipe_for_task(task, deg_scale, seed=seed), operator))


class AveragePoolNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "AveragePool",
            display_name="Downscale (Average)",
            description="Every block of pixels became their mean, as in a mosaic or a thumbnail.",
            search_aliases=["pixelate", "mosaic", "super resolution"],
            inputs=[_scale(), _before()],
            outputs=[_output()],
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
            inputs=[_scale(), _before()],
            outputs=[_output()],
        )

    @classmethod
    def execute(cls, scale: int, operator: Recipe | None = None) -> io.NodeOutput:
        return io.NodeOutput(chained(BicubicDownsample(scale), operator))


class GaussianBlurNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "GaussianBlur",
            display_name="Gaussian Blur (Degradation)",
            description="Softly out of focus.",
            search_aliases=["deblur", "defocus"],
            inputs=[
                io.Float.Input(
                    "sigma",
                    default=3.0,
                    min=0.1,
                    max=64.0,
                    step=0.1,
                    tooltip="Radius of the blur in pixels. Below 1 hardly visible; above 10 only"
                    " shapes remain.",
                ),
                io.Int.Input(
                    "size",
                    default=61,
                    min=1,
                    max=511,
                    step=2,
                    tooltip="Width of the kernel in pixels, odd. Smaller than six times sigma cuts"
                    " the blur's tails off; larger only costs time.",
                ),
                _boundary(),
                _before(),
            ],
            outputs=[_output()],
        )

    @classmethod
    def execute(
        cls, sigma: float, size: int, boundary: str, operator: Recipe | None = None
    ) -> io.NodeOutput:
        return io.NodeOutput(chained(GaussianBlur(size, sigma, boundary), operator))


class MotionBlurNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "MotionBlur",
            display_name="Motion Blur (Degradation)",
            description="The camera shook along a random path, drawn from the seed.",
            search_aliases=["deblur", "camera shake"],
            inputs=[
                io.Int.Input(
                    "size",
                    default=61,
                    min=1,
                    max=511,
                    tooltip="Width of the kernel in pixels. 9 is a slight tremble, 61 the paper's"
                    " strong shake.",
                ),
                io.Float.Input(
                    "intensity",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Shape of the path: 0 nearly straight, 1 jagged.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    tooltip="Draws the path; each number is another shake.",
                    **SEED,
                ),
                _boundary(),
                _before(),
            ],
            outputs=[
                _output(),
                io.Image.Output(
                    display_name="kernel", tooltip="The path as a picture, brightest tap white."
                ),
            ],
        )

    @classmethod
    def execute(
        cls, size: int, intensity: float, seed: int, boundary: str, operator: Recipe | None = None
    ) -> io.NodeOutput:
        recipe = MotionBlur(size, intensity, seed, boundary)
        return io.NodeOutput(chained(recipe, operator), _taps(recipe.kernel()))


class NoDegradation(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "Identity",
            display_name="Noise Only (Degradation)",
            description="The image is complete and sharp, but noisy: with this, sampling denoises.",
            search_aliases=["denoise", "identity"],
            inputs=[],
            outputs=[_output()],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(Identity())


NODES: list[type[io.ComfyNode]] = [
    DegradationOperator,
    AveragePoolNode,
    BicubicNode,
    GaussianBlurNode,
    MotionBlurNode,
    NoDegradation,
]
