"""The command line and the nodes make the same of the same photo."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from comfyui_flowdps.cli.arguments import parse
from comfyui_flowdps.cli.request import request_of
from comfyui_flowdps.operators import BicubicDownsample
from comfyui_flowdps.operators.observation import pad_to
from comfyui_flowdps.restoration import images
from comfyui_flowdps.restoration.pipeline import prepare
from comfyui_flowdps.tests.nodes.standin import Vae
from PIL import Image

from ..conftest import HELD_OUT

PRIOR = SimpleNamespace(stride=8, largest=2048, usual=1024)
"""All that a photo is fitted to."""


def attempt(folder: Path, cases: list, said: list[str] | None = None) -> list[Any]:
    """The outputs of nodes, given as (module, class, inputs), in a process with a stand-in host; or
    the words with which they refuse.

    Packages in ``folder`` can be imported there. ``said`` gets what the log says.
    """
    torch.save(cases, folder / "cases.pt")
    module = "comfyui_flowdps.tests.nodes.execute"
    command = [sys.executable, "-m", module, str(folder / "cases.pt"), str(folder / "found.pt")]
    places = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    run = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": places}
    )
    assert run.returncode == 0, run.stderr
    if said is not None:
        said += run.stderr.splitlines()
    return torch.load(folder / "found.pt", weights_only=False)


def execute(folder: Path, cases: list) -> list[tuple]:
    """``attempt`` of what is not refused."""
    found = attempt(folder, cases)
    assert not [each for each in found if isinstance(each, str)]
    return found


def as_image(x: torch.Tensor) -> torch.Tensor:
    """An image in [-1, 1] as Load Image gives its 8-bit file."""
    bytes_ = ((x + 1) * 127.5).round()
    return (bytes_ / 255).movedim(1, -1).contiguous()


def scene(height: int, width: int) -> Image.Image:
    """A crop of a held-out picture, enlarged to ``height`` x ``width``."""
    file = sorted((HELD_OUT / "test").glob("*.png"))[3]
    with Image.open(file) as picture:
        return picture.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)


def asked(*words: str):
    return request_of(parse(["restore", "x.png", *words]))


OBSERVATIONS = {
    "odd size": ["--task", "deblur_gauss", "--deg-scale", "5", "--noise", "0.05"],
    "downscaling": ["--task", "sr_bicubic", "--deg-scale", "3", "--noise", "0.03"],
    "interlaced": ["--task", "interlace", "--noise", "0.03"],
    "margins": ["--task", "outpainting", "--deg-scale", "5", "--noise", "0.03"],
    "zero noise": ["--task", "deblur_uni", "--deg-scale", "3", "--noise", "0"],
    "little noise": ["--task", "identity", "--noise", "0.002"],
    "mask": ["--task", "identity", "--noise", "0.03", "--mask", "MASK"],
    "blur and mask": ["--task", "deblur_defocus", "--deg-scale", "2", "--mask", "MASK"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    scene(67, 93).save(folder / "photo.png")
    mask = Image.new("L", (93, 67))
    mask.paste(255, (20, 10, 41, 33))
    mask.save(folder / "mask.png")
    scene(150, 171).save(folder / "photo.jpg", quality=35)
    return folder


def test_measurement_noise_and_residual_ratio_agree(folder):
    photo = images.read_image(folder / "photo.png")[0]
    ours, cases = [], []
    for words in OBSERVATIONS.values():
        words = [str(folder / "mask.png") if word == "MASK" else word for word in words]
        for mode in ("observed", "simulate"):
            if mode == "simulate" and "0" not in words:
                continue  # Its noise belongs to the file's name here, and to the batch there.
            request, _ = asked(*words, *(["--observed"] if mode == "observed" else []))
            observation = prepare(photo, "photo.png", request, PRIOR).observation
            restored = pad_to(0.9 * photo, *observation.image_size)
            restored = restored[..., : observation.image_size[0], : observation.image_size[1]]
            padded = pad_to(restored, *observation.padded_size)
            ratio = float(observation.bind().residual_ratio(padded))
            ours.append((observation, restored, ratio))
            inputs = {"operator": request.recipe, "noise": request.noise, "seed": 0}
            inputs |= {"image": as_image(photo), "mode": mode, "vae": Vae()}
            cases.append(("measurement", "EncodeMeasurement", inputs))
    theirs = execute(folder, cases)
    checks = [
        (
            "measurement",
            "MeasurementCheck",
            {"image": (x.movedim(1, -1) + 1) / 2, "measurement": seen[0], "tolerance": 1.2},
        )
        for (_, x, _), seen in zip(ours, theirs, strict=True)
    ]
    ratios = [outputs[2] for outputs in execute(folder, checks)]
    assert len(ours) > len(OBSERVATIONS)
    for (mine, _, ratio), (seen, *_), found in zip(ours, theirs, ratios, strict=True):
        assert (mine.image_size, mine.padded_size) == (seen.image_size, seen.padded_size)
        assert mine.noise_level == seen.noise_level
        torch.testing.assert_close(seen.y, mine.y, rtol=0, atol=1e-6)
        assert found == pytest.approx(ratio, rel=1e-5, abs=1e-5)


ESTIMATES = ("noise", "blur", "defocus", "free", "jpeg")


def test_estimates_agree(folder):
    photo = images.read_image(folder / "photo.jpg")[0]
    ours = [
        asked("--observed", "--estimate", name)[1].of(folder / "photo.jpg", photo)
        for name in ESTIMATES
    ]
    node = {"image": as_image(photo), "noise": 0.0, "size": 31}
    cases = [
        ("estimation", "EstimateNoise", {"image": node["image"]}),
        *(
            ("estimation", "EstimateBlur", {**node, "family": family})
            for family in ("automatic", "defocus", "free")
        ),
        ("estimation", "ReadJpeg", {"file": str(folder / "photo.jpg")}),
    ]
    noise, *blurs, jpeg = execute(folder, cases)
    assert ours[0][1] == pytest.approx(noise[0], abs=1e-6)
    assert ours[0][2] == [noise[1]]
    for (recipe, level, notes), (theirs, _, report, there) in zip(ours[1:4], blurs, strict=True):
        assert recipe == theirs
        assert level == pytest.approx(there, abs=1e-6)
        assert notes == [report]
    assert ours[4][0] == jpeg[1]
    assert ours[4][1] == pytest.approx(jpeg[4], abs=1e-6)
    assert ours[4][2] == [jpeg[3]]


def test_transparent_parts_are_put_on_white_and_it_is_said(tmp_path):
    """Whatever colours hide under them: nodes see what the command sees."""
    generator = torch.Generator().manual_seed(5)
    seen = torch.rand(1, 48, 48, 3, generator=generator)
    alpha = torch.rand(1, 48, 48, 1, generator=generator).round()
    plain = alpha * seen + 1 - alpha
    hidden = torch.cat([torch.where(alpha > 0, seen, 0.3), alpha], -1)
    opaque = torch.cat([plain, torch.ones_like(alpha)], -1)
    known = {"operator": BicubicDownsample(4), "mode": "simulate", "noise": 0.0, "seed": 0}
    noise = ("estimation", "EstimateNoise")
    cases = [
        (*place, more | {"image": image})
        for place, more in ((("measurement", "EncodeMeasurement"), known), (noise, {}))
        for image in (plain, hidden, opaque)
    ]
    said: list[str] = []
    found = attempt(tmp_path, cases, said)
    for k in (1, 2):
        torch.testing.assert_close(found[k][1], found[0][1])
        assert found[3 + k][0] == pytest.approx(found[3][0])
    told = "the transparent parts of the image are put on white"
    assert [line for line in said if "transparent" in line] == [told] * 2


@pytest.mark.parametrize("paint", [1.0, 0.0])
def test_a_kernel_on_transparency_is_the_light_that_was_painted(tmp_path, paint):
    """On whatever colour lies under a transparent ground, as in the command; also dark paint."""
    alpha = torch.zeros(1, 21, 21, 1)
    alpha[:, 8:13, 10] = 1
    images = [torch.cat([alpha] * 3, -1)]
    for under in (1.0, 0.0):
        colours = torch.where(alpha > 0, paint, under).expand(-1, -1, -1, 3)
        images.append(torch.cat([colours, alpha], -1))
    more = {"centre": True, "boundary": "symmetric", "operator": None}
    cases = [("blurs", "KernelNode", more | {"image": image}) for image in images]
    first, *others = attempt(tmp_path, cases)
    assert [recipe[0] for recipe in others] == [first[0]] * 2
