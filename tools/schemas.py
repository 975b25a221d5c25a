"""The schemas of all nodes, read without ComfyUI: ``python -m comfyui_flowdps.tools.schemas``.

Prints a list in JSON; ``kind`` is the name of the degradation where a node makes one.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import json
from typing import Any

from ..tests.nodes import standin


def schemas() -> list[dict[str, Any]]:
    """What the schema of every node says, in the order of the menu.

    For a process of its own, in which a stand-in takes the place of ComfyUI.
    """
    standin.install()
    nodes = importlib.import_module("..nodes", __package__)
    found = []
    for node in asyncio.run(nodes.Extension().get_node_list()):
        kind = getattr(node, "kind", None)
        schema = dataclasses.asdict(node.define_schema())
        found.append(schema | {"module": node.__module__, "kind": kind and kind.name})
    return found


if __name__ == "__main__":
    print(json.dumps(schemas(), default=str))
