"""What the package promises about itself: cheap to import, no host in the core, nothing pinned."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ("restoration", "estimation", "samplers", "operators", "priors")
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "nodes": LIBRARY,
    "cli": (*LIBRARY, "benchmarks"),
    "benchmarks": (*LIBRARY, "training.scratches_data"),
    "restoration": ("estimation", "samplers", "operators", "priors"),
    "estimation": ("operators",),
    "samplers": ("operators", "priors.base", "priors.error_spectrum"),
    "operators": (),
    "priors": ("operators.randomness",),
    "training": ("priors", "estimation", "operators.scratches", "restoration.images"),
}
"""Which room may import which other: never upwards. Samplers know of priors only the protocol,
priors of operators only how a seed becomes noise, and nothing imports the training."""
INSIDE_HOST = ("nodes/", "priors/comfy.py")
"""What may import ComfyUI."""
MODULES = sorted(file for room in MAY_IMPORT for file in (ROOT / room).rglob("*.py"))
CORE = [f for f in MODULES if f.relative_to(ROOT).parts[0] in LIBRARY]
NODES = sorted((ROOT / "nodes").rglob("*.py"))
HOST = {"comfy", "comfy_api", "comfy_extras", "folder_paths", "latent_preview", "nodes", "server"}
DRAWS = {"rand", "randn", "randint", "randperm", "rand_like", "randn_like", "normal", "bernoulli"}


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join({{m.split('.')[0] for m in sys.modules}}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def imported(file: Path) -> set[str]:
    """Dotted names of all that a module imports, anywhere in it; our own begin with a dot."""
    here = file.relative_to(ROOT).parent.parts
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            of = [node.module] if node.module else []
            if node.level:
                assert node.level <= len(here) + 1, f"line {node.lineno} leaves the package"
                of = ["", *here[: len(here) + 1 - node.level], *of]
            names |= {".".join([*of, alias.name]) for alias in node.names}
    return {re.sub(r"^comfyui_flowdps(\.|$)", ".", name) for name in names}


def test_importing_the_root_is_cheap():
    heavy = {"torch", "numpy", "diffusers", "transformers", "skimage", "scipy", "PIL"}
    assert not heavy & loaded_by("import comfyui_flowdps")


def test_the_library_needs_no_model_library_to_import():
    modules = "operators samplers estimation.blur priors.base restoration.pipeline cli.command"
    statement = "; ".join(f"import comfyui_flowdps.{m}" for m in modules.split())
    assert not {"diffusers", "transformers", "skimage", "scipy"} & loaded_by(statement)


def test_restoring_does_not_import_the_benchmark():
    code = (
        "from comfyui_flowdps.cli.arguments import parse; parse(['restore', 'a.png']);"
        " import comfyui_flowdps.cli.command, sys; print(*sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = run.stdout.split()
    assert "comfyui_flowdps.restoration.pipeline" in loaded
    assert "comfyui_flowdps.benchmarks" not in loaded


def named(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def test_every_room_is_in_the_table():
    """Every folder with a module of ours, but for what is not shipped."""
    folders = {file.relative_to(ROOT).parts[0] for file in ROOT.glob("*/**/*.py")}
    apart = {"tests", "tools", "build", ".venv"}
    assert {f for f in folders if not f.startswith(".")} - apart == set(MAY_IMPORT)


@pytest.mark.parametrize("file", MODULES, ids=named)
def test_nothing_imports_upwards(file):
    room = named(file).split("/")[0]
    for name in imported(file):
        if not name.startswith("."):
            continue
        target = name[1:]
        if target.split(".")[0] in (*MAY_IMPORT, "tests", "tools"):
            allowed = (room, *MAY_IMPORT[room])
            assert any(f"{target}.".startswith(f"{each}.") for each in allowed), target


@pytest.mark.parametrize("file", MODULES, ids=named)
def test_only_nodes_and_the_hosts_prior_import_the_host(file):
    if not named(file).startswith(INSIDE_HOST):
        assert not HOST & {name.split(".")[0] for name in imported(file)}


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
    # A condition on the version of Python, after a semicolon, pins nothing.
    assert not re.search(r"==|<|~=", re.sub(r";[^\"]*", "", needs[1] + extras[1]))
    required = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    lines = [line for line in required.splitlines() if line and not line.startswith("#")]
    assert not [line for line in lines if re.search(r"torch|numpy|transformers|==|<|~=", line)]
