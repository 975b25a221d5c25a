"""How to add a method, as docs/samplers.md says it, done in a copy of the package."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from . import howto

TESTS = [
    "tests/samplers/test_samplers.py",
    "tests/samplers/test_discrepancy.py",
    "tests/test_documentation.py",
]
CASES = "glide or node or page or tooltip"
# In a folder of its own name the package would count as first party, which its clones do not.
THIRD_PARTY = 'lint.isort.known-third-party = ["comfyui_flowdps"]'

# Restores a picture on the command line, and asks the benchmark for its choices.
USE = """
import sys
from comfyui_flowdps.cli.arguments import parse
from comfyui_flowdps.cli.command import main

picture, out = sys.argv[1:]
words = ["restore", picture, "--task", "identity", "--method", "glide", "--steps", "2"]
assert main([*words, "--out", out, "--step-scale", "0.5", "--stop", "1"]) == 0
print("bench:", *parse(["bench", "--methods", "glide"]).methods)
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """The package with the page's example added."""
    copy = howto.copied(tmp_path_factory.mktemp("adding"))
    touched = howto.follow("docs/samplers.md", "Adding a method", copy)
    assert len({file.name for file in touched}) == 5, "file, row, test case and two help pages"
    howto.run(copy, "-m", "comfyui_flowdps.tools.documents")
    if shutil.which("ruff"):
        files = [str(file) for file in touched if file.suffix == ".py"]
        howto.run(copy, "-m", "ruff", "check", "--quiet", "--config", THIRD_PARTY, *files)
        howto.run(copy, "-m", "ruff", "format", "--check", "--quiet", *files)
    return copy


def passed(told: str) -> int:
    """How many tests passed, as pytest says."""
    found = re.search(r"(\d+) passed", told)
    return int(found[1]) if found else 0


def test_it_passes_the_tests_of_every_method_and_of_its_nodes_and_pages(copy):
    ran = howto.run(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS, "-k", CASES)
    assert passed(ran) > 28
    assert "skipped" not in ran


def test_its_pages_have_the_inputs_of_all_samplers(copy):
    """Those tests hold the pages against the nodes."""
    for suffix in ("Sampler", "SamplerObject"):
        own, like = (
            re.findall(
                r"^- \*\*(\w+)\*\*",
                (copy / "web" / "docs" / f"FlowDPS_{title}{suffix}.md").read_text(encoding="utf-8"),
                re.M,
            )
            for title in ("Glide", "FlowChef")
        )
        assert own == like
        assert "step_scale" in own


def test_it_restores_on_the_command_line_and_is_a_choice_of_the_benchmark(copy, picture, tmp_path):
    with Image.open(picture) as image:
        image.resize((32, 32)).save(tmp_path / "photo.png")
    told = howto.run(copy, "-c", USE, str(tmp_path / "photo.png"), str(tmp_path / "out"))
    assert "bench: glide" in told
    (line,) = (tmp_path / "out" / "results.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert (record["method"], record["early"], record["step_size"]) == ("glide", 1.0, 1.0)
    assert record["residual_ratio"] > 0


def test_it_is_in_the_tables(copy):
    for page, row in (
        ("docs/samplers.md", "| `glide` | Glide |"),
        ("docs/samplers.md", "| Glide | step_size | loss |"),
        ("docs/nodes.md", "| [Glide Sampler](../web/docs/FlowDPS_GlideSampler.md) |"),
        ("docs/nodes.md", "| [Glide (SAMPLER)](../web/docs/FlowDPS_GlideSamplerObject.md) |"),
    ):
        assert row in (copy / page).read_text(encoding="utf-8"), row
