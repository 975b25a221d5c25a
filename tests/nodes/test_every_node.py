"""Every node without a ComfyUI: its schema, and what it makes, if it needs no model for that.

A node that is new in the registry, needs no model and has no case here fails the first test.
"""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comfyui_flowdps.operators import (
    AveragePool,
    BoxBlur,
    Chain,
    GaussianBlur,
    Identity,
    Recipe,
)
from comfyui_flowdps.operators.observation import Observation
from comfyui_flowdps.operators.scratches import scratches
from comfyui_flowdps.restoration.details import Box, Details
from comfyui_flowdps.samplers import published_sigmas
from PIL import Image
from torch import Tensor

from .test_agreement import attempt, execute, scene

SNAPSHOT = Path(__file__).parents[1] / "host" / "schemas.json"
KEPT = ("default", "min", "max", "step", "round", "control_after_generate", "forceInput")
FILES = {"checkpoint", "diffusion_model", "vae", "file"}
MODELS = {"MODEL", "VAE"}
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}


@pytest.fixture(scope="module")
def schemas() -> dict[str, dict[str, Any]]:
    """What the schema of every registered node says, by its id."""
    command = [sys.executable, "-m", "comfyui_flowdps.tools.schemas"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return {each["node_id"]: each for each in json.loads(run.stdout)}


def image(x: Tensor) -> Tensor:
    """The host's IMAGE of pictures (N, 3, H, W) in [-1, 1]."""
    return ((x + 1) / 2).movedim(1, -1).contiguous()


def picture(height: int = 64, width: int = 80) -> Tensor:
    """A held-out picture (1, 3, height, width) in [-1, 1]."""
    return torch.from_numpy(np.array(scene(height, width))).movedim(-1, 0)[None] / 127.5 - 1


def noisy(x: Tensor, level: float) -> Tensor:
    return x + level * torch.randn(x.shape, generator=torch.Generator().manual_seed(3))


def with_fields(**fields: Any) -> Callable[[Sequence[Any]], None]:
    """The law of a degradation node: its recipe has these fields and can be applied."""

    def law(outputs: Sequence[Any]) -> None:
        recipe = outputs[0]
        found = recipe.to_dict()
        assert {key: found[key] for key in fields} == fields
        y = recipe.bind((3, 64, 64)).A(torch.zeros(1, 3, 64, 64))
        assert bool(y.isfinite().all())

    return law


def with_kernel(**fields: Any) -> Callable[[Sequence[Any]], None]:
    """The same, and the second output is the kernel as a picture whose brightest tap is white."""

    def law(outputs: Sequence[Any]) -> None:
        with_fields(**fields)(outputs)
        recipe, shown = outputs
        kernels = recipe.kernels() if hasattr(recipe, "kernels") else [recipe.kernel()]
        assert len(shown) == len(kernels)
        for kernel, one in zip(kernels, shown, strict=True):
            assert float(one.max()) == 1
            part = one[..., 0]
            torch.testing.assert_close(part[part > 0], (kernel / kernel.max())[kernel > 0].float())

    return law


def mask_law(outputs: Sequence[Any]) -> None:
    """What is painted more than the threshold is unknown, and nothing else."""
    mask = outputs[0].mask()
    assert bool((mask[:, :10] == 0).all())
    assert bool((mask[:, 10:] == 1).all())


def scratches_law(outputs: Sequence[Any]) -> None:
    (mask,) = outputs
    assert torch.equal(mask[0], scratches(64, 80, count=7, thickness=3.0, seed=5))
    assert 0 < float(mask.mean()) < 0.5


def estimated_noise(outputs: Sequence[Any]) -> None:
    level, report = outputs
    assert level == pytest.approx(0.1, rel=0.15)
    assert "0.1" in report or "0.09" in report


def measured_point(outputs: Sequence[Any]) -> None:
    """A point of light under a box blur of 5 pixels: the kernel found there is that box."""
    found = outputs[0].kernel()
    assert float(found.sum()) == pytest.approx(1, abs=1e-3)
    box = torch.zeros_like(found)
    middle = [n // 2 for n in found.shape]
    box[middle[0] - 2 : middle[0] + 3, middle[1] - 2 : middle[1] + 3] = 1 / 25
    assert float((found - box).abs().sum()) < 0.1


def jpeg_law(outputs: Sequence[Any]) -> None:
    """The picture is what Pillow decodes, and the operator leaves it almost as it is."""
    shown, recipe, quality, report, noise = outputs
    assert (quality, recipe.quality) == (35, 35)
    assert "quality 35" in report
    assert 0 < noise < 0.2
    with Image.open(jpeg_file()) as there:
        pixels = torch.from_numpy(np.array(there.convert("RGB"))).float() / 255
    torch.testing.assert_close(shown[0], pixels, atol=1e-6, rtol=0)
    x = 2 * shown.movedim(-1, 1) - 1
    again = recipe.bind(tuple(x.shape[1:])).A(x)
    assert float((again - x).square().mean().sqrt()) < 0.02


def jpeg_file() -> io.BytesIO:
    stream = io.BytesIO()
    scene(72, 96).save(stream, "JPEG", quality=35)
    stream.seek(0)
    return stream


def learned(outputs: Sequence[Any]) -> None:
    """Of a box blur of 3 pixels: its kernel, and little noise."""
    recipe, _, noise, report = outputs
    kernel = recipe.kernel() if not isinstance(recipe, Chain) else recipe.recipes[0].kernel()
    h, w = (n // 2 for n in kernel.shape)
    assert float((kernel[h - 1 : h + 2, w - 1 : w + 2] - 1 / 9).abs().max()) < 0.02
    assert noise < 0.02
    assert report


def found_scratches(outputs: Sequence[Any]) -> None:
    """Most of what was scratched is marked, and most of the rest is not."""
    mask, report = outputs
    there = SCRATCHED > 0
    assert float((mask[0] > 0.5)[there].float().mean()) > 0.5
    assert float((mask[0] > 0.5)[~there].float().mean()) < 0.1
    assert "%" in report


def encoded(outputs: Sequence[Any]) -> None:
    """y = A x without noise; a latent of an eighth of the padded size."""
    observation, shown, latent = outputs
    x = picture(64, 80)
    y = AveragePool(4).bind((3, 64, 80)).A(x)
    torch.testing.assert_close(observation.y, y, atol=1e-5, rtol=0)
    torch.testing.assert_close(shown, image(y).clamp(0, 1), atol=1e-5, rtol=0)
    assert latent["samples"].shape == (1, 16, 8, 10)
    assert not bool(latent["samples"].any())


def checked(outputs: Sequence[Any]) -> None:
    """The clean picture itself differs from its measurement by the noise alone."""
    residual, report, ratio, passed = outputs
    assert ratio == pytest.approx(1, abs=0.05)
    assert passed is True
    assert report.startswith("passed")
    assert float(residual.mean()) == pytest.approx(0.5, abs=0.01)


def levels(outputs: Sequence[Any]) -> None:
    (sigmas,) = outputs
    torch.testing.assert_close(sigmas, published_sigmas(7, 3.0).float())
    assert (float(sigmas[0]), float(sigmas[-1]), len(sigmas)) == (1, 0, 8)


def compared(outputs: Sequence[Any]) -> None:
    """Of two pictures, one grey level apart: their mean lies between them, and the map is even."""
    mean, spread, best, sheet, report = outputs
    torch.testing.assert_close(mean, image(picture()) * 0.98 + 0.01, atol=1e-5, rtol=0)
    assert float(spread.std()) < 1e-3
    assert best.shape == mean.shape
    assert sheet.shape[-1] == 3
    assert "fits best" in report


def cropped(outputs: Sequence[Any]) -> None:
    """What lies in the box, marked as a whole."""
    crop, mask, _ = outputs
    torch.testing.assert_close(crop, image(X)[:, 16:32, 16:32], atol=0, rtol=0)
    assert bool((mask == 1).all())


def stitched(outputs: Sequence[Any]) -> None:
    """Black within the box, and the picture itself around it."""
    (whole,) = outputs
    assert float(whole[:, 17:31, 17:31].abs().max()) == 0
    around = torch.ones(whole.shape[1:3], dtype=torch.bool)
    around[16:32, 16:32] = False
    assert torch.equal(whole[:, around], image(X)[:, around])


def example(outputs: Sequence[Any]) -> None:
    """The picture of the file that is named."""
    (shown,) = outputs
    with Image.open(Path(__file__).parents[2] / "pictures" / "bee.png") as there:
        pixels = torch.from_numpy(np.array(there.convert("RGB"))).float() / 255
    torch.testing.assert_close(shown[0], pixels, atol=1e-6, rtol=0)


def chained(outputs: Sequence[Any]) -> None:
    """What is connected happened before."""
    chain = outputs[0]
    assert isinstance(chain, Chain)
    assert chain.recipes == (GaussianBlur(5, 1.0), AveragePool(3))


X = picture()
SCRATCHED = scratches(160, 160, count=5, thickness=2.0, seed=2)
PAINTED = torch.zeros(1, 64, 80)
PAINTED[..., :10], PAINTED[..., 10:20] = 0.5, 0.2
POINT, PLACE = torch.full((1, 65, 65, 3), 0.05), torch.zeros(1, 65, 65)
POINT[:, 30:35, 30:35], PLACE[:, 24:41, 24:41] = 0.8, 1
CUT = Details.around(image(X).movedim(-1, 1), [[Box(16, 16, 16, 16)]], 0, 0, (0.0, 1.0))
SAMPLES = torch.cat([0.98 * image(X), 0.98 * image(X) + 0.02])
CLEAN = picture(128, 128)


def seen(x: Tensor, recipe: Recipe, noise: float) -> Observation:
    return Observation.from_clean(x, recipe, noise, 16, [torch.Generator().manual_seed(1)])


SCALED = ("Bicubic", "AveragePool", "Area", "Nearest")
FILTERED = ("Lanczos", "Bilinear")
EDGE = {"boundary": "periodic"}
MOTION = {"size": 9, "intensity": 0.3, "seed": 4, **EDGE}
ANISOTROPIC = {"along": 3.0, "across": 0.7, "angle": 20.0, "size": 13, **EDGE}
NONUNIFORM = {"kind": "motion", "size": 7, "count": 2, "seed": 3, **EDGE}
MARGINS = {"left": 1, "top": 2, "right": 3, "bottom": 4}
SENSED = {"ratio": 0.5, "seed": 6}
Law = Callable[[Sequence[Any]], None]
CASES: dict[str, tuple[dict[str, Any], Law]] = {
    **{name: ({"scale": 8}, with_fields(scale=8)) for name in SCALED},
    **{
        name: ({"scale": 8, "antialias": False}, with_fields(scale=8, antialias=False))
        for name in FILTERED
    },
    "DegradationOperator": (
        {"task": "sr_avgpool", "deg_scale": 3, "seed": 0, "operator": GaussianBlur(5, 1.0)},
        chained,
    ),
    "GaussianBlur": (
        {"sigma": 1.5, "size": 9, **EDGE},
        with_fields(operator="deblur_gauss", sigma=1.5, size=9, **EDGE),
    ),
    "MotionBlur": (MOTION, with_kernel(**MOTION)),
    "DefocusBlur": ({"radius": 2.5, **EDGE}, with_kernel(radius=2.5, **EDGE)),
    "BoxBlur": ({"size": 4, **EDGE}, with_kernel(operator="deblur_uni", size=4, **EDGE)),
    "AnisotropicBlur": (ANISOTROPIC, with_kernel(**ANISOTROPIC)),
    "NonuniformBlur": (NONUNIFORM, with_kernel(**NONUNIFORM)),
    "Kernel": (
        {"image": POINT[:, 20:45, 20:45] - 0.05, "centre": True, **EDGE},
        with_kernel(operator="deblur_kernel", height=5, width=5, **EDGE),
    ),
    "Mask": ({"mask": PAINTED, "threshold": 0.3}, mask_law),
    "Outpainting": (MARGINS, with_fields(operator="outpainting", **MARGINS)),
    "Scratches": (
        {"image": image(X), "count": 7, "thickness": 3.0, "seed": 5},
        scratches_law,
    ),
    "Colorization": ({"weights": "luma"}, with_fields(weights=(0.299, 0.587, 0.114))),
    "Interlace": ({"field": "bottom"}, with_fields(operator="interlace", field="bottom")),
    "Bayer": ({"pattern": "GBRG"}, with_fields(operator="bayer", pattern="GBRG")),
    "Clip": ({"shadows": 0.25, "highlights": 0.75}, with_fields(low=-0.5, high=0.5)),
    "Jpeg": (
        {"quality": 12, "subsampling": "4:2:2"},
        with_fields(operator="jpeg", quality=12, subsampling="4:2:2"),
    ),
    "Quantise": ({"levels": 5}, with_fields(operator="quantise", levels=5)),
    "WalshHadamard": (SENSED, with_fields(operator="cs_walshhadamard", **SENSED)),
    "BlockSensing": ({"block": 8, **SENSED}, with_fields(block=8, **SENSED)),
    "Identity": ({}, with_fields(operator="identity")),
    "EstimateNoise": ({"image": image(noisy(CLEAN, 0.1))}, estimated_noise),
    "EstimateBlur": (
        {"image": POINT, "family": "automatic", "noise": 0.0, "size": 17, "mask": PLACE},
        measured_point,
    ),
    "ReadJpeg": ({"file": "JPEG"}, jpeg_law),
    "OperatorFromExample": (
        {
            "clean": image(CLEAN),
            "degraded": image(BoxBlur(3).bind((3, 128, 128)).A(CLEAN)),
            "size": 7,
        },
        learned,
    ),
    "FindScratches": (
        {
            "image": torch.maximum(image(picture(160, 160)) * 0.6, SCRATCHED[None, ..., None]),
            "sensitivity": 0.5,
            "thickness": 5,
        },
        found_scratches,
    ),
    "EncodeMeasurement": (
        {
            "image": image(picture(64, 80)),
            "operator": AveragePool(4),
            "mode": "simulate",
            "noise": 0.0,
            "seed": 0,
        },
        encoded,
    ),
    "MeasurementCheck": (
        {"image": image(X), "measurement": seen(X, Identity(), 0.1), "tolerance": 1.2},
        checked,
    ),
    "Sigmas": ({"steps": 7, "shift": 3.0}, levels),
    "Samples": ({"image": SAMPLES, "measurement": seen(X, Identity(), 0.1)}, compared),
    "ExamplePicture": ({"picture": "bee"}, example),
    "CropDetail": (
        {"image": image(X), "padding": 0, "size": 0}
        | {"x": 16, "y": 16, "width": 16, "height": 16},
        cropped,
    ),
    "StitchDetail": (
        {"image": 0 * CUT.cut(CUT.pictures).movedim(1, -1), "stitch": CUT, "feather": 0},
        stitched,
    ),
}


def needs_model(schema: dict[str, Any]) -> bool:
    """Whether a node cannot be executed without a model, or makes one."""
    needed = {each["type"] for each in schema["inputs"] if not each.get("optional")}
    return bool(MODELS & (needed | {each["type"] for each in schema["outputs"]}))


def test_every_node_that_needs_no_model_has_a_case(schemas):
    wanted = {name for name, schema in schemas.items() if not needs_model(schema)}
    assert wanted == {f"FlowDPS_{name}" for name in CASES}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> dict[str, Sequence[Any]]:
    """What every case makes, all in one process."""
    folder = tmp_path_factory.mktemp("nodes")
    (folder / "photo.jpg").write_bytes(jpeg_file().read())
    cases = []
    for name, (inputs, _) in CASES.items():
        given = {k: str(folder / "photo.jpg") if v == "JPEG" else v for k, v in inputs.items()}
        cases.append(("", f"FlowDPS_{name}", given))
    return dict(zip(CASES, execute(folder, cases), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_what_a_node_makes(outputs, schemas, name):
    made = outputs[name]
    assert len(made) == len(schemas[f"FlowDPS_{name}"]["outputs"])
    CASES[name][1](made)


def described(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema in the form of the snapshot, which a real ComfyUI made."""
    inputs = []
    for each in sorted(schema["inputs"], key=lambda each: bool(each.get("optional"))):
        line = {"name": each["id"], "type": each["type"]}
        line["optional"] = bool(each.get("optional"))
        line |= {key: each[key] for key in KEPT if each.get(key) is not None}
        if each["type"] == "COMBO" and each["id"] not in FILES:
            line["options"] = each["options"]
        inputs.append(line)
    return {
        "display_name": schema["display_name"],
        "category": schema["category"],
        "inputs": inputs,
        "outputs": [[each["type"], each["display_name"]] for each in schema["outputs"]],
        "output_node": schema["is_output_node"],
    }


def test_schemas_are_those_that_workflows_know(schemas):
    """The snapshot is that of the tests inside ComfyUI; a change breaks saved workflows."""
    known = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
    found = {name: described(schema) for name, schema in schemas.items()}
    for name in known.keys() & found.keys():
        assert found[name] == known[name], name
    assert found.keys() == known.keys()


def test_inputs_explain_themselves_and_defaults_are_allowed(schemas):
    for name, schema in schemas.items():
        assert schema["description"], name
        for each in (*schema["inputs"], *schema["outputs"]):
            assert len(each["tooltip"]) > 10, (name, each)
        for each in schema["inputs"]:
            where, value = f"{name}.{each['id']}", each.get("default")
            if each["type"] in ("INT", "FLOAT"):
                assert math.isfinite(value), where
                assert each["min"] <= value <= each["max"], where
            elif each["type"] == "COMBO" and each["id"] not in FILES and value is not None:
                assert value in each["options"], where


def test_read_jpeg_reads_nothing_outside_the_hosts_folders(tmp_path):
    """A picture of the pack, by a way up out of the input folder."""
    file = Path(__file__).parents[2] / "pictures" / "house.jpg"
    assert file.is_file()
    given = "../" * 30 + str(file.resolve()).lstrip("/")
    (said,) = attempt(tmp_path, [("", "FlowDPS_ReadJpeg", {"file": given})])
    assert "is in none of ComfyUI's folders; choose one" in said


def test_nothing_where_a_connection_belongs_costs_one_sentence(tmp_path, schemas):
    """None for every required connection of every node, one after another, as programs write it."""
    cases, told = [], []
    for name, (inputs, _) in CASES.items():
        for each in schemas[f"FlowDPS_{name}"]["inputs"]:
            if not each.get("optional") and each["type"] not in WIDGETS:
                told.append(f"{name}.{each['id']}")
                cases.append(("", f"FlowDPS_{name}", inputs | {each["id"]: None}))
    assert len(cases) > 10
    found = dict(zip(told, attempt(tmp_path, cases), strict=True))
    accepted = {where for where, said in found.items() if not isinstance(said, str)}
    assert accepted == set()
    assert {where for where, said in found.items() if "expected a connection" not in said} == set()


@pytest.mark.parametrize(
    ("name", "changed", "words"),
    [
        ("EncodeMeasurement", {"image": 5}, "the image is '5'; expected a connection"),
        ("MeasurementCheck", {"measurement": "x"}, "that gives a measurement"),
        ("MeasurementCheck", {"measurement": None}, "the measurement is 'None'; expected a"),
    ],
)
def test_a_value_where_a_connection_belongs_costs_one_sentence(tmp_path, name, changed, words):
    """The host passes on what a program writes into a workflow."""
    inputs = CASES[name][0] | changed
    (said,) = attempt(tmp_path, [("", f"FlowDPS_{name}", inputs)])
    assert words in said
