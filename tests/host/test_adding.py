"""The example of how to add an operator, as a node of a real server."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from .. import howto
from . import comfyui
from .comfyui import ROOT
from .graphs import Prompt, inputs_of


@pytest.fixture(scope="module")
def added(comfy_folder: Path, tmp_path_factory):
    """A server with a copy of the pack to which the page's example was added."""
    copy = howto.copied(tmp_path_factory.mktemp("adding"))
    howto.follow("docs/operators.md", "Adding one", copy)
    base = tmp_path_factory.mktemp("comfyui")
    for name in ("input", "output"):
        (base / name).mkdir()
    picture = min((ROOT / "benchmarks" / "pictures" / "test").glob("*.png"))
    with Image.open(picture) as image:
        image.resize((64, 48)).save(base / "input" / "photo.png")
    running = comfyui.Server(comfy_folder, base, {"ComfyUI-FlowDPS": copy})
    yield running
    running.stop()


def test_it_is_a_node_and_a_task_and_measures_a_picture(added):
    nodes = added.get("/object_info")
    ghost = nodes["FlowDPS_Ghost"]
    assert ghost["display_name"] == "Ghost Image (Degradation)"
    assert list(inputs_of(ghost)) == ["shift", "strength", "boundary", "operator"]
    tasks = inputs_of(nodes["FlowDPS_DegradationOperator"])["task"][1]
    assert "ghost" in tasks["options"]
    assert "ghost: seen twice" in tasks["tooltip"]
    p = Prompt()
    image = p.add("LoadImage", image="photo.png")
    twice = p.ours("Ghost", shift=4, strength=0.4, boundary="periodic")
    both = p.ours("DegradationOperator", task="ghost", deg_scale=8, seed=0, operator=twice[0])
    given = {"mode": "simulate", "noise": 0.0, "seed": 0}
    seen = p.ours("EncodeMeasurement", image=image[0], operator=both[0], **given)
    p.add("SaveImage", images=seen[1], filename_prefix="seen")
    added.run(p)
    with Image.open(next((added.base / "output").glob("seen*.png"))) as picture:
        assert picture.size == (64, 48)
