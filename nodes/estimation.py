"""Nodes that find out how a photo was damaged: from the photo, its file, or an example."""
# pyright: reportMissingImports=false

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from functools import partial
from pathlib import Path

import folder_paths
import torch
from comfy_api.latest import io
from torch import Tensor

from ..estimation.example import LARGEST, operator_from_example
from ..estimation.families import FAMILIES
from ..estimation.registry import KERNEL_SIZE, Photo, estimate
from ..estimation.scratches import find_scratches
from ..operators import Recipe
from ..restoration.images import read
from .example import FOLDER
from .inputs import before, kernel_picture, sensitivity
from .kit import Folder, Operator, chained, from_images, schema, to_images
from .waiting import waiting

log = logging.getLogger(__name__)

AUTOMATIC = "automatic"
EXAMPLE = "FlowDPS example.jpg [temp]"
"""A JPEG of quality 10 that comes with the pack, so that a workflow runs without a file."""


def _operator() -> io.Output:
    return Operator.Output(
        display_name="operator", tooltip="The degradation that was found, for Encode Measurement."
    )


def _kernel() -> io.Output:
    return io.Image.Output(
        display_name="kernel",
        tooltip="The shape that a single point became; its brightest pixel is white.",
    )


def _report() -> io.Output:
    return io.String.Output(display_name="report", tooltip="The result in one line.")


def _noise() -> io.Output:
    return io.Float.Output(
        display_name="noise",
        tooltip="Standard deviation of the noise for pixel values from -1 to 1: connect it to"
        " Encode Measurement's noise.",
    )


class EstimateNoise(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "EstimateNoise",
            Folder.ESTIMATE,
            display_name="Estimate Noise",
            description="Measures how noisy a photo is, from its smoothest areas.",
            search_aliases=["noise level", "grain", "iso", "sigma", "denoise strength"],
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="The photo at its own size: resizing it first changes its noise. A"
                    " batch gives one level for all its pictures.",
                ),
            ],
            outputs=[_noise(), _report()],
        )

    @classmethod
    def execute(cls, image: Tensor) -> io.NodeOutput:
        found = estimate("noise", Photo(to_images(image), progress=waiting()))
        return io.NodeOutput(found.noise_level, found.report)


class EstimateBlur(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "EstimateBlur",
            Folder.ESTIMATE,
            display_name="Estimate Blur Kernel",
            description="Finds the blur of a photo from the photo alone: softly out of focus"
            " (Gaussian), a lens out of focus (a disk), moved in a straight line, or none. With a"
            " mask, it measures a point of light.",
            search_aliases=["blind deblur", "kernel", "psf", "point spread function", "defocus"],
            inputs=[
                io.Image.Input(
                    "image", tooltip="One photo, with the same blur everywhere, at its own size."
                ),
                io.Combo.Input(
                    "family",
                    options=[AUTOMATIC, *FAMILIES, "free"],
                    default=AUTOMATIC,
                    tooltip="Kind of blur to look for. automatic: the kind that explains the photo"
                    " best. gaussian: soft. defocus: a disk, from a lens. motion: a straight line."
                    " free: any shape, for crooked camera shake; one that cannot be trusted is"
                    " shown, but no blur is undone. Not used with a mask.",
                ),
                io.Float.Input(
                    "noise",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.005,
                    round=0.0001,
                    tooltip="Noise level of the photo, if you know it. 0: it is measured. Too"
                    " small a number mistakes noise for sharp detail; too large a number hides the"
                    " blur.",
                ),
                io.Int.Input(
                    "size",
                    default=KERNEL_SIZE,
                    min=3,
                    max=255,
                    step=2,
                    tooltip="Width of the kernel in pixels, an odd number; only used with a mask"
                    " or with free. Choose a little more than the width of the blur: too small"
                    " cuts it off, too large adds noise.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="White on the blurred picture of one point of light, such as a star or"
                    " a distant lamp, and on little else. The kernel is then measured there.",
                ),
            ],
            outputs=[_operator(), _kernel(), _report(), _noise()],
        )

    @classmethod
    def execute(
        cls, image: Tensor, family: str, noise: float, size: int, mask: Tensor | None = None
    ) -> io.NodeOutput:
        light = None if mask is None else mask.reshape(-1, *mask.shape[-2:])[0]
        name = family if light is None else "point"
        photo = Photo(to_images(image), None, light, noise or None, size, waiting())
        found = estimate("blur" if name == AUTOMATIC else name, photo)
        if not found.trusted:
            log.warning("Estimate Blur Kernel: %s", found.report)
        picture = kernel_picture(found.kernel)
        return io.NodeOutput(found.recipe, picture, found.report, found.noise_level)


def _files() -> list[str]:
    """JPEG files of the input folder."""
    folder = Path(folder_paths.get_input_directory())
    files = folder.iterdir() if folder.is_dir() else ()
    suffixes = (".jpg", ".jpeg", ".jpe", ".jfif")
    found = sorted(f.name for f in files if f.suffix.lower() in suffixes and f.is_file())
    _lend_example()
    return [*found, EXAMPLE]


def _lend_example() -> None:
    """Copy the example to where the editor looks for previews; the node itself needs no copy."""
    with contextlib.suppress(OSError):
        folder = Path(folder_paths.get_temp_directory())
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(FOLDER / "house.jpg", folder / EXAMPLE.removesuffix(" [temp]"))


