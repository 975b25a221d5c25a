"""What users connect to: ids, inputs, types and defaults stay as they are, on every host."""

from __future__ import annotations

import json
import os
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from comfyui_flowdps.operators import REGISTRY, TASKS

from .graphs import Prompt, degradation, degradations, inputs_of, told

PACK = "ComfyUI-FlowDPS"
SNAPSHOT = Path(__file__).with_name("schemas.json")
# What a host says of an input that a workflow depends on.
KEPT = ("default", "min", "max", "step", "round", "control_after_generate", "forceInput")
# Their options are files of the user's.
FILES = {"checkpoint", "diffusion_model", "vae", "file"}


@pytest.fixture(scope="module")
def nodes(server) -> dict[str, Any]:
    found = server.get("/object_info")
    return {key: info for key, info in found.items() if key.startswith("FlowDPS_")}


def described(info: dict[str, Any]) -> dict[str, Any]:
    inputs = []
    for name, (kind, given, optional) in inputs_of(info).items():
        line = {"name": name, "type": kind, "optional": optional}
        line |= {key: given[key] for key in KEPT if given.get(key) is not None}
        if kind == "COMBO" and name not in FILES:
            line["options"] = given["options"]
        inputs.append(line)
    return {
        "display_name": info["display_name"],
        "category": info["category"],
        "inputs": inputs,
        "outputs": [list(pair) for pair in zip(info["output"], info["output_name"], strict=True)],
        "output_node": info["output_node"],
    }


def test_snapshot(nodes):
    """A change here breaks saved workflows. FLOWDPS_WRITE_SCHEMAS=1 writes the file anew."""
    found = {key: described(info) for key, info in sorted(nodes.items())}
    if os.environ.get("FLOWDPS_WRITE_SCHEMAS"):
        SNAPSHOT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    assert found == json.loads(SNAPSHOT.read_text(encoding="utf-8"))


def test_every_input_and_output_explains_itself(nodes):
    assert len(nodes) > 15
    for key, info in nodes.items():
        assert info["description"], key
        for name, (_, given, _) in inputs_of(info).items():
            assert len(given.get("tooltip") or "") > 10, f"{key}.{name}"
        assert len(info["output_tooltips"]) == len(info["output"]), key
        assert all(len(tip or "") > 10 for tip in info["output_tooltips"]), key


def test_defaults_are_allowed(nodes):
    for key, info in nodes.items():
        for name, (kind, given, _) in inputs_of(info).items():
            where = f"{key}.{name}"
            if kind == "COMBO" and (given["options"] or name not in FILES):
                assert given.get("default", given["options"][0]) in given["options"], where
            elif kind in ("INT", "FLOAT"):
                assert given["min"] <= given["default"] <= given["max"], where


def test_every_operator_is_a_task_and_has_a_node(server, nodes):
    tasks = inputs_of(nodes["FlowDPS_DegradationOperator"])["task"][1]["options"]
    assert tasks == list(TASKS)
    p = Prompt()
    families = []
    for kind, info in degradations(server).items():
        if kind != "DegradationOperator":
            families.append(p.record(degradation(p, kind, info)[0], "recipe"))
    outputs = server.run(p)
    made = [told(outputs, node)["operator"] for node in families]
    assert sorted(made) == sorted(REGISTRY)


def test_the_editor_is_told_the_fields_of_every_task(server, nodes):
    """The widgets are called by these; their ids stay those of saved workflows."""
    given = inputs_of(nodes["FlowDPS_DegradationOperator"])
    assert list(given)[:3] == ["task", "deg_scale", "seed"]
    fields = given["task"][1]["fields"]
    assert list(fields) == list(TASKS)
    for task, said in fields.items():
        row = REGISTRY[task]
        assert said["seeded"] == row.seeded
        assert ("number" in said) == (row.number is not None)
        if row.number is not None:
            row.make(said["number"]["default"])
            assert said["number"]["name"].isidentifier()
    address = f"http://127.0.0.1:{server.port}/extensions/{PACK}/degradation_operator.js"
    with urllib.request.urlopen(address) as answer:
        assert b"fields" in answer.read()


def test_operators_chain(server, nodes):
    """Blur, then shrink: what is connected happened before."""
    p = Prompt()
    blur = p.ours("GaussianBlur", sigma=1.0, size=5, boundary="symmetric")
    shrink = p.ours("AveragePool", scale=2, operator=blur[0])
    last = p.ours("DegradationOperator", task="sr_bicubic", deg_scale=3, seed=0, operator=shrink[0])
    node = p.record(last[0], "recipe")
    chain = told(server.run(p), node)
    assert chain["operator"] == "chain"
    names = [each["operator"] for each in chain["recipes"]]
    assert names == ["deblur_gauss", "sr_avgpool", "sr_bicubic"]
