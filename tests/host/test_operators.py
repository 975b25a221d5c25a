"""Every degradation node in a real run: simulated, observed, chained, checked, and refusing."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from comfyui_flowdps.operators import REGISTRY, recipe_from_dict
from PIL import Image, ImageDraw

from .comfyui import Failed
from .graphs import ESTIMATES, Problem, degradation, degradations, demo, told, value
from .test_schemas import SNAPSHOT

NAMES = [
    key.removeprefix("FlowDPS_")
    for key, info in json.loads(SNAPSHOT.read_text(encoding="utf-8")).items()
    if info["outputs"][0][0] == "FLOWDPS_OPERATOR"
    and key not in (*ESTIMATES, "FlowDPS_DegradationOperator")
]
"""Every node for one kind of damage."""
SMALL: dict[str, dict[str, Any]] = {
    "GaussianBlur": {"size": 9, "sigma": 1.5},
    "MotionBlur": {"size": 9},
    "AnisotropicBlur": {"size": 9, "along": 3.0},
    "NonuniformBlur": {"size": 9, "count": 2},
    "Outpainting": {"left": 12, "top": 6, "right": 8, "bottom": 10},
}
"""Values that suit so small a picture."""


@pytest.fixture(scope="module")
def nodes(server) -> dict[str, dict[str, Any]]:
    return degradations(server)


def add(problem: Problem, nodes, kind: str, /, **inputs: Any):
    return degradation(problem.prompt, kind, nodes[kind], **{**SMALL.get(kind, {}), **inputs})


def measure(problem: Problem, operator, picture: str = "small.png", **inputs: Any) -> None:
    """The problem with another operator and picture."""
    p = problem.prompt
    image = p.add("LoadImage", image=picture)
    given = p[problem.measurement.id]["inputs"]
    problem.measurement = p.ours(
        "EncodeMeasurement", **{**given, "image": image[0], "operator": operator[0], **inputs}
    )


def checked(problem: Problem, image):
    given = {"image": image, "measurement": problem.measurement[0], "tolerance": 1.2}
    return problem.prompt.ours("MeasurementCheck", **given)


def test_all_are_tested(nodes):
    assert set(nodes) == {*NAMES, "DegradationOperator"}
    assert len(NAMES) == len(REGISTRY)


@pytest.mark.parametrize("kind", NAMES)
def test_two_steps(server, nodes, kind):
    """A finite picture of the right size, in which the measurement left a trace; the clean picture
    passes the check, unless nothing of the kind can be said of it."""
    problem = demo()
    p = problem.prompt
    operator = add(problem, nodes, kind)
    recipe = p.record(operator[0], "recipe")
    measure(problem, operator, noise=0.1)
    runs = {"with": problem.sampler(steps=2), "without": problem.sampler(steps=2, step_scale=0.0)}
    for name, run in runs.items():
        p.record(run[1], f"operator_{name}")
    p.record(problem.measurement[1], "operator_seen")
    restored, clean = (
        checked(problem, image)
        for image in (runs["with"][1], p.add("LoadImage", image="small.png")[0])
    )
    p.record(restored[0], "operator_residual")
    ratios = [p.record(check[2], "ratio") for check in (restored, clean)]
    outputs = server.run(p)
    image = value(server, "operator_with")
    assert image.shape == (1, 64, 64, 3)
    assert bool(image.isfinite().all())
    assert float((image - value(server, "operator_without")).abs().mean()) > 1e-3
    size = recipe_from_dict(told(outputs, recipe)).measured_size(64, 64)
    for name in ("seen", "residual"):
        assert value(server, f"operator_{name}").shape == (1, *size, 3), name
    ratio, of_clean = (told(outputs, node) for node in ratios)
    assert ratio > 0
    assert 0.8 < of_clean < 1.2


OBSERVED = {
    "Mask": (53, 75),
    "Outpainting": (53 + 16, 75 + 20),
    "Colorization": (53, 75),
    "Interlace": (53, 75),
    "Bayer": (53, 75),
    "Jpeg": (53, 75),
    "Quantise": (53, 75),
    "Clip": (53, 75),
    "Kernel": (53, 75),
    "NonuniformBlur": (53, 75),
    "Nearest": (2 * 53, 2 * 75),
    "Lanczos": (2 * 53, 2 * 75),
}


@pytest.mark.parametrize("kind", OBSERVED)
def test_an_observed_photo_of_any_size(server, nodes, kind):
    """The restoration's size follows from photo and operator, and the check accepts it."""
    problem = demo()
    p = problem.prompt
    scale = {"scale": 2} if kind in ("Nearest", "Lanczos") else {}
    operator = add(problem, nodes, kind, **scale)
    measure(problem, operator, "odd.png", mode="observed", vae=problem.vae)
    run = problem.sampler("FlowChef", steps=1)
    p.record(run[1], "observed_image")
    p.record(checked(problem, run[1])[0], "observed_residual")
    server.run(p)
    image = value(server, "observed_image")
    assert image.shape == (1, *OBSERVED[kind], 3)
    assert bool(image.isfinite().all())
    assert value(server, "observed_residual").shape == (1, 53, 75, 3)


