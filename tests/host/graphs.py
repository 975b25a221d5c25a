"""Prompts in ComfyUI's API format, built node by node, and the pieces that most tests share."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from comfyui_flowdps.samplers import METHODS, Method
from safetensors.torch import load_file
from torch import Tensor

from .comfyui import Server

DEMO = "built-in demo prior"
TINY = "tiny.safetensors"
CONTEXT, POOLED = 64, 32
"""Widths of the tiny checkpoint's text."""


@dataclass(frozen=True)
class Node:
    """A node of a prompt; ``node[k]`` is a link to its output k."""

    id: str

    def __getitem__(self, slot: int) -> list[Any]:
        return [self.id, slot]


class Prompt(dict[str, Any]):
    """A prompt; nodes are added in the order of the data."""

    def add(self, kind: str, /, **inputs: Any) -> Node:
        node = Node(str(len(self) + 1))
        self[node.id] = {"class_type": kind, "inputs": inputs}
        return node

    def ours(self, kind: str, /, **inputs: Any) -> Node:
        return self.add(f"FlowDPS_{kind}", **inputs)

    def test(self, kind: str, /, **inputs: Any) -> Node:
        return self.add(f"FlowDPSTest_{kind}", **inputs)

    def record(self, link: list[Any], name: str) -> Node:
        return self.test("Record", value=link, name=name)


def row_of(method: str) -> Method:
    """The method's row; for one that only a server's copy of the pack has, FlowChef's."""
    return METHODS.get(method.lower(), METHODS["flowchef"])


def comparable(method: str) -> str:
    """The preset that tests use: the paper's update, where the method has one."""
    row = row_of(method)
    return "published" if "published" in row.presets else row.default


@dataclass
class Problem:
    """A prompt with a prior, its text and a measurement, to which a test adds the rest."""

    prompt: Prompt
    model: list[Any]
    vae: list[Any]
    positive: list[Any]
    measurement: Node
    negative: list[Any] | None = None
    more: dict[str, Any] = field(default_factory=dict)

    def sampler(self, method: str = "FlowDPS", **inputs: Any) -> Node:
        """The all-in-one node, few steps unless told."""
        given: dict[str, Any] = {
            "model": self.model,
            "vae": self.vae,
            "positive": self.positive,
            "measurement": self.measurement[0],
            "seed": 1,
            "steps": 3,
            "cfg": 1.0,
            "preset": comparable(method),
            "step_scale": 1.0,
        }
        if row_of(method).has("inner_steps"):
            given["inner_steps"] = 0
        if row_of(method).has("denoise"):
            given["denoise"] = 0.3
        if self.negative is not None:
            given |= {"negative": self.negative, "cfg": 2.0}
        return self.prompt.ours(f"{method}Sampler", **{**given, **inputs})

    def object(self, method: str = "FlowDPS", **inputs: Any) -> Node:
        """The SAMPLER of a method."""
        given: dict[str, Any] = {
            "measurement": self.measurement[0],
            "vae": self.vae,
            "preset": comparable(method),
            "step_scale": 1.0,
        }
        if row_of(method).has("inner_steps"):
            given["inner_steps"] = 0
        return self.prompt.ours(f"{method}SamplerObject", **{**given, **inputs})


def measured(prompt: Prompt, picture: str, task: str = "sr_bicubic", **inputs: Any) -> Node:
    """Encode Measurement of a picture in the input folder; scale 4 or a kernel of 9 pixels."""
    size = 9 if task.startswith("deblur") else 4
    operator = prompt.ours("DegradationOperator", task=task, deg_scale=size, seed=0)
    image = prompt.add("LoadImage", image=picture)
    given = {"mode": "simulate", "noise": 0.03, "seed": 0, **inputs}
    return prompt.ours("EncodeMeasurement", image=image[0], operator=operator[0], **given)


