"""Held-out pictures and tiny models, for all tests; the summary's line on those inside ComfyUI."""

from __future__ import annotations

from pathlib import Path

import pytest

from .host import comfyui
from .tiny_models import demo, pipeline, tiny_transformer

__all__ = ["demo", "pipeline", "tiny_transformer"]

HELD_OUT = Path(__file__).resolve().parents[1] / "benchmarks" / "pictures"


@pytest.fixture
def picture() -> Path:
    """A real picture that no model has been trained on, 128x128."""
    return min((HELD_OUT / "test").glob("*.png"))


LAYERS = {"Core": "", "Nodes, in a stand-in for ComfyUI": "/nodes/", "Inside ComfyUI": "/host/"}
"""The layers of the tests, and the folder of each; the first has all others."""


def layer_of(nodeid: str) -> str:
    """The layer of a test."""
    return next((name for name, part in LAYERS.items() if part and part in nodeid), "Core")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes share the tests, one of them has those inside ComfyUI, since each
    starts its own server."""
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            if layer_of(item.nodeid) == "Inside ComfyUI":
                item.add_marker(pytest.mark.xdist_group("ComfyUI"))


def pytest_terminal_summary(terminalreporter) -> None:
    """A line for every layer: how many tests passed; and which ComfyUI was tested, if any."""
    counted: dict[str, dict[str, int]] = {name: {} for name in LAYERS}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            if hasattr(report, "when") and report.when in ("call", "setup"):
                counts = counted[layer_of(report.nodeid)]
                counts[outcome] = counts.get(outcome, 0) + 1
    for name, counts in counted.items():
        if not counts:
            continue
        told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        if name == "Inside ComfyUI":
            try:
                folder = comfyui.find()
                where = "there is none" if folder is None else ""
            except FileNotFoundError as problem:
                folder, where = None, str(problem)
            if folder is not None:
                where = f"version {comfyui.version(folder)} at {folder}"
            told = f"{told}; {where}"
        terminalreporter.write_line(f"{name}: {told}")
