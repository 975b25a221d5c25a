"""Pictures that come with the pack, so that a workflow runs before the user chooses a picture."""
# pyright: reportMissingImports=false

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import folder_paths
from comfy_api.latest import io
from torch import Tensor

from ..restoration.images import read_image
from .kit import Folder, from_images, schema

log = logging.getLogger(__name__)

# Not "examples": the host would serve a folder of that name instead of the workflows.
FOLDER = Path(__file__).resolve().parents[1] / "pictures"
PICTURES = sorted(file.stem for file in FOLDER.glob("*.png"))
"""Clean ones, which the demo prior knows the like of."""
PHOTOS = {
    f"photo, {file.stem}": file
    for file in sorted((FOLDER / "photos").iterdir())
    if file.suffix in (".jpg", ".webp")
}
"""Damaged photographs."""
LENT = {
    f"FlowDPS {file.name}": file
    for file in sorted((FOLDER / "photos").iterdir())
    if file.suffix in (".jpg", ".mp4", ".webp")
}
"""What Load Image and Load Video of the workflows open, by its name in the input folder: a user
then gives a photo there, in the place of ours, in the graph as in the form of App mode."""


def lend() -> None:
    """Copy the damaged photographs and the film to the host's input folder, unless they are there.

    A folder that cannot be written to costs the examples, which is logged, and nothing else.
    """
    folder = Path(folder_paths.get_input_directory())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, file in LENT.items():
            content = file.read_bytes()
            with contextlib.suppress(FileExistsError), (folder / name).open("xb") as copy:
                copy.write(content)
    except OSError as error:
        log.warning("FlowDPS: the example photos cannot be copied to %s (%s)", folder, error)


def picture_image(name: str) -> Tensor:
    """A picture of the pack as the host's IMAGE; ValueError for an unknown name."""
    if name not in (*PHOTOS, *PICTURES):
        raise ValueError(
            f"there is no example picture {name!r}; expected one of"
            f" {', '.join((*PHOTOS, *PICTURES))}"
        )
    return from_images(read_image(PHOTOS.get(name, FOLDER / f"{name}.png"))[0])


class ExamplePicture(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "ExamplePicture",
            Folder.LOAD,
            display_name="Example Picture",
            description="A picture that comes with this pack: a damaged photograph, or a clean"
            " emoji of 128 x 128 pixels. The built-in models were not trained on any of them.",
            search_aliases=["load image", "sample image", "demo picture"],
            inputs=[
                io.Combo.Input(
                    "picture",
                    options=[*PHOTOS, *PICTURES],
                    tooltip="Which picture. A photo is damaged as its name says: give it to Restore"
                    " Photo with the built-in photo prior. The others are clean emoji, for Encode"
                    " Measurement with simulate and the demo prior. For a picture of your own, use"
                    " Load Image.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="image", tooltip="For Restore Photo, or for Encode Measurement."
                )
            ],
        )

    @classmethod
    def execute(cls, picture: str) -> io.NodeOutput:
        return io.NodeOutput(picture_image(picture))


NODES: list[type[io.ComfyNode]] = [ExamplePicture]