@pytest.mark.parametrize("kind", ["WalshHadamard", "BlockSensing"])
def test_no_photo_shows_random_numbers(server, nodes, kind):
    problem = demo()
    measure(problem, add(problem, nodes, kind), mode="observed")
    problem.prompt.record(problem.measurement[1], "never")
    with pytest.raises(Failed, match="no photo shows a measurement of cs_"):
        server.run(problem.prompt)


def scratched(server) -> None:
    """A photo with a white bar in it, and the mask that someone painted over it."""
    folder = server.base / "input"
    with Image.open(folder / "small.png") as photo:
        ImageDraw.Draw(photo).rectangle((20, 0, 27, 63), fill="white")
        photo.save(folder / "scratched.png")
        painted = photo.convert("RGBA")
        alpha = Image.new("L", photo.size, 255)
        ImageDraw.Draw(alpha).rectangle((19, 0, 28, 63), fill=0)
        painted.putalpha(alpha)
        painted.save(folder / "painted.png")


def test_what_is_painted_in_the_mask_editor_is_replaced(server):
    """Load Image's own mask: outside it the photo is kept, inside nothing is read of it."""
    scratched(server)
    problem = demo()
    p = problem.prompt
    photo = p.add("LoadImage", image="painted.png")
    blur = p.ours("GaussianBlur", sigma=0.8, size=5, boundary="symmetric")
    masks = {
        "alone": p.ours("Mask", mask=photo[1], threshold=0.1),
        "chained": p.ours("Mask", mask=photo[1], threshold=0.1, operator=blur[0]),
    }
    for name, mask in masks.items():
        measure(problem, mask, "scratched.png", mode="observed", noise=0.05)
        p.record(problem.measurement[1], f"masked_{name}")
        run = problem.sampler(preset="tuned", steps=8)
        p.record(run[1], f"restored_{name}")
    outputs = server.run(p)
    assert outputs
    clean = torch.from_numpy(_pixels(server, "small.png"))
    white = torch.from_numpy(_pixels(server, "scratched.png"))
    for name in masks:
        seen = value(server, f"masked_{name}")[0]
        assert bool((seen[:, 19:29] == 0.5).all()), "unknown is grey"
        torch.testing.assert_close(seen[:, :19], clean[:, :19])
        torch.testing.assert_close(seen[:, 29:], clean[:, 29:])
        hole = value(server, f"restored_{name}")[0, :, 20:28]
        found = float((hole - clean[:, 20:28]).abs().mean())
        assert found < 0.7 * float((white - clean)[:, 20:28].abs().mean())


def _pixels(server, name: str):
    import numpy as np

    with Image.open(server.base / "input" / name) as image:
        return np.asarray(image.convert("RGB"), dtype=np.float32) / 255


def test_a_mask_is_the_last_of_a_chain(server, nodes):
    """Blurred, then shrunk, then scratched: the mask is that of the small photo."""
    problem = demo()
    p = problem.prompt
    blur = add(problem, nodes, "DefocusBlur", radius=1.0)
    small = add(problem, nodes, "Bicubic", scale=2, operator=blur[0])
    mask = add(problem, nodes, "Mask", operator=small[0])
    node = p.record(mask[0], "recipe")
    measure(problem, mask, mode="observed")
    p.record(problem.measurement[1], "chain_seen")
    p.record(problem.sampler(steps=2)[1], "chain_image")
    chain = told(server.run(p), node)
    names = [each["operator"] for each in chain["recipes"]]
    assert names == ["deblur_defocus", "sr_bicubic", "inpainting"]
    assert value(server, "chain_seen").shape == (1, 64, 64, 3)
    assert value(server, "chain_image").shape == (1, 128, 128, 3)


