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


def pytest_terminal_summary(terminalreporter) -> None:
    """One line: which ComfyUI was tested, or that none was, and how many tests passed in it."""
    inside = {
        outcome: sum(
            "/host/" in report.nodeid and report.when in ("call", "setup")
            for report in terminalreporter.stats.get(outcome, [])
            if hasattr(report, "when")
        )
        for outcome in ("passed", "failed", "error", "skipped")
    }
    if not sum(inside.values()):
        return
    counts = ", ".join(f"{count} {outcome}" for outcome, count in inside.items() if count)
    try:
        folder = comfyui.find()
    except FileNotFoundError as problem:
        terminalreporter.write_line(f"Inside ComfyUI: {counts}; {problem}")
        return
    if folder is not None:
        where = f"ComfyUI {comfyui.version(folder)} at {folder}"
        terminalreporter.write_line(f"Inside {where}: {counts}")
    elif not terminalreporter.hasopt("s"):  # else the list of skipped tests says it
        terminalreporter.write_line(f"Inside ComfyUI: there is none; {counts}")
