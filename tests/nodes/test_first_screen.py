"""What an artist meets first: folders of the menu, few widgets, and a photo that is left alone."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

MOST = 7
TOP = {"Restore Photo", "Find Scratches"}


@pytest.fixture(scope="module")
def schemas() -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "comfyui_flowdps.tools.schemas"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def widgets(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The inputs that are set on the node itself."""
    return [each for each in schema["inputs"] if {"default", "options"} & set(each)]


def test_a_node_shows_at_most_seven_widgets_at_first(schemas):
    for schema in schemas:
        shown = [each for each in widgets(schema) if not each.get("advanced")]
        also = [each["id"] for each in shown if each.get("control_after_generate")]
        assert len(shown) + len(also) <= MOST, (schema["display_name"], shown)
    assert any(each.get("advanced") for schema in schemas for each in widgets(schema))


def test_the_menu_has_folders_and_few_nodes_at_the_top(schemas):
    top = {each["display_name"] for each in schemas if each["category"] == "FlowDPS"}
    assert top == TOP
    assert {each["category"].split("/")[0] for each in schemas} == {"FlowDPS"}
    assert all(each["category"].count("/") <= 1 for each in schemas)


def test_a_photo_is_not_damaged_unless_one_asks_for_it(schemas):
    (encode,) = (each for each in schemas if each["display_name"] == "Encode Measurement")
    (mode,) = (each for each in encode["inputs"] if each["id"] == "mode")
    assert mode["default"] == mode["options"][0] == "observed"
