"""The shipped workflows: well formed, in step with their API prompts, and they run to the end.

The API prompts in ``api/`` were made from the workflows by ComfyUI's editor, see
``tools/browser.cjs``. Those with a built-in model run as shipped. Those for Stable Diffusion 3 run
with a random checkpoint under the expected name, and with smaller pictures and fewer steps.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from comfyui_flowdps import __version__
from comfyui_flowdps.samplers import METHODS, flat
from PIL import Image

from . import checkpoints
from .comfyui import ROOT, Server
from .graphs import ESTIMATES

PROMPTS = ROOT / "tests" / "host" / "api"
SD3_FILE = "sd3_medium_incl_clips_t5xxlfp8.safetensors"
ARTISTS = {file.stem: file for file in sorted((ROOT / "workflows").glob("*.json"))}
"""The templates, which the host lists."""
WORKFLOWS = ARTISTS | {
    file.stem: file for file in sorted((ROOT / "workflows" / "research").glob("*.json"))
}
NAMES = list(WORKFLOWS)
SD3 = [name for name, file in WORKFLOWS.items() if SD3_FILE in file.read_text(encoding="utf-8")]
BUILT_IN = [name for name in NAMES if name not in SD3]
WIDEST, HIGHEST = 1500, 800
"""Size of a template in pixels, so that it is readable in a window of 1600 x 900."""
NOTES = {"Note", "MarkdownNote"}
SAVES = {"SaveImage", "SaveVideo"}
REPORT = ("PreviewAny", "preview_text")
"""A form shows no text among its results; the editor's own widget shows it among the fields."""
UPLOADS = {("LoadImage", "image"), ("LoadVideo", "file")}
"""Widgets by which the editor, and its forms, take a file."""
# Widgets of the editor that the server does not know, or that differ between its versions.
EDITOR_ONLY = {
    "LoadImage": {"upload"},
    "LoadVideo": {"upload"},
    "FlowDPS_ReadJpeg": {"upload"},
    "PreviewAny": {"preview"},
}
CONTROLS = {"fixed", "increment", "decrement", "randomize"}
SMALLER, STEPS = 8, 2


def workflow(name: str) -> dict[str, Any]:
    return json.loads(WORKFLOWS[name].read_text(encoding="utf-8"))


def prompt(name: str) -> dict[str, Any]:
    return json.loads((PROMPTS / f"{name}.json").read_text(encoding="utf-8"))


def lent() -> dict[str, Path]:
    """What the pack copies into the host's input folder, by its name there."""
    files = (ROOT / "pictures" / "photos").iterdir()
    return {f"FlowDPS {file.name}": file for file in files if file.suffix != ".md"}


def values(node: dict[str, Any]) -> dict[str, Any]:
    """A node's widgets by name; the control of a seed under ``<seed>_control``."""
    given = list(node.get("widgets_values") or [])
    named: dict[str, Any] = {}
    for entry in node.get("inputs", []):
        if "widget" not in entry or not given:
            continue
        name = entry["widget"]["name"]
        named[name] = given.pop(0)
        if name.endswith("seed") and given and given[0] in CONTROLS:
            named[f"{name}_control"] = given.pop(0)
    assert not given, f"{node['type']} has more values than widgets"
    return named


