"""What the package promises about itself: cheap to import, no host in the core, nothing pinned."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("operators", "samplers", "priors", "estimation")
CORE = [f for part in PARTS for f in (ROOT / part).rglob("*.py")]
INSIDE_HOST = ROOT / "priors" / "comfy.py"
"""The one file outside ``nodes/`` that may import ComfyUI."""
NODES = sorted((ROOT / "nodes").glob("*.py"))
LIBRARY = sorted(
    file
    for part in ("benchmarks", "cli", "restoration", "training", *PARTS)
    for file in (ROOT / part).rglob("*.py")
    if file != INSIDE_HOST
)
HOST = {"comfy", "comfy_api", "comfy_extras", "folder_paths", "latent_preview", "nodes", "server"}
DRAWS = {"rand", "randn", "randint", "randperm", "rand_like", "randn_like", "normal", "bernoulli"}


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join({{m.split('.')[0] for m in sys.modules}}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def imported(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_importing_the_root_is_cheap():
    heavy = {"torch", "numpy", "diffusers", "transformers", "skimage", "scipy", "PIL"}
    assert not heavy & loaded_by("import comfyui_flowdps")


def test_the_library_needs_no_model_library_to_import():
    modules = "operators samplers estimation.blur priors.base restoration.pipeline cli.command"
    statement = "; ".join(f"import comfyui_flowdps.{m}" for m in modules.split())
    assert not {"diffusers", "transformers", "skimage", "scipy"} & loaded_by(statement)


def test_there_is_a_core_to_look_at():
    assert len(CORE) > 15


def named(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("file", LIBRARY, ids=named)
def test_only_nodes_and_the_hosts_prior_import_the_host(file):
    assert not HOST & imported(file)


def test_nothing_imports_upwards():
    """operators know nothing of ours, samplers no prior but its protocol, priors no sampler;
    estimation knows operators."""
    allowed = {"operators": set(), "samplers": {"operators", "priors"}, "priors": {"operators"}}
    allowed["estimation"] = {"operators"}
    for file in CORE:
        room, *folders = file.relative_to(ROOT).parent.parts
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            outside = isinstance(node, ast.ImportFrom) and node.level == 2 + len(folders)
            if outside and node.module:
                part, *rest = node.module.split(".")
                assert part in allowed[room], named(file)
                assert part != "priors" or rest == ["base"], named(file)


@pytest.mark.parametrize("file", NODES, ids=named)
def test_nodes_are_thin(file):
    """A schema and some lines of execute: convert, call, return. The library does the work."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name == "execute":
            inside = [part for line in node.body for part in ast.walk(line)]
            statements = [part for part in inside if isinstance(part, ast.stmt)]
            assert len(statements) <= 25, f"line {node.lineno} has {len(statements)} statements"
            loops = [part for part in statements if isinstance(part, ast.While)]
            assert not loops, f"line {node.lineno}: an algorithm belongs into the library"


@pytest.mark.parametrize("file", CORE, ids=named)
def test_core_draws_from_explicit_generators(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        owner, name = node.func.value, node.func.attr
        if isinstance(owner, ast.Name) and owner.id == "torch":
            assert name != "manual_seed", f"line {node.lineno} seeds the global generator"
            if name in DRAWS:
                keywords = {k.arg for k in node.keywords}
                assert "generator" in keywords, f"line {node.lineno} draws from the global one"


def test_nothing_is_pinned_that_the_host_ships():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    needs = re.search(r"^dependencies = (\[.*?\])", project, re.M | re.S)
    extras = re.search(r"optional-dependencies\]\n(.*?)\n\[", project, re.S)
    assert needs
    assert extras
    assert "torch" in needs[1]
    assert not re.search(r"==|<|~=", needs[1] + extras[1])
    required = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    lines = [line for line in required.splitlines() if line and not line.startswith("#")]
    assert not [line for line in lines if re.search(r"torch|numpy|transformers|==|<|~=", line)]
