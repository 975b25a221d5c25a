"""Crop Detail and Stitch Detail, with masks and boxes of every form that hosts give."""

from __future__ import annotations

import pytest
import torch
from comfyui_flowdps.restoration.details import Details

from .test_agreement import execute

BOX = {"x": 40, "y": 20, "width": 24, "height": 30}
FRACTIONS = {"x": 39.7, "y": 20.4, "width": 24.2, "height": 29.6, "label": "face", "score": 0.9}
MASK = torch.zeros(1, 70, 110)
MASK[:, 20:50, 40:64] = 1


def image(count=1, channels=3):
    return torch.rand(count, 70, 110, channels, generator=torch.Generator().manual_seed(count))


def crop(folder, *each):
    """Crops, masks and stitch of Crop Detail for each of the inputs."""
    given = {"padding": 8, "size": 0}
    return execute(folder, [("details", "CropDetail", {**given, **more}) for more in each])


FORMS = {
    "mask": {"mask": MASK},
    "one box": {"boxes": BOX},
    "boxes": {"boxes": [FRACTIONS]},
    "boxes of each picture": {"boxes": [[BOX], [FRACTIONS]]},
    "numbers": BOX,
    "all of them": {"mask": MASK, "boxes": [[BOX]], **BOX},
    "an empty mask of no size": {"mask": torch.zeros(1, 64, 64), "boxes": BOX},
}


def test_masks_and_boxes_say_the_same(tmp_path):
    x = image(2)
    found = crop(tmp_path, *({"image": x, **form} for form in FORMS.values()))
    for crops, mask, details in found:
        assert crops.shape == (2, 48, 48, 3)
        assert isinstance(details, Details)
        assert torch.equal(crops, found[0][0])
        assert torch.equal(mask, found[0][1])
        for (number, box), own, inside in zip(details.crops, crops, mask, strict=True):
            seen = x[number, box.top : box.bottom, box.left : box.right]
            assert torch.equal(own, seen)
            marked = MASK[0, box.top : box.bottom, box.left : box.right]
            assert torch.equal(inside, marked)
            assert float(inside.sum()) == 24 * 30


def test_what_was_cut_out_goes_back_and_the_rest_stays(tmp_path):
    x = image(2, 4)
    parts = [[BOX, {**BOX, "x": 86, "y": 0}], []]
    ((crops, _, details),) = crop(tmp_path, {"image": x, "boxes": parts, "padding": 4})
    assert crops.shape[-1] == 4
    back = [crops, crops[..., :3] * 0, torch.ones(4, 96, 96, 3)]
    cases = [
        ("details", "StitchDetail", {"image": each, "stitch": details, "feather": 3})
        for each in back
    ]
    (same,), (black,), (white,) = execute(tmp_path, cases)
    assert torch.equal(same, x)
    assert white.shape == (4, 70, 110, 4)
    for changed, value in ((black, 0.0), (white[:2], 1.0), (white[2:], 1.0)):
        assert torch.equal(changed[1], x[1])
        assert torch.equal(changed[..., 3], x[..., 3])
        inner = changed[0, 20:50, 40:64, :3]
        assert torch.equal(inner, torch.full_like(inner, value))


def test_several_parts_of_one_mask_are_squares_of_the_size(tmp_path):
    mask = MASK.clone()
    mask[:, 4:9, 95:105] = 1
    ((crops, masks, details),) = crop(tmp_path, {"image": image(), "mask": mask, "size": 96})
    assert crops.shape == (2, 96, 96, 3)
    assert masks.shape == (2, 96, 96)
    assert 0 <= float(crops.min()) < float(crops.max()) <= 1
    assert all(box.height == box.width for _, box in details.crops)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"mask": torch.ones(1, 30, 40)}, "the mask is 40x30 and the picture 110x70"),
        ({"mask": MASK.expand(3, -1, -1)}, "there are 3 masks and 1 pictures"),
        ({"boxes": [(1, 2, 3, 4)]}, "expected x, y, width and height"),
        ({"boxes": [[BOX], [BOX], [BOX]]}, "boxes for 3 pictures and 1 pictures"),
    ],
)
def test_what_cannot_be_cut_is_refused_in_a_sentence(tmp_path, more, words):
    with pytest.raises(AssertionError, match=words.replace("(", "\\(")):
        crop(tmp_path, {"image": image(), **more})
