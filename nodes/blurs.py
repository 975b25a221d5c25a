"""Nodes for blurred photos: Gaussian, camera shake, lens, or a kernel that the user gives."""
# pyright: reportMissingImports=false

from __future__ import annotations

import logging

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
from ..operators.kernel import light_on_black, on_black, trimmed
from .degradation import BlurNode, BorderNode, degradation
from .inputs import SEED, boundary
from .kit import numbers, only

log = logging.getLogger(__name__)


class GaussianBlurNode(BorderNode):
    kind = GaussianBlur

    @classmethod
    def define_schema(cls) -> io.Schema:
        return degradation(
            "GaussianBlur",
            display_name="Gaussian Blur (Degradation)",
            description="The photo is softly out of focus (Gaussian blur).",
            search_aliases=["deblur", "defocus"],
            inputs=[
                io.Float.Input(
                    "sigma",
                    default=3.0,
                    min=0.1,
                    max=64.0,
                    step=0.1,
                    tooltip="Width of the blur (standard deviation) in pixels. Below 1 it is"
                    " hardly visible; above 10 only large shapes remain.",
                ),
                io.Int.Input(
                    "size",
                    default=61,
                    min=1,
                    max=511,
                    step=2,
                    tooltip="Width of the kernel in pixels, an odd number. Less than six times"
                    " sigma cuts off the outer part of the blur; more only takes longer.",
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
            description="The camera shook along a random path, which the seed chooses.",
            search_aliases=["deblur", "camera shake"],
            inputs=[
                io.Int.Input(
                    "size",
                    default=61,
                    min=1,
                    max=511,
                    tooltip="Width of the kernel in pixels. 1 and 2 are no blur; 9 is a slight"
                    " tremble; 61 is the paper's strong shake.",
                ),
                io.Float.Input(
                    "intensity",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Shape of the path. 0: nearly straight; 1: jagged.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    tooltip="Chooses the random path: each number gives another shake.",
                    **SEED,
                ),
                boundary(),
            ],
            kernel="The path as a picture; its brightest point is white.",
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
                    tooltip="Radius in pixels of the disk that a small bright point became. 0 is"
                    " no blur; 2 is slightly soft; above 10 only large shapes remain.",
                ),
                boundary(),
            ],
            kernel="The disk as a picture; its brightest point is white.",
        )


class BoxBlurNode(BlurNode):
    kind = BoxBlur

    @classmethod
    def define_schema(cls) -> io.Schema:
        return degradation(
            "BoxBlur",
            display_name="Box Blur (Degradation)",
            description="Every pixel became the mean of a square around it, as with a simple blur"
            " filter.",
            search_aliases=["deblur", "uniform blur", "mean filter"],
            inputs=[
                io.Int.Input(
                    "size",
                    default=9,
                    min=1,
                    max=255,
                    tooltip="Side of the square in pixels. 1 is no blur; 9 is a common test; above"
                    " 30 only large shapes remain.",
                ),
                boundary(),
            ],
            kernel="The square as a picture, all white.",
        )


class AnisotropicBlurNode(BlurNode):
    kind = AnisotropicBlur

    @classmethod
    def define_schema(cls) -> io.Schema:
        return degradation(
            "AnisotropicBlur",
            display_name="Directional Blur (Degradation)",
            description="The picture is smeared along a straight line, as when the camera pans or"
            " a car passes.",
            search_aliases=["deblur", "motion blur", "anisotropic", "smear"],
            inputs=[
                io.Float.Input(
                    "along",
                    default=20.0,
                    min=0.1,
                    max=128.0,
                    step=0.1,
                    tooltip="Length of the smear along the line, as a standard deviation in"
                    " pixels. Below 1 it is hardly visible; 20 is the paper's strong smear.",
                ),
                io.Float.Input(
                    "across",
                    default=1.0,
                    min=0.1,
                    max=128.0,
                    step=0.1,
                    tooltip="Softness across the line, as a standard deviation in pixels. 0.1 is a"
                    " thin line; the same number as along gives a Gaussian blur.",
                ),
                io.Float.Input(
                    "angle",
                    default=30.0,
                    min=-180.0,
                    max=180.0,
                    step=1.0,
                    tooltip="Direction of the line in degrees, counter-clockwise. 0 is horizontal,"
                    " as are -180 and 180; 90 is vertical.",
                ),
                io.Int.Input(
                    "size",
                    default=61,
                    min=1,
                    max=511,
                    step=2,
                    tooltip="Width of the kernel in pixels, an odd number. Less than six times"
                    " along cuts off the ends of the smear; more only takes longer.",
                ),
                boundary(),
            ],
            kernel="The smear as a picture; its brightest point is white.",
        )


class NonuniformBlurNode(BlurNode):
    kind = NonuniformBlur

    @classmethod
    def define_schema(cls) -> io.Schema:
        return degradation(
            "NonuniformBlur",
            display_name="Soft Corners (Uneven Blur)",
            description="The blur differs from place to place: sharp in the middle and soft in the"
            " corners, or a different camera shake in each part.",
            search_aliases=["deblur", "nonuniform", "spatially varying", "simple lens"],
            inputs=[
                io.Combo.Input(
                    "kind",
                    options=["defocus", "motion"],
                    default="defocus",
                    tooltip="defocus: sharp in the middle and soft in the corners, as with a"
                    " simple lens. motion: a different random shake in each part of the picture.",
                ),
                io.Int.Input(
                    "size",
                    default=25,
                    min=1,
                    max=255,
                    tooltip="Width of the largest kernel in pixels. 1 is no blur; 25 is strong;"
                    " above 60 only large shapes remain.",
                ),
                io.Int.Input(
                    "count",
                    default=4,
                    min=1,
                    max=8,
                    tooltip="How finely the blur changes: the number of steps from sharp to soft"
                    " (defocus), or of rows and columns of shakes (motion). 1: the same blur"
                    " everywhere; 8: the finest change, and slow.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    tooltip="Chooses the random shakes (motion only): each number gives others.",
                    **SEED,
                ),
                boundary(),
            ],
            kernel="The kernels as a batch of pictures; the brightest point of each is white.",
        )


class KernelNode(BlurNode):
    kind = Kernel

    @classmethod
    def define_schema(cls) -> io.Schema:
        return degradation(
            "Kernel",
            display_name="Blur by a Picture (Kernel)",
            description="The picture was blurred by a kernel that you give: the shape that one"
            " point of light became, white on black.",
            search_aliases=["deblur", "point spread function", "psf", "convolution"],
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="One picture of a blurred point of light, on black, at the photo's"
                    " scale. Its colour and its overall brightness do not matter.",
                ),
                io.Boolean.Input(
                    "centre",
                    default=True,
                    tooltip="On: the kernel is centred on its light, so that the restored picture"
                    " does not shift. Off: the kernel is used as the picture shows it.",
                ),
                boundary(),
            ],
            kernel="The kernel as it is used: grey and cropped; its brightest point is white.",
        )

    @classmethod
    def recipe(cls, image: Tensor, centre: bool, boundary: str) -> Recipe:
        light = only(numbers(image, "kernel picture", "image"), "kernel picture").float()
        picture = light[..., :3].mean(-1)
        if light.shape[-1] == 4:
            picture = on_black(picture, light[..., 3])
        picture, told = light_on_black(picture)
        if told:
            log.warning("Blur by a Picture: %s", told)
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
