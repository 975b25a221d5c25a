"""Restore Photo inside ComfyUI: every wrong, masks, alpha, versions, and what it says."""

from __future__ import annotations

import pytest
import torch
from comfyui_flowdps.restoration.diagnosis import WRONGS

from .comfyui import Failed
from .graphs import DEMO, Prompt, value

PHOTO = "built-in photo prior"
GIVEN = {
    "wrong": "find out by itself",
    "strength": "as found",
    "invent": 0.3,
    "enlarge": 0,
    "effort": "fast",
    "seed": 0,
}
OUTPUTS = ("image", "before_after", "invented")


def restored(server, name, picture="house", before=None, **inputs):
    """Picture, outputs and report of Restore Photo; ``before`` changes the picture's link."""
    p = Prompt()
    prior = p.ours("LoadFlowPrior", checkpoint=DEMO, shift=4.0)
    link = p.ours("ExamplePicture", picture=picture)[0]
    photo = link if before is None else before(p, link)
    run = p.ours("RestorePhoto", image=photo, model=prior[0], vae=prior[2], **{**GIVEN, **inputs})
    p.record(photo, f"{name}_given")
    for k, each in enumerate(OUTPUTS):
        p.record(run[k], f"{name}_{each}")
    report = server.run(p)[run.id]["text"][0]
    return [*(value(server, f"{name}_{each}") for each in ("given", *OUTPUTS)), report]


def noisy(p, link):
    """The picture with grain."""
    operator = p.ours("Identity")
    given = {"mode": "simulate", "noise": 0.1, "seed": 0}
    return p.ours("EncodeMeasurement", image=link, operator=operator[0], **given)[1]


@pytest.mark.parametrize("wrong", WRONGS)
def test_every_wrong_gives_a_photo_of_its_size(server, wrong):
    given, image, both, lost, report = restored(
        server, f"wrong_{list(WRONGS).index(wrong)}", before=noisy, wrong=wrong
    )
    scale = 4 if wrong == "small" else 1
    height, width = (scale * n for n in given.shape[1:3])
    assert image.shape == (1, height, width, 3)
    assert both.shape == (1, height, 2 * width, 3)
    assert lost.shape == (1, height, width)
    assert float(lost.min()) >= 0
    assert float(lost.max()) <= 1
    assert "grain" in report
    assert "the photo" in report


def test_a_jpeg_is_found_in_the_pixels(server):
    def jpeg(p, link):
        return p.ours("ReadJpeg", file="FlowDPS example.jpg [temp]")[0]

    _, image, _, lost, report = restored(server, "jpeg", before=jpeg)
    assert "JPEG of quality 10" in report
    assert image.shape[1:3] == lost.shape[1:]


def test_grain_is_removed(server):
    given, image, *_ = restored(server, "grain", before=noisy, wrong="grainy")
    p = Prompt()
    p.record(p.ours("ExamplePicture", picture="house")[0], "grain_clean")
    server.run(p)
    clean = value(server, "grain_clean")
    assert float((image - clean).square().mean()) < 0.3 * float((given - clean).square().mean())


def test_known_pixels_stay_exactly_where_only_scratches_are_mended(server):
    def hole(p, link):
        mask = p.add("SolidMask", value=0.0, width=128, height=128)
        white = p.add("SolidMask", value=1.0, width=20, height=10)
        painted = p.add(
            "MaskComposite", destination=mask[0], source=white[0], x=40, y=60, operation="add"
        )
        return painted[0]

    p = Prompt()
    prior = p.ours("LoadFlowPrior", checkpoint=DEMO, shift=4.0)
    photo = p.ours("ExamplePicture", picture="house")
    run = p.ours(
        "RestorePhoto",
        image=photo[0],
        model=prior[0],
        vae=prior[2],
        mask=hole(p, photo[0]),
        **{**GIVEN, "wrong": "scratched"},
    )
    p.record(photo[0], "known_given")
    p.record(run[0], "known_image")
    server.run(p)
    given, image = value(server, "known_given"), value(server, "known_image")
    changed = (image - given).abs().amax((0, 3)) > 0
    inside = torch.zeros(128, 128, dtype=torch.bool)
    inside[60:70, 40:60] = True
    assert not bool(changed[~inside].any())
    assert bool(changed[inside].any())


def test_versions_differ_and_make_the_map(server):
    _, image, both, lost, _ = restored(server, "versions", before=noisy, versions=2)
    assert len(image) == len(both) == 2
    assert len(lost) == 1
    assert float((image[0] - image[1]).abs().max()) > 0


def test_the_photo_prior_enlarges_better_than_bicubic_and_not_as_the_demo_prior_does(server):
    p = Prompt()
    photo = p.ours("ExamplePicture", picture="house")
    sizes = {"small": (64, "area"), "bicubic": (128, "bicubic")}
    link = photo[0]
    for name, (side, how) in sizes.items():
        given = {"upscale_method": how, "width": side, "height": side, "crop": "disabled"}
        scaled = p.add("ImageScale", image=link, **given)
        p.record(scaled[0], f"photo_prior_{name}")
        link = scaled[0] if name == "small" else link
    for title in (DEMO, PHOTO):
        prior = p.ours("LoadFlowPrior", checkpoint=title, shift=4.0)
        given = {**GIVEN, "wrong": "small", "enlarge": 2}
        run = p.ours("RestorePhoto", image=link, model=prior[0], vae=prior[2], **given)
        p.record(run[0], f"{title}_image")
    p.record(photo[0], "photo_prior_clean")
    server.run(p)
    clean, bicubic = value(server, "photo_prior_clean"), value(server, "photo_prior_bicubic")
    image, other = (value(server, f"{title}_image") for title in (PHOTO, DEMO))
    assert image.shape == clean.shape
    assert float((image - clean).square().mean()) < float((bicubic - clean).square().mean())
    assert float((image - other).abs().max()) > 0.01


def test_a_mask_of_another_size_is_refused(server):
    p = Prompt()
    prior = p.ours("LoadFlowPrior", checkpoint=DEMO, shift=4.0)
    photo = p.ours("ExamplePicture", picture="house")
    mask = p.add("SolidMask", value=1.0, width=50, height=40)
    run = p.ours(
        "RestorePhoto", image=photo[0], model=prior[0], vae=prior[2], mask=mask[0], **GIVEN
    )
    p.record(run[0], "refused")
    with pytest.raises(Failed, match="50x40"):
        server.run(p)


def test_scratches_are_a_mask_for_each_picture(server):
    p = Prompt()
    photo = p.ours("ExamplePicture", picture="house")
    both = p.add("RepeatImageBatch", image=photo[0], amount=2)
    found = p.ours("FindScratches", image=both[0], sensitivity=0.5, thickness=5)
    p.record(found[0], "scratch_masks")
    server.run(p)
    masks = value(server, "scratch_masks")
    assert masks.shape == (2, 128, 128)
    assert torch.equal(masks[0], masks[1])
