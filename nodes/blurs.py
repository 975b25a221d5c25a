"""The photo is blurred: softly, by a shaken camera, by a lens, or by a kernel of yours."""
# pyright: reportMissingImports=false

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

from ..operators import (
    AnisotropicBlur,
    BoxBlur,
    DefocusBlur,
    GaussianBlur,
    Kernel,
    MotionBlur,
    NonuniformBlur,
    Recipe,
)
from ..operators.kernel import trimmed
from .degradation import BlurNode, BorderNode, degradation
from .inputs import SEED, boundary
from .kit import only


class GaussianBlurNode(BorderNode):
    kind = GaussianBlur

    @classmethod
    def define_schema(cls) -> io.Schema:
        return degradation(
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
                boundary(),
            ],
        )


class MotionBlurNode(BlurNode):
    kind = MotionBlur

    @classmethod
    def define_schema(cls) -> io.Schema:
        return degradation(
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
                boundary(),
            ],
            kernel="The path as a picture, brightest tap white.",
        )


class DefocusBlurNode(BlurNode):
    kind = DefocusBlur

    @classmethod
    def define_schema(cls) -> io.Schema:
        return degradation(
            "DefocusBlur",
            display_name="Out of Focus (Lens Blur)",
            description="The lens was focused on something else: every point became a disk.",
            search_aliases=["deblur", "defocus", "bokeh", "disk"],
            inputs=[
                io.Float.Input(
                    "radius",
                    default=8.0,
                    min=0.0,
                    max=128.0,
                    step=0.1,
                    tooltip="Radius of the disk in pixels: how large a small bright point became."
                    " 0 is no blur, 2 a slight softness; above 10 only shapes remain.",
                ),
                boundary(),
            ],
            kernel="The disk as a picture, brightest tap white.",
        )


class BoxBlurNode(BlurNode):
    kind = BoxBlur

    @classmethod
    def define_schema(cls) -> io.Schema:
        return degradation(
            "BoxBlur",
            display_name="Box Blur (Degradation)",
            description="Every pixel became the mean of a square around it, as by a cheap blur"
            " filter.",
            search_aliases=["deblur", "uniform blur", "mean filter"],
            inputs=[
                io.Int.Input(
                    "size",
                    default=9,
                    min=1,
                    max=255,
                    tooltip="Side of the square in pixels. 1 is no blur, 9 the usual test; above"
                    " 30 only shapes remain.",
                ),
                boundary(),
            ],
            kernel="The square, all white.",
        )


class AnisotropicBlurNode(BlurNode):
    kind = AnisotropicBlur

    @classmethod
    def define_schema(cls) -> io.Schema:
        return degradation(
            "AnisotropicBlur",
            display_name="Directional Blur (Degradation)",
            description="Smeared along a straight line, as by a steady pan or a passing car.",
            search_aliases=["deblur", "motion blur", "anisotropic", "smear"],
            inputs=[
                io.Float.Input(
                    "along",
                    default=20.0,
                    min=0.1,
                    max=128.0,
                    step=0.1,
                    tooltip="How far it is smeared along the line, as a radius in pixels. Below 1"
                    " hardly visible; 20 is the paper's strong smear.",
                ),
                io.Float.Input(
                    "across",
                    default=1.0,
                    min=0.1,
                    max=128.0,
                    step=0.1,
                    tooltip="How soft it is across the line, as a radius in pixels. 0.1 is a thin"
                    " line; equal to along it is a Gaussian blur.",
                ),
                io.Float.Input(
                    "angle",
                    default=30.0,
                    min=-180.0,
                    max=180.0,
                    step=1.0,
                    tooltip="Direction of the line in degrees: 0 is level, 90 upright; it turns"
                    " counter-clockwise.",
                ),
                io.Int.Input(
                    "size",
                    default=61,
                    min=1,
                    max=511,
                    step=2,
                    tooltip="Width of the kernel in pixels, odd. Smaller than six times along cuts"
                    " the smear's tails off; larger only costs time.",
                ),
                boundary(),
            ],
            kernel="The smear as a picture, brightest tap white.",
        )


class NonuniformBlurNode(BlurNode):
    kind = NonuniformBlur

    @classmethod
    def define_schema(cls) -> io.Schema:
        return degradation(
            "NonuniformBlur",
            display_name="Soft Corners (Uneven Blur)",
            description="The blur differs from place to place: sharp in the middle and soft in the"
            " corners, or shaken by a turning camera.",
            search_aliases=["deblur", "nonuniform", "spatially varying", "simple lens"],
            inputs=[
                io.Combo.Input(
                    "kind",
                    options=["defocus", "motion"],
                    default="defocus",
                    tooltip="defocus: sharp in the middle, soft in the corners, as by a simple"
                    " lens. motion: another random shake in every part of the picture.",
                ),
                io.Int.Input(
                    "size",
                    default=25,
                    min=1,
                    max=255,
                    tooltip="Width of the largest kernel in pixels. 1 is no blur; 25 is strong;"
                    " above 60 only shapes remain.",
                ),
                io.Int.Input(
                    "count",
                    default=4,
                    min=1,
                    max=8,
                    tooltip="Steps from sharp to soft, or rows and columns of shakes. 1 is the same"
                    " blur everywhere; 8 follows every change and is slow.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    tooltip="Draws the shakes (motion only); each number is another set.",
                    **SEED,
                ),
                boundary(),
            ],
            kernel="The kernels as a batch of pictures, brightest tap white.",
        )


class KernelNode(BlurNode):
    kind = Kernel

    @classmethod
    def define_schema(cls) -> io.Schema:
        return degradation(
            "Kernel",
            display_name="Blur by a Picture (Kernel)",
            description="Blurred by a kernel that you give: what one point of light became, white"
            " on black.",
            search_aliases=["deblur", "point spread function", "psf", "convolution"],
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="One picture of a point of light after the blur, on black, at the"
                    " photo's scale. Colour is ignored, and brightness does not matter.",
                ),
                io.Boolean.Input(
                    "centre",
                    default=True,
                    tooltip="On: the middle of the light counts as the middle, so that the restored"
                    " picture does not shift. Off: the middle of the kernel's picture does.",
                ),
                boundary(),
            ],
            kernel="The kernel as it is used: grey, cropped, brightest tap white.",
        )

    @classmethod
    def recipe(cls, image: Tensor, centre: bool, boundary: str) -> Recipe:
        picture = only(image, "kernel picture")[..., :3].float().mean(-1)
        return Kernel.from_tensor(trimmed(picture, centre=centre), boundary=boundary)


NODES: list[type[io.ComfyNode]] = [
    GaussianBlurNode,
    MotionBlurNode,
    DefocusBlurNode,
    BoxBlurNode,
    AnisotropicBlurNode,
    NonuniformBlurNode,
    KernelNode,
]
