"""Pictures that come with the pack, so that a workflow runs before the user chooses a picture."""
# pyright: reportMissingImports=false

from __future__ import annotations

from pathlib import Path

from comfy_api.latest import io
from torch import Tensor

from ..restoration.images import read_image
from .kit import Folder, from_images, schema

# Not "examples": the host would serve a folder of that name instead of the workflows.
FOLDER = Path(__file__).resolve().parents[1] / "pictures"
PICTURES = sorted(file.stem for file in FOLDER.glob("*.png"))


def picture_image(name: str) -> Tensor:
    """A picture of the pack as the host's IMAGE; ValueError for an unknown name."""
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
            Folder.LOAD,
            display_name="Example Picture",
            description="A picture of 128 x 128 pixels that comes with this pack. The demo prior"
            " was not trained on it.",
            search_aliases=["load image", "sample image", "demo picture"],
            inputs=[
                io.Combo.Input(
                    "picture",
                    options=PICTURES,
                    tooltip="Which picture. For one of your own, use Load Image instead; the demo"
                    " prior only does well on emoji-like pictures.",
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
