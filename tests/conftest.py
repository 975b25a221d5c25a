"""Held-out pictures, for all tests; and what the summary says of the tests inside ComfyUI."""

from __future__ import annotations

from pathlib import Path

import pytest

from .host import comfyui

HELD_OUT = Path(__file__).parent / "data" / "heldout"


@pytest.fixture
def picture() -> Path:
    """A real picture that no model has been trained on, 128x128."""
    return min((HELD_OUT / "test").glob("*.png"))


def pytest_terminal_summary(terminalreporter) -> None:
    """One line: which ComfyUI was tested, or that none was, and how many tests passed in it."""
    folder = comfyui.find()
    if folder is None:
        terminalreporter.write_line("Inside ComfyUI: nothing was tested, for there is none.")
        return
    inside = [
        report
        for report in terminalreporter.stats.get("passed", [])
        if report.when == "call" and "server" in getattr(report, "fixturenames", ())
    ]
    terminalreporter.write_line(
        f"Inside ComfyUI {comfyui.version(folder)} at {folder}: {len(inside)} tests passed."
    )
