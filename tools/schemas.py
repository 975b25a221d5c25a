"""The schemas of all nodes, read without ComfyUI: ``python -m comfyui_flowdps.tools.schemas``.

A stand-in takes the place of ComfyUI and only remembers what the schemas say. Prints a list in
JSON; ``kind`` is the degradation's name where a node makes one.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import importlib.machinery
import json
import sys
from typing import Any
from unittest.mock import MagicMock

HOST = {"comfy", "comfy_api", "folder_paths", "latent_preview"}


def _keep(*args: Any, **values: Any) -> dict[str, Any]:
    return dict(zip(("id",) if args else (), args, strict=False)) | values


class _Kind:
    Input = Output = staticmethod(_keep)
    image = "image_upload"


@dataclasses.dataclass
class _Schema:
    node_id: str
    inputs: list[Any]
    outputs: list[Any]
    display_name: str = ""
    description: str = ""
    category: str = ""
    is_output_node: bool = False


class _Io(MagicMock):
    ComfyNode, Schema = type("ComfyNode", (), {}), _Schema
    Custom = staticmethod(lambda _: _Kind)

    def __getattr__(self, name: str) -> Any:
        return _Kind if name[0].isupper() else super().__getattr__(name)


class _StandIn:
    """Finds and loads the modules of a ComfyUI that is not there."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.split(".")[0] in HOST:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]
        return None

    def create_module(self, spec: Any) -> Any:
        module = MagicMock(io=_Io(), ComfyExtension=type("ComfyExtension", (), {}))
        module.__path__ = []
        return module

    def exec_module(self, module: Any) -> None:
        pass


def schemas() -> list[dict[str, Any]]:
    """What the schema of every node says, in the order of the menu.

    For a process of its own: the stand-in stays in place of ComfyUI.
    """
    sys.meta_path.insert(0, _StandIn())  # type: ignore[arg-type]
    nodes = importlib.import_module("..nodes", __package__)
    found = []
    for node in asyncio.run(nodes.Extension().get_node_list()):
        kind = getattr(node, "kind", None)
        schema = dataclasses.asdict(node.define_schema())
        found.append(schema | {"module": node.__module__, "kind": kind and kind.name})
    return found


if __name__ == "__main__":
    print(json.dumps(schemas(), default=str))
