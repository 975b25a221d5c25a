"""ComfyUI's node API in miniature, to import and execute nodes where there is no ComfyUI.

Run in a process of its own: ``install`` puts modules of the host's names into the import system.
"""

from __future__ import annotations

import dataclasses
import importlib.abc
import importlib.machinery
import os
import sys
import tempfile
from collections.abc import Sequence
from typing import Any
from unittest.mock import MagicMock

HOST = {"comfy", "comfy_api", "folder_paths", "latent_preview"}
FOLDER = tempfile.TemporaryDirectory()
"""What takes the place of the host's folders for files, until the process ends."""
OUTPUT = [FOLDER.name]
"""The host's folder of results."""


def keep(*args: Any, advanced: bool = False, **values: Any) -> dict[str, Any]:
    """What an input or output is declared with; ``advanced`` as a newer host has it."""
    names = ("id",) if args else ()
    given = dict(zip(names, args, strict=False)) | values
    return given | ({"advanced": True} if advanced else {})


class Kind:
    """A type of socket or widget."""

    image = "image_upload"

    def __init__(self, name: str):
        self.name = name

    def Input(self, *args: Any, advanced: bool = False, **values: Any) -> dict[str, Any]:
        return {"type": self.name} | keep(*args, advanced=advanced, **values)

    Output = Input


@dataclasses.dataclass
class Schema:
    node_id: str
    inputs: list[Any]
    outputs: list[Any]
    display_name: str = ""
    description: str = ""
    category: str = ""
    is_output_node: bool = False


class NodeOutput:
    """What ``execute`` returns: ``result`` holds the outputs."""

    def __init__(self, *result: Any, ui: Any = None):
        self.result = result


class Io(MagicMock):
    ComfyNode, Schema, NodeOutput = type("ComfyNode", (), {}), Schema, NodeOutput
    Custom = Kind
    UploadType = Kind("")

    def __getattr__(self, name: str) -> Any:
        return Kind(name.upper()) if name[0].isupper() else super().__getattr__(name)


class Stand(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the host's modules, and makes them of mocks."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> Any:
        if name.split(".")[0] in HOST:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: Any) -> Any:
        module = MagicMock(io=Io(), ComfyExtension=type("ComfyExtension", (), {}))
        module.__path__ = []
        module.get_annotated_filepath = lambda name: os.path.join(FOLDER.name, name)
        module.get_temp_directory = module.get_input_directory = lambda: FOLDER.name
        module.get_output_directory = lambda: OUTPUT[0]
        return module

    def exec_module(self, module: Any) -> None:
        pass


class Vae:
    """What Encode Measurement asks of a VAE."""

    latent_channels = 16

    def spacial_compression_decode(self) -> int:
        return 8


def install() -> None:
    """Let ``import comfyui_flowdps.nodes`` find a host."""
    sys.meta_path.insert(0, Stand())
