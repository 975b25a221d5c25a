"""Nodes that cut details out of a picture, such as faces, and stitch them back."""
# pyright: reportMissingImports=false

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ..restoration.details import MULTIPLE, Box, Details, parts_of
from .kit import Folder, check_own, numbers, schema

Stitch = io.Custom("FLOWDPS_STITCH")
"""A ``Details`` in the host's range of 0 to 1."""
Boxes = io.Custom("BOUNDING_BOX,BOUNDING_BOXES")
"""One box, those of a picture, or a list of them for each picture; older hosts have none."""
LARGEST = 16384


def fitting(mask: Tensor | None, height: int, width: int, what: str = "picture") -> Tensor | None:
    """The masks (N, height, width) from 0 to 1; None for none, and for empty ones of another size.

    ValueError for a painted mask of another size.
    """
    if mask is None:
        return None
    mask = mask.reshape(-1, *mask.shape[-2:]).float().cpu()
    if tuple(mask.shape[1:]) != (height, width):
        # Load Image gives a small empty mask with pictures that have no alpha.
        if not bool((mask > 0).any()):
            return None
        raise ValueError(
            f"the mask is {mask.shape[2]}x{mask.shape[1]} and the {what} {width}x{height}"
            f" (width x height): paint it on this {what}"
        )
    return mask


def _place(name: str, tooltip: str) -> io.Input:
    return io.Int.Input(name, default=0, min=0, max=LARGEST, optional=True, tooltip=tooltip)


class CropDetail(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "CropDetail",
            Folder.DETAIL,
            display_name="Crop Detail",
            description="Cuts faces or other details out of a picture, around a mask or boxes, so"
            " that they can be restored at the size that the model does best. Stitch Detail puts"
            " them back.",
            search_aliases=["face", "detailer", "crop", "inpaint crop", "bbox", "segs", "region"],
            inputs=[
                io.Image.Input("image", tooltip="The picture, or a batch of one size."),
                io.Int.Input(
                    "padding",
                    default=32,
                    min=0,
                    max=4096,
                    tooltip="Pixels around what is marked that are cut out as well, for the model"
                    " to see where the detail belongs. 0: none; half of a face's width is much.",
                ),
                io.Int.Input(
                    "size",
                    default=0,
                    min=0,
                    max=4096,
                    step=MULTIPLE,
                    tooltip="Side in pixels of the crops, which are squares then: 512 or 1024 for a"
                    " model that does best there. 0: they keep their own pixels, and all have the"
                    " size of the largest one. Restore Photo wants 0: resizing hides grain and"
                    " blur.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="White on the details. Each connected part gets a crop of its own;"
                    " crops that overlap become one. One mask for all pictures, or one for each.",
                ),
                Boxes.Input(
                    "boxes",
                    optional=True,
                    tooltip="Boxes of a detector, such as the host's face or object detection.",
                ),
                _place("x", "Left edge in pixels of one more detail, the same in all pictures."),
                _place("y", "Its upper edge in pixels."),
                _place("width", "Its width in pixels; 0: there is no such detail."),
                _place("height", "Its height in pixels; 0: there is no such detail."),
            ],
            outputs=[
                io.Image.Output(
                    display_name="image",
                    tooltip="The crops, one after the other. Their sides are multiples of"
                    f" {MULTIPLE}; what lies beyond the picture is its reflection.",
                ),
                io.Mask.Output(
                    display_name="mask", tooltip="What was marked, cut out in the same way."
                ),
                Stitch.Output(
                    display_name="stitch", tooltip="For Stitch Detail: the picture and the places."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: Tensor,
        padding: int,
        size: int,
        mask: Tensor | None = None,
        boxes: Any = None,
        x: int = 0,
        y: int = 0,
        width: int = 0,
        height: int = 0,
    ) -> io.NodeOutput:
        count, tall, wide = numbers(image, "image", "image").shape[:3]
        masks = fitting(mask, tall, wide)
        if masks is not None and len(masks) not in (1, count):
            raise ValueError(
                f"there are {len(masks)} masks and {count} pictures; expected one mask, or one for"
                " each picture"
            )
        marked = torch.zeros(count, 1, tall, wide)
        parts: list[list[Box]] = [[] for _ in range(count)]
        if masks is not None:
            marked[:, 0] = masks
            found = [parts_of(each) for each in masks]
            parts = [list(own) for own in (found if len(found) == count else found * count)]
        one = [Box(x, y, width, height)] if width > 0 and height > 0 else []
        for k, own in enumerate(_each(boxes, count)):
            for box in (*own, *one):
                if (seen := box.inside(tall, wide)) is not None:
                    marked[k, :, seen.top : seen.bottom, seen.left : seen.right] = 1
                    parts[k].append(seen)
        details = Details.around(image.movedim(-1, 1), parts, padding, size, (0.0, 1.0))
        crops = details.cut(details.pictures)
        return io.NodeOutput(crops.movedim(1, -1).contiguous(), details.cut(marked)[:, 0], details)


def _each(boxes: Any, count: int) -> list[list[Box]]:
    """The boxes of every one of ``count`` pictures; ValueError for what is none."""
    if boxes is None:
        return [[]] * count
    if isinstance(boxes, dict):
        boxes = [boxes]
    try:
        own = boxes if boxes and not isinstance(boxes[0], dict) else [boxes]
        found = [[_box(each) for each in some] for some in own]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"the boxes are {str(boxes)[:80]}; expected x, y, width and height of each: give the"
            " detector's mask instead"
        ) from error
    if len(found) not in (1, count):
        raise ValueError(
            f"there are boxes for {len(found)} pictures and {count} pictures; expected those of one"
            " for all, or those of each: detect in the same pictures"
        )
    return found if len(found) == count else found * count


def _box(values: dict[str, Any]) -> Box:
    """A box from the host's x, y, width and height, rounded to whole pixels, at least one."""
    left, top = round(float(values["x"])), round(float(values["y"]))
    right = round(float(values["x"]) + float(values["width"]))
    bottom = round(float(values["y"]) + float(values["height"]))
    return Box(left, top, max(1, right - left), max(1, bottom - top))


class StitchDetail(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "StitchDetail",
            Folder.DETAIL,
            display_name="Stitch Detail",
            description="Puts restored crops of Crop Detail back into their picture, without a"
            " seam. Outside of the crops nothing changes.",
            search_aliases=["face", "detailer", "paste", "uncrop", "inpaint stitch", "composite"],
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="The restored crops, in the order in which they were cut out, of any"
                    " size. Several versions of all of them give as many pictures.",
                ),
                Stitch.Input("stitch", tooltip="From Crop Detail."),
                io.Int.Input(
                    "feather",
                    default=24,
                    min=0,
                    max=1024,
                    tooltip="Pixels of the picture over which a crop fades in from its edge. 0: a"
                    " hard edge. With no more than the padding of Crop Detail, what was marked is"
                    " replaced as a whole.",
                ),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The whole picture.")],
        )

    @classmethod
    def execute(cls, image: Tensor, stitch: Details, feather: int) -> io.NodeOutput:
        check_own(stitch, Details, "stitch")
        image = numbers(image, "image", "image")
        result = stitch.stitched(image.movedim(-1, 1), feather)
        return io.NodeOutput(result.movedim(1, -1).contiguous())


NODES: list[type[io.ComfyNode]] = [CropDetail, StitchDetail]
