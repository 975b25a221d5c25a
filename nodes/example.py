"""Pictures that ship with the pack, so that a workflow runs before you have chosen one of yours."""
# pyright: reportMissingImports=false

from __future__ import annotations

from pathlib import Path

from comfy_api.latest import io
from torch import Tensor

from ..restoration.images import read_image
from .kit import from_images, schema

# Not "examples": the host serves a folder of that name in place of the workflows.
FOLDER = Path(__file__).resolve().parents[1] / "pictures"
PICTURES = sorted(file.stem for file in FOLDER.glob("*.png"))


def picture_image(name: str) -> Tensor:
    """A picture that ships with the pack as the host's IMAGE; ValueError for an unknown name."""
    if name not in PICTURES:
        raise ValueError(
            f"there is no example picture {name!r}; expected one of {', '.join(PICTURES)}"
        )
    return from_images(read_image(FOLDER / f"{name}.png")[0])


class ExamplePicture(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "ExamplePicture",
            display_name="Example Picture",
            description="A picture of 128 x 128 pixels that comes with this pack and that the demo"
            " prior has never seen.",
            search_aliases=["load image", "sample image", "demo picture"],
            inputs=[
                io.Combo.Input(
                    "picture",
                    options=PICTURES,
                    tooltip="Which one. For a picture of your own, use Load Image instead; the demo"
                    " prior only does well on emoji-like ones.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="image", tooltip="The clean picture, for Encode Measurement."
                )
            ],
        )

    @classmethod
    def execute(cls, picture: str) -> io.NodeOutput:
        return io.NodeOutput(picture_image(picture))


NODES: list[type[io.ComfyNode]] = [ExamplePicture]
