"""The registry's archive as a pack: unpacked under either name that it gets, started, used."""

from __future__ import annotations

import shutil
import zipfile

import pytest

from ..test_project import module, tracked
from . import comfyui


@pytest.mark.parametrize("name", ["ComfyUI-FlowDPS", "ComfyUI-FlowDPS-main"])
def test_the_archive_starts_with_every_node(comfy_folder, tmp_path, name):
    """``NAME`` is the manager's, ``NAME-main`` that of a downloaded branch."""
    tracked()
    packed, unpacked = tmp_path / "pack.zip", tmp_path / "unpacked"
    module("tools/release.py").write_archive(packed)
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(unpacked)
    base = tmp_path / "base"
    for folder in ("models", "input", "output"):
        (base / folder).mkdir(parents=True)
    server = comfyui.Server(comfy_folder, base, {name: unpacked})
    try:
        nodes = {key for key in server.get("/object_info") if key.startswith("FlowDPS_")}
        assert nodes == {page.stem for page in (unpacked / "web" / "docs").glob("*.md")}
        assert name in server.get("/workflow_templates")
        picture = {"class_type": "FlowDPS_ExamplePicture", "inputs": {"picture": "bee"}}
        shown = {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
        assert server.run({"1": picture, "2": shown})["2"]["images"]
    finally:
        server.stop()
        shutil.rmtree(unpacked)
