"""Faces and details inside ComfyUI: cut out, restored, and stitched back without a seam."""

from __future__ import annotations

import pytest
import torch

from .comfyui import Failed
from .graphs import DEMO, Prompt, value
from .test_photo import GIVEN, noisy

BOX = {"x": 10, "y": 60, "width": 30, "height": 24}


def stitched(server, name, restored, **places):
    """Picture, crops and result of Crop Detail, ``restored(p, crop, prior)`` and Stitch Detail."""
    p = Prompt()
    prior = p.ours("LoadFlowPrior", checkpoint=DEMO, shift=4.0)
    photo = noisy(p, p.ours("ExamplePicture", picture="house")[0])
    given = {"padding": 12, "size": 0, **places}
    given = {key: each(p) if callable(each) else each for key, each in given.items()}
    crop = p.ours("CropDetail", image=photo, **given)
    back = p.ours("StitchDetail", image=restored(p, crop, prior), stitch=crop[2], feather=8)
    for link, kind in (
        (photo, "given"),
        (crop[0], "crops"),
        (crop[1], "masks"),
        (back[0], "image"),
    ):
        p.record(link, f"{name}_{kind}")
    server.run(p)
    return [value(server, f"{name}_{kind}") for kind in ("given", "crops", "masks", "image")]


def untouched(p, crop, prior):
    return crop[0]


def photo(p, crop, prior):
    given = {**GIVEN, "wrong": "grainy"}
    return p.ours("RestorePhoto", image=crop[0], model=prior[0], vae=prior[2], **given)[0]


def sampler(p, crop, prior):
    """Enlarged crops through a measurement and Refine, which give them back as large."""
    operator = p.ours("Identity")
    given = {"mode": "observed", "noise": 0.1, "seed": 0}
    seen = p.ours("EncodeMeasurement", image=crop[0], operator=operator[0], vae=prior[2], **given)
    empty = p.ours("EmptyConditioning", model=prior[0], tokens=1)
    values = {"seed": 0, "steps": 2, "cfg": 1.0, "preset": "fast", "step_scale": 1.0}
    values |= {"positive": empty[0], "measurement": seen[0], "denoise": 0.2}
    return p.ours("RefineSampler", model=prior[0], vae=prior[2], **values)[1]


def mask(p):
    """Two parts: one inside, one at the corner."""
    link = p.add("SolidMask", value=0.0, width=128, height=128)[0]
    for x, y in ((10, 60), (112, 0)):
        white = p.add("SolidMask", value=1.0, width=16, height=16)
        more = {"x": x, "y": y, "operation": "add"}
        link = p.add("MaskComposite", destination=link, source=white[0], **more)[0]
    return link


def test_untouched_crops_give_the_picture_back(server):
    given, crops, masks, image = stitched(server, "detail_same", untouched, mask=mask)
    assert crops.shape == (2, 48, 48, 3)
    assert masks.shape == (2, 48, 48)
    assert torch.equal(image, given)


@pytest.mark.parametrize("how", [photo, sampler])
def test_only_the_details_are_restored(server, how):
    size = 64 if how is sampler else 0
    given, crops, _, image = stitched(server, f"detail_{how.__name__}", how, mask=mask, size=size)
    assert len(crops) == 2
    changed = (image != given).any(-1)[0]
    assert bool(changed[60:76, 10:26].float().mean() > 0.9)
    assert bool(changed[:16, 112:].float().mean() > 0.9)
    outside = torch.ones(128, 128, dtype=torch.bool)
    outside[42:94, :50] = False
    outside[:52, 76:] = False
    assert not bool(changed[outside].any())
    inner = (..., slice(60, 76), slice(10, 26), slice(None))
    rough = [x[inner].diff(dim=2).square().mean() for x in (given, image)]
    assert float(rough[1]) < float(rough[0])


def test_numbers_and_the_hosts_boxes_say_the_same(server):
    def box(p):
        return p.add("PrimitiveBoundingBox", **BOX)[0]

    numbers = stitched(server, "detail_numbers", untouched, **BOX)
    if "PrimitiveBoundingBox" not in server.get("/object_info"):
        pytest.skip("this host has no boxes")
    boxes = stitched(server, "detail_boxes", untouched, boxes=box)
    for one, other in zip(numbers, boxes, strict=True):
        assert torch.equal(one, other)


def test_nothing_marked_is_said(server):
    with pytest.raises(Failed, match="nothing is marked"):
        stitched(server, "detail_none", untouched)