def test_there_are_few_templates_and_every_workflow_has_a_prompt():
    assert 8 <= len(ARTISTS) <= 12
    assert next(iter(ARTISTS)) in (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(SD3) >= 4
    assert {file.stem for file in PROMPTS.glob("*.json")} == set(NAMES)


@pytest.mark.parametrize("name", ARTISTS)
def test_a_template_fits_a_window_and_has_a_form(name):
    ui = workflow(name)
    nodes = {node["id"]: node for node in ui["nodes"]}
    sides = [(g[0], g[1], g[0] + g[2], g[1] + g[3]) for g in (g["bounding"] for g in ui["groups"])]
    sides += [
        (x, y - 30, x + width, y + height)
        for (x, y), (width, height) in ((n["pos"], n["size"]) for n in ui["nodes"])
    ]
    lowest, highest = (tuple(how(side) for side in zip(*sides, strict=True)) for how in (min, max))
    assert highest[2] - lowest[0] <= WIDEST
    assert highest[3] - lowest[1] <= HIGHEST
    form = ui["extra"]["linearData"]
    *fields, (said, text) = form["inputs"]
    for node, widget in fields:
        assert widget in values(nodes[node])
    assert (nodes[said]["type"], text) == REPORT
    shown = {nodes[node]["type"] for node in form["outputs"]}
    assert shown & SAVES
    assert "PreviewAny" in shown


@pytest.mark.parametrize("name", ARTISTS)
def test_a_form_takes_a_photo_of_the_user_first(name):
    """The loader's upload is a field of the form, and what it shows until then comes with the pack
    or with the host."""
    ui = workflow(name)
    nodes = {node["id"]: node for node in ui["nodes"]}
    node, widget = ui["extra"]["linearData"]["inputs"][0]
    assert (nodes[node]["type"], widget) in UPLOADS
    assert values(nodes[node])[widget] in {"example.png", *lent()}


@pytest.mark.parametrize("name", NAMES)
def test_the_editor_can_find_what_is_missing(name):
    """The pack by its name in the registry, and the model by its address."""
    for node in workflow(name)["nodes"]:
        if node["type"] in NOTES:
            continue
        own = node["type"].startswith("FlowDPS_")
        assert node["properties"]["cnr_id"] == ("flowdps" if own else "comfy-core")
        assert node["properties"]["ver"] == __version__ or not own
        if SD3_FILE in (node.get("widgets_values") or ()):
            (model,) = node["properties"]["models"]
            assert model["name"] == SD3_FILE
            assert model["url"].endswith(f"/{SD3_FILE}")
            assert model["directory"] == "checkpoints"


@pytest.mark.parametrize("name", NAMES)
def test_workflow_and_prompt_agree(name):
    ui, api = workflow(name), prompt(name)
    links = {link[0]: [str(link[1]), link[2]] for link in ui["links"]}
    nodes = {str(n["id"]): n for n in ui["nodes"] if n["type"] not in NOTES}
    assert {i: n["type"] for i, n in nodes.items()} == {i: n["class_type"] for i, n in api.items()}
    for i, node in nodes.items():
        skip = EDITOR_ONLY.get(node["type"], set())
        shown = {
            name: value
            for name, value in values(node).items()
            if name not in skip and not name.endswith("_control")
        }
        for entry in node.get("inputs", []):
            if entry.get("link") is not None:
                shown[entry["name"]] = links[entry["link"]]
        assert shown == {k: v for k, v in api[i]["inputs"].items() if k not in skip}, node["type"]


@pytest.mark.parametrize("name", NAMES)
def test_workflow_is_tidy(name):
    ui = workflow(name)
    boxes = {}
    for node in ui["nodes"]:
        for widget, value in values(node).items() if node["type"] not in NOTES else ():
            assert not widget.endswith("_control") or value == "fixed", widget
        (x, y), (width, height) = node["pos"], node["size"]
        boxes[node["id"]] = (x, y - 30, x + width, y + height)
    for a, one in boxes.items():
        for b, two in boxes.items():
            apart = one[2] <= two[0] or two[2] <= one[0] or one[3] <= two[1] or two[3] <= one[1]
            assert a >= b or apart, f"nodes {a} and {b} overlap"
    inside = [
        (x, y, x + width, y + height)
        for x, y, width, height in (group["bounding"] for group in ui["groups"])
    ]
    for node in ui["nodes"]:
        if node["type"] not in NOTES:
            x0, y0, x1, y1 = boxes[node["id"]]
            holds = [g for g in inside if g[0] < x0 and g[1] < y0 and x1 < g[2] and y1 < g[3]]
            assert len(holds) == 1, f"node {node['id']} is not in one group"
    assert any(node["type"] in NOTES for node in ui["nodes"])
    assert any(node["type"] in SAVES for node in ui["nodes"])


@pytest.mark.parametrize("name", NAMES)
def test_thumbnail(name):
    data = WORKFLOWS[name].with_suffix(".jpg").read_bytes()
    assert data[:2] == b"\xff\xd8"
    assert len(data) < 300_000
    at = 2
    while data[at + 1] not in (0xC0, 0xC2):
        at += 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
    height, width = struct.unpack(">HH", data[at + 5 : at + 9])
    assert width >= 512
    assert height >= 200


@pytest.fixture(scope="module")
def workflow_server(comfy_folder: Path, tmp_path_factory):
    base = tmp_path_factory.mktemp("workflows")
    checkpoint = base / "models" / "checkpoints" / SD3_FILE
    checkpoints.write_sd3(checkpoint)
    (base / "input").mkdir()
    with Image.open(comfy_folder / "input" / "example.png") as image:
        # With something painted in the mask editor, which saves it as transparent.
        image = image.convert("RGBA").resize((192, 192))
        image.paste((0, 0, 0, 0), (40, 40, 80, 60))
        image.save(base / "input" / "example.png")
    server = Server(comfy_folder, base, {"ComfyUI-FlowDPS": ROOT})
    yield server
    server.stop()
    checkpoint.unlink()  # pytest keeps the folder; 260 MB are too much for that.


def test_every_node_is_in_a_workflow(workflow_server):
    """All but degradations, which are too many: they run in test_operators.py."""
    known = workflow_server.get("/object_info")
    pack = {name for name in known if name.startswith("FlowDPS_")}
    degrading = {name for name in pack if known[name]["output"][0] == "FLOWDPS_OPERATOR"}
    pack -= degrading - set(ESTIMATES)
    used = {node["class_type"] for name in NAMES for node in prompt(name).values()}
    assert len(pack) >= 12
    assert pack <= used


def test_templates_are_served(workflow_server):
    listed = workflow_server.get("/workflow_templates")["ComfyUI-FlowDPS"]
    assert sorted(listed) == list(ARTISTS)
    served = workflow_server.get(f"/api/workflow_templates/ComfyUI-FlowDPS/{NAMES[0]}.json")
    assert served == workflow(NAMES[0])


def test_examples_lie_where_users_files_do(workflow_server):
    """So Load Image and Load Video offer them beside those, and an own file takes their place."""
    offered = workflow_server.get("/object_info")
    for name, file in lent().items():
        assert (workflow_server.base / "input" / name).read_bytes() == file.read_bytes()
        kind, widget = ("LoadVideo", "file") if name.endswith("mp4") else ("LoadImage", "image")
        given = offered[kind]["input"]["required"][widget]
        # Newer hosts have the choices among the options.
        assert name in (given[0] if isinstance(given[0], list) else given[1]["options"])


@pytest.mark.parametrize("name", ARTISTS)
def test_a_form_has_no_field_that_its_node_hides(workflow_server, name):
    """Advanced inputs are fields only where the node shows them; older hosts have none."""
    known = workflow_server.get("/object_info")
    ui = workflow(name)
    nodes = {node["id"]: node for node in ui["nodes"]}
    for node, widget in ui["extra"]["linearData"]["inputs"][:-1]:
        given = known[nodes[node]["type"]]["input"]
        _, *options = (given["required"] | given.get("optional", {}))[widget]
        if options and options[0].get("advanced"):
            assert nodes[node].get("showAdvanced"), widget


def test_the_editor_is_told_to_sort_the_templates(workflow_server):
    """See tests/test_editor.py."""
    assert "/extensions/ComfyUI-FlowDPS/templates.js" in workflow_server.get("/extensions")


def check_outputs(api: dict[str, Any], outputs: dict[str, Any], base: Path) -> None:
    for i, node in api.items():
        if node["class_type"] in SAVES:
            for image in outputs[i]["images"]:
                assert (base / "output" / image["subfolder"] / image["filename"]).stat().st_size
        elif node["class_type"] in ("PreviewImage", "PreviewAny"):
            assert outputs[i]


@pytest.mark.parametrize("name", BUILT_IN)
def test_workflow_runs_as_shipped(workflow_server, name):
    api = prompt(name)
    check_outputs(api, workflow_server.run(api), workflow_server.base)


@pytest.mark.parametrize("name", SD3)
def test_sd3_workflow_runs_smaller_and_shorter(workflow_server, name):
    api = prompt(name)
    for node in api.values():
        inputs = node["inputs"]
        if node["class_type"] == "ImageScale":
            inputs |= {side: inputs[side] // SMALLER for side in ("width", "height")}
        if "inner_steps" in inputs:
            several = "inner_steps" in flat(METHODS["flowdps"].preset(inputs["preset"]))
            inputs |= {"steps": STEPS, "inner_steps": int(several)}
    check_outputs(api, workflow_server.run(api), workflow_server.base)