def _path(file: str) -> str:
    """Where a file of the host's folders lies; ValueError for a name that leads out of them."""
    if file == EXAMPLE:
        return str(FOLDER / "house.jpg")
    path = os.path.abspath(folder_paths.get_annotated_filepath(file))
    given = (
        folder_paths.get_input_directory(),
        folder_paths.get_output_directory(),
        folder_paths.get_temp_directory(),
    )
    folders = [os.path.join(os.path.abspath(each), "") for each in given]
    if "\0" in file or not path.startswith(tuple(folders)):
        raise ValueError(
            f"the file {file!r} is in none of ComfyUI's folders; choose one of the input folder"
        )
    return path


class ReadJpeg(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "ReadJpeg",
            Folder.ESTIMATE,
            display_name="Read JPEG",
            description="Loads a JPEG file and reads in it how it was compressed, so that the"
            " restoration can undo the compression.",
            search_aliases=["load image", "compression", "artifacts", "quantization", "deblock"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=_files(),
                    upload=io.UploadType.image,
                    tooltip="A JPEG file in the input folder, straight from the camera or the web."
                    " After opening and saving again, a file only describes the last compression.",
                ),
                before(),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The picture, turned upright."),
                _operator(),
                io.Int.Output(
                    display_name="quality",
                    tooltip="The nearest quality from 1 to 100. Below 30 blocks are visible; above"
                    " 90 hardly anything was lost.",
                ),
                _report(),
                io.Float.Output(
                    display_name="noise",
                    tooltip="Roughly how much the compression changed the picture, for pixel"
                    " values from -1 to 1: connect it to Encode Measurement's noise.",
                ),
            ],
        )

    @classmethod
    def execute(cls, file: str, operator: Recipe | None = None) -> io.NodeOutput:
        path = _path(file)
        try:
            # The compression belongs to the colours of the file.
            progress = waiting()
            picture = progress.during(partial(read, path, srgb=False))
            image = picture.pixels
            found = estimate("jpeg", Photo(image, path, progress=progress))
        except ValueError as error:
            # The user knows the file by its name, and its folder is nobody's business.
            raise ValueError(str(error).replace(path, file)) from None
        report = "; ".join([found.report, *picture.notes])
        recipe = chained(found.recipe, operator)
        return io.NodeOutput(from_images(image), recipe, found.quality, report, found.noise_level)

    @classmethod
    def fingerprint_inputs(cls, file: str, operator: Recipe | None = None) -> str:
        stat = os.stat(_path(file))
        return f"{stat.st_mtime_ns} {stat.st_size}"

    @classmethod
    def validate_inputs(cls, file: str) -> bool | str:
        try:
            there = os.path.isfile(_path(file))
        except ValueError as error:
            return str(error)
        if not there:
            return f"there is no file {file!r} in the input folder: choose one, or upload it"
        return True


class OperatorFromExample(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "OperatorFromExample",
            Folder.ESTIMATE,
            display_name="Operator From Example",
            description="Learns a degradation from two pictures of one scene, one clean and one"
            " degraded. It can then restore other pictures from the same source.",
            search_aliases=["calibrate", "kernel from pair", "psf", "learn degradation"],
            inputs=[
                io.Image.Input("clean", tooltip="The scene as it should be."),
                io.Image.Input(
                    "degraded",
                    tooltip="The same scene, aligned to the pixel. It is as large as the clean"
                    " picture, or a whole number of times smaller; the shrinking is then part of"
                    " the degradation.",
                ),
                io.Int.Input(
                    "size",
                    default=25,
                    min=1,
                    max=LARGEST,
                    step=2,
                    tooltip="Width of the kernel in pixels of the clean picture, an odd number."
                    " Too small cuts the blur off; a large one takes longer and needs pictures"
                    " with more detail.",
                ),
            ],
            outputs=[_operator(), _kernel(), _noise(), _report()],
        )

    @classmethod
    def execute(cls, clean: Tensor, degraded: Tensor, size: int) -> io.NodeOutput:
        pair = to_images(clean, "clean picture"), to_images(degraded, "degraded picture")
        found = operator_from_example(*pair, size, waiting())
        return io.NodeOutput(
            found.recipe, kernel_picture(found.kernel), found.noise_level, str(found)
        )


class FindScratches(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "FindScratches",
            Folder.TOP,
            display_name="Find Scratches",
            description="Marks thin scratches, creases and dust in a photo, for Scratches"
            " and Holes (Mask) or Restore Photo.",
            search_aliases=["dust", "crease", "old photo", "mask", "inpaint", "repair"],
            inputs=[
                io.Image.Input(
                    "image", tooltip="The photo at its own size. Each one of a batch gets a mask."
                ),
                sensitivity(
                    "Low: only strong scratches; high: faint ones as well, and sometimes hairs,"
                    " wires and edges."
                ),
                io.Int.Input(
                    "thickness",
                    default=5,
                    min=1,
                    max=25,
                    tooltip="Width in pixels of the widest scratch. Too small misses wide ones;"
                    " too large takes branches and letters for scratches.",
                ),
            ],
            outputs=[
                io.Mask.Output(display_name="mask", tooltip="White on the scratches."),
                _report(),
            ],
        )

    @classmethod
    def execute(cls, image: Tensor, sensitivity: float, thickness: int) -> io.NodeOutput:
        x, progress, masks = to_images(image), waiting(), []
        for k, one in enumerate(x.split(1)):
            part = progress.part(k / len(x), (k + 1) / len(x))
            masks.append(find_scratches(one, sensitivity, thickness, part))
        masks = torch.stack(masks)
        return io.NodeOutput(masks, f"scratches on {float(masks.mean()):.1%} of the picture")


NODES: list[type[io.ComfyNode]] = [
    EstimateNoise,
    EstimateBlur,
    ReadJpeg,
    OperatorFromExample,
    FindScratches,
]
