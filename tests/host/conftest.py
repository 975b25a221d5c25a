"""One ComfyUI server for all tests of this folder, or none, which the summary says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import comfyui, files
from .graphs import Prompt

NONE = "no ComfyUI: set COMFYUI_PATH, or put one at ~/ComfyUI"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Without a ComfyUI all tests are skipped for one reason, which is one line of the summary."""
    report = yield
    if report.skipped and NONE in str(report.longrepr):
        report.longrepr = (str(Path(__file__)), 1, f"Skipped: {NONE}")
    return report


@pytest.fixture(scope="session")
def comfy_folder() -> Path:
    """The ComfyUI to test with; without one the test is skipped, and counted as such."""
    folder = comfyui.find()
    if folder is None:
        pytest.skip(NONE)
    complaint = comfyui.starts(folder)
    if complaint and "COMFYUI_PATH" in os.environ:
        pytest.fail(f"COMFYUI_PATH is {folder}, which cannot be imported: {complaint}")
    if complaint:
        pytest.skip(f"ComfyUI at {folder} cannot be imported: {complaint}")
    return folder


@pytest.fixture(scope="session")
def server(comfy_folder: Path, tmp_path_factory) -> Iterator[comfyui.Server]:
    """A running server with this pack, the tests' own nodes, small pictures and tiny models."""
    base = tmp_path_factory.mktemp("comfyui")
    files.pictures(base / "input", comfyui.ROOT / "benchmarks" / "pictures" / "test")
    files.models(base / "models")
    (base / "output").mkdir()
    packs = {"ComfyUI-FlowDPS": comfyui.ROOT, "flowdps-tests": Path(__file__).parent / "pack"}
    running = comfyui.Server(comfy_folder, base, packs)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def wan_file(server) -> str:
    """A tiny random Wan among the host's models."""
    p = Prompt()
    p.test("MakeWan")
    server.run(p)
    return "wan.safetensors"
