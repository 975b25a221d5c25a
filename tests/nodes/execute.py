"""``python -m comfyui_flowdps.tests.nodes.execute CASES RESULTS``: what nodes make of pictures.

CASES is a file of ``torch.save``: a list of (module, node class, inputs); RESULTS gets the outputs,
or the words of the ValueError with which a node refuses. A node of the registry may be given by its
id, in place of its class, and without a module.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from pathlib import Path
from typing import Any

import torch

from . import standin


def registered() -> dict[str, Any]:
    """The nodes of the registry by their ids."""
    nodes = importlib.import_module("comfyui_flowdps.nodes")
    every = asyncio.run(nodes.Extension().get_node_list())
    return {node.define_schema().node_id: node for node in every}


def main() -> None:
    cases, results = sys.argv[1:]
    standin.OUTPUT[0] = str(Path(cases).parent)
    standin.install()
    found, by_id = [], {}
    for module, name, inputs in torch.load(cases, weights_only=False):
        if module:
            node = getattr(importlib.import_module(f"comfyui_flowdps.nodes.{module}"), name)
        else:
            by_id = by_id or registered()
            node = by_id[name]
        try:
            with torch.inference_mode():
                found.append(node.execute(**inputs).result)
        except ValueError as error:
            found.append(str(error))
    torch.save(found, results)


if __name__ == "__main__":
    main()
