"""``python -m comfyui_flowdps.tests.nodes.execute CASES RESULTS``: what nodes make of pictures.

CASES is a file of ``torch.save``: a list of (module, node class, inputs); RESULTS gets the outputs,
or the words of the ValueError with which a node refuses.
"""

from __future__ import annotations

import importlib
import sys

import torch

from . import standin


def main() -> None:
    cases, results = sys.argv[1:]
    standin.install()
    found = []
    for module, name, inputs in torch.load(cases, weights_only=False):
        node = getattr(importlib.import_module(f"comfyui_flowdps.nodes.{module}"), name)
        try:
            with torch.inference_mode():
                found.append(node.execute(**inputs).result)
        except ValueError as error:
            found.append(str(error))
    torch.save(found, results)


if __name__ == "__main__":
    main()
