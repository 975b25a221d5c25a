"""One ComfyUI server for all tests of this folder, or none, which the summary says."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import comfyui


@pytest.fixture(scope="session")
def comfy_folder() -> Path:
    folder = comfyui.find()
    if folder is None:
        pytest.skip("no ComfyUI: set COMFYUI_PATH, or put one at ~/ComfyUI")
    if complaint := comfyui.starts(folder):
        pytest.skip(f"ComfyUI at {folder} cannot be imported: {complaint}")
    return folder