def test_one_mask_serves_a_batch_and_equal_masks_are_one(server):
    problem = demo()
    p = problem.prompt
    image = p.add("LoadImage", image="small.png")
    mask = p.ours("Scratches", image=image[0], count=6, thickness=3.0, seed=1)
    picture = p.add("MaskToImage", mask=mask[0])
    twice = p.add("RepeatImageBatch", image=picture[0], amount=2)
    masks = p.add("ImageToMask", image=twice[0], channel="red")
    operators = [p.ours("Mask", mask=m[0], threshold=0.1) for m in (mask, masks)]
    told_ = [p.record(each[0], "recipe") for each in operators]
    outputs = server.run(p)
    assert told(outputs, told_[0]) == told(outputs, told_[1])


def test_a_kernel_goes_out_as_it_came_in(server):
    """The kernel of a blur node, as a picture, makes the same blur; a black border does nothing."""
    problem = demo()
    p = problem.prompt
    motion = p.ours("MotionBlur", size=9, intensity=0.5, seed=3, boundary="symmetric")
    black = p.add(
        "ImageCompositeMasked",
        destination=p.add("EmptyImage", width=17, height=15, batch_size=1, color=0)[0],
        source=motion[1],
        x=5,
        y=2,
        resize_source=False,
    )
    plain = p.ours("Kernel", image=motion[1], centre=True, boundary="symmetric")
    moved = p.ours("Kernel", image=black[0], centre=True, boundary="symmetric")
    for name, operator in (("motion", motion), ("plain", plain), ("moved", moved)):
        measure(problem, operator, noise=0.0)
        p.record(problem.measurement[1], f"kernel_{name}")
    p.record(plain[1], "kernel_picture")
    server.run(p)
    want = value(server, "kernel_motion")
    for name in ("plain", "moved"):
        torch.testing.assert_close(value(server, f"kernel_{name}"), want, atol=1e-5, rtol=0)
    picture = value(server, "kernel_picture")
    assert float(picture.max()) == 1
    assert picture.shape[1] % 2 == picture.shape[2] % 2 == 1


def two_masks(p):
    image = p.add("LoadImage", image="small.png")
    one, two = (
        p.add("MaskToImage", mask=p.ours("Scratches", image=image[0], seed=s, **GIVEN)[0])
        for s in (1, 2)
    )
    both = p.add("ImageBatch", image1=one[0], image2=two[0])
    masks = p.add("ImageToMask", image=both[0], channel="red")
    return p.ours("Mask", mask=masks[0], threshold=0.1)


def covering_mask(p):
    mask = p.add("SolidMask", value=1.0, width=64, height=64)
    return p.ours("Mask", mask=mask[0], threshold=0.1)


def black_kernel(p):
    image = p.add("EmptyImage", width=9, height=9, batch_size=1, color=0)
    return p.ours("Kernel", image=image[0], centre=True, boundary="symmetric")


def photo_as_kernel(p):
    image = p.add("EmptyImage", width=600, height=9, batch_size=1, color=0xFFFFFF)
    return p.ours("Kernel", image=image[0], centre=True, boundary="symmetric")


def no_light(p):
    return p.ours("Clip", shadows=0.7, highlights=0.2)


def grey_twice(p):
    grey = p.ours("Colorization", weights="luma")
    bayer = p.ours("Bayer", pattern="RGGB", operator=grey[0])
    image = p.add("LoadImage", image="small.png")
    given = {"mode": "simulate", "noise": 0.03, "seed": 0}
    return p.ours("EncodeMeasurement", image=image[0], operator=bayer[0], **given)


def nothing_left(p):
    operator = p.ours("Outpainting", left=32, top=0, right=32, bottom=0)
    image = p.add("LoadImage", image="small.png")
    given = {"mode": "simulate", "noise": 0.03, "seed": 0}
    return p.ours("EncodeMeasurement", image=image[0], operator=operator[0], **given)


GIVEN = {"count": 6, "thickness": 3.0}
REFUSED = {
    two_masks: "there are 2 masks; expected one, which serves all pictures of a batch",
    covering_mask: "the mask covers the whole picture; expected white only where",
    black_kernel: "the kernel is black; expected the picture of a light",
    photo_as_kernel: "the kernel is one flat area",
    no_light: "shadows is 0.7 and highlights 0.2; expected shadows below highlights",
    grey_twice: "bayer needs a picture in colour, and what comes before it leaves 1 channel",
    nothing_left: "the margins leave nothing of it; choose smaller margins",
}


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.__name__)
def test_refuses(server, case):
    problem = demo()
    problem.prompt.record(case(problem.prompt)[0], "never")
    with pytest.raises(Failed) as refused:
        server.run(problem.prompt)
    assert REFUSED[case] in str(refused.value)