def inputs_of(info: dict[str, Any]) -> dict[str, tuple[str, dict[str, Any], bool]]:
    """Type, values and optionality of every input, in order, whichever way the host says them."""
    found = {}
    for part in ("required", "optional"):
        for name, (kind, *values) in info["input"].get(part, {}).items():
            given = dict(values[0]) if values else {}
            if isinstance(kind, list):
                kind, given = "COMBO", {**given, "options": kind}
            found[name] = (kind, given, part == "optional")
    return found


ESTIMATES = ("FlowDPS_EstimateBlur", "FlowDPS_OperatorFromExample")
"""Nodes that find an operator in pictures."""


def degradations(server: Server) -> dict[str, dict[str, Any]]:
    """What the host says of every node that makes an operator by its values, by its short id."""
    return {
        key.removeprefix("FlowDPS_"): info
        for key, info in server.get("/object_info").items()
        if key.startswith("FlowDPS_")
        and info["output"][0] == "FLOWDPS_OPERATOR"
        and key not in ESTIMATES
    }


def degradation(prompt: Prompt, kind: str, info: dict[str, Any], /, **inputs: Any) -> Node:
    """A degradation node with its defaults; masks and kernels come from small nodes."""
    given = {}
    for name, (socket, values, optional) in inputs_of(info).items():
        if name in inputs or optional:
            continue
        if socket == "MASK":
            image = prompt.add("LoadImage", image="small.png")
            given[name] = prompt.ours("Scratches", image=image[0], count=6, thickness=3.0, seed=1)[
                0
            ]
        elif socket == "IMAGE":
            blur = prompt.ours("DefocusBlur", radius=2.0, boundary="symmetric")
            given[name] = blur[1]
        else:
            given[name] = values.get("default", (values.get("options") or [None])[0])
    return prompt.ours(kind, **given, **inputs)


def demo(picture: str = "small.png", task: str = "sr_bicubic", **inputs: Any) -> Problem:
    """The demo prior at its unconditional text."""
    prompt = Prompt()
    prior = prompt.ours("LoadFlowPrior", checkpoint=DEMO, shift=4.0)
    text = prompt.ours("EmptyConditioning", model=prior[0], tokens=1)
    measurement = measured(prompt, picture, task, **inputs)
    return Problem(prompt, prior[0], prior[2], text[0], measurement)


def tiny(
    picture: str = "small.png",
    loader: str = "CheckpointLoaderSimple",
    guided: bool = True,
    file: str = TINY,
    **inputs: Any,
) -> Problem:
    """The random SD3 with patches of 2, by the host's own loader unless told."""
    prompt = Prompt()
    if loader == "CheckpointLoaderSimple":
        prior = prompt.add(loader, ckpt_name=file)
        model, vae = prior[0], prior[2]
    elif loader == "Load":
        prior = prompt.test(loader, file=file, dtype=inputs.pop("dtype", "float32"))
        model, vae = prior[0], prior[1]
    else:
        prior = prompt.ours("LoadFlowPrior", checkpoint=file, shift=3.0)
        model, vae = prior[0], prior[2]
    texts = [
        prompt.test("Conditioning", width=CONTEXT, pooled=POOLED, seed=seed)[0] for seed in (1, 2)
    ]
    measurement = measured(prompt, picture, **inputs)
    return Problem(prompt, model, vae, texts[0], measurement, texts[1] if guided else None)


def recorded(server: Server, name: str) -> dict[str, Tensor]:
    """What a test node wrote under ``name``."""
    return load_file(server.base / "output" / f"{name}.safetensors")


def value(server: Server, name: str) -> Tensor:
    """The tensor that Record wrote under ``name``."""
    return recorded(server, name)["value"]


def told(outputs: dict[str, Any], node: Node) -> Any:
    """What a test node said in its text."""
    return json.loads(outputs[node.id]["text"][0])


def read_log(server: Server) -> str:
    return Path(server.log).read_text(errors="replace")
