"""How to add an operator, as docs/operators.md says it, done in a copy of the package."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from . import howto

TESTS = [
    "tests/operators/test_contract.py",
    "tests/operators/test_registry.py",
    "tests/test_documentation.py",
]
# In a folder of its own name the package would count as first party, which its clones do not.
THIRD_PARTY = 'lint.isort.known-third-party = ["comfyui_flowdps"]'
CASES = "ghost or every_degradation or page or tooltip"

# Restores a picture, and measures one with the benchmark, in one process.
USE = """
import sys
from comfyui_flowdps import benchmarks
from comfyui_flowdps.cli.arguments import parse
from comfyui_flowdps.cli.command import main
from comfyui_flowdps.samplers import classical

picture, out = sys.argv[1:]
assert main(["restore", picture, "--task", "ghost", "--steps", "1", "--out", out]) == 0
args = parse(["bench", "--tasks", "ghost, 8 pixels"])
x = benchmarks.pictures("tune", 1)
measurement = benchmarks.measure(x, args.tasks[0], 0.03, seed=0)
restored = classical.wiener(benchmarks.classical_measurement(measurement), 0.001)
print("better:", benchmarks.mean_psnr(restored, x) > benchmarks.mean_psnr(measurement.y, x))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """The package with the page's example added."""
    copy = howto.copied(tmp_path_factory.mktemp("adding"))
    touched = howto.follow("docs/operators.md", "Adding one", copy)
    assert len({file.name for file in touched}) == 5, "file, row, node, test case and help page"
    howto.run(copy, "-m", "comfyui_flowdps.tools.documents")
    if shutil.which("ruff"):
        files = [str(file) for file in touched if file.suffix == ".py"]
        howto.run(copy, "-m", "ruff", "check", "--quiet", "--config", THIRD_PARTY, *files)
        howto.run(copy, "-m", "ruff", "format", "--check", "--quiet", *files)
    return copy


def test_it_passes_the_tests_of_every_operator_and_of_the_documents(copy):
    """Among them those of its node and help page."""
    ran = howto.run(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS, "-k", CASES)
    assert "failed" not in ran
    assert int(ran.split(" passed")[0].split()[-1]) > 15


def test_it_restores_on_the_command_line_and_is_measured_by_the_benchmark(copy, picture, tmp_path):
    with Image.open(picture) as image:
        image.resize((32, 32)).save(tmp_path / "photo.png")
    told = howto.run(copy, "-c", USE, str(tmp_path / "photo.png"), str(tmp_path / "out"))
    assert "better: True" in told
    (line,) = (tmp_path / "out" / "results.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert record["task"] == "ghost"
    assert record["operator"]["shift"] == 8
    assert record["residual_ratio"] > 0


def test_it_is_a_node_and_in_all_tables(copy):
    for page in ("docs/operators.md", "docs/gallery.md", "benchmarks/README.md"):
        assert "| `Ghost(" in (copy / page).read_text(encoding="utf-8"), page
    nodes = (copy / "docs" / "nodes.md").read_text(encoding="utf-8")
    assert "[Ghost Image (Degradation)](../web/docs/FlowDPS_Ghost.md)" in nodes
    chosen = (copy / "web" / "docs" / "FlowDPS_DegradationOperator.md").read_text(encoding="utf-8")
    assert "- `ghost`: seen twice" in chosen
