"""What is shipped has all that it reads: the wheel for pip, the archive for the registry."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from .test_architecture import MAY_IMPORT
from .test_project import ROOT, module, read, tracked

PACKAGE = "comfyui_flowdps"
FLAGGED = {"subprocess", "urllib.request", "requests", "httpx", "socket", "huggingface_hub", "wget"}
"""What the registry's scan takes for the start of a process or for a download."""


# Imports the pack at the path that is given, as ComfyUI does, with a stand-in for ComfyUI.
IMPORT_PACK = """
import asyncio, dataclasses, importlib.machinery, importlib.util, pathlib, sys
from unittest.mock import MagicMock

class Host:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"comfy", "comfy_api", "folder_paths", "latent_preview"}:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        kinds = {kind: type(kind, (), {}) for kind in ("ComfyNode", "ComfyExtension")}
        kinds["Schema"] = dataclasses.make_dataclass("Schema", [])
        kinds["get_input_directory"] = lambda: sys.argv[1] + "-input"
        return MagicMock(io=MagicMock(**kinds), __path__=[], **kinds)

    def exec_module(self, module):
        pass

sys.meta_path.insert(0, Host())
import comfy_api  # The host has it before its custom nodes.
where = sys.argv[1]
spec = importlib.util.spec_from_file_location(
    "a pack", f"{where}/__init__.py", submodule_search_locations=[where]
)
pack = sys.modules["a pack"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pack)
extension = asyncio.run(pack.comfy_entrypoint())
print(pack.__version__)
print(len(asyncio.run(extension.get_node_list())))
print(len(list(pathlib.Path(sys.argv[1] + "-input").iterdir())))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from the tracked files alone, by the setuptools that is installed."""
    pytest.importorskip("setuptools", minversion="77")
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for file in tracked():
        target = source / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps"]
    command = [*pip, "--no-build-isolation", "--quiet", "--wheel-dir", str(out), str(source)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    (file,) = out.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The folder that the wheel was unpacked in."""
    folder = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> Path:
    """The registry's archive, unpacked among custom nodes under a name that is no identifier."""
    tracked()
    base = tmp_path_factory.mktemp("custom_nodes")
    module("tools/release.py").write_archive(base / "pack.zip")
    with zipfile.ZipFile(base / "pack.zip") as archive:
        archive.extractall(base / "ComfyUI-FlowDPS-main")
    return base / "ComfyUI-FlowDPS-main"


def lost_imports(root: Path) -> list[str]:
    """Relative imports of the package at ``root`` that lead to no file of it."""
    lost = []
    for file in root.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.ImportFrom) and node.level):
                continue
            place = file.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            if not (place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()):
                lost.append(f"{file.relative_to(root)}, line {node.lineno}")
    return lost


def run_from(folder: Path, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """This Python, which finds the package in ``folder``."""
    paths = {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, *words]
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **paths}, capture_output=True, text=True
    )


def test_the_wheel_has_every_module_and_every_file_that_one_reads(installed):
    """All of a room's files, but for documents; and pictures, workflows and help pages."""
    shipped = (*MAY_IMPORT, "pictures", "web", "workflows")
    files = [file.relative_to(ROOT) for file in tracked()]
    wanted = {f.as_posix() for f in files if f.parts[0] in shipped} - {"benchmarks/README.md"}
    wanted |= {"__init__.py", "py.typed", "standalone.py"}
    root = installed / PACKAGE
    assert wanted == {f.relative_to(root).as_posix() for f in root.rglob("*") if f.is_file()}


def test_the_wheel_states_version_command_and_addresses(installed):
    (info,) = installed.glob("*.dist-info")
    version = module("tools/release.py").stated_version(read("pyproject.toml"))
    metadata = (info / "METADATA").read_text(encoding="utf-8")
    assert f"\nVersion: {version}\n" in metadata
    assert {"Repository", "Documentation", "Issues", "Changelog"} == set(
        re.findall(r"^Project-URL: (\w+)", metadata, re.M)
    )
    assert (info / "entry_points.txt").read_text(encoding="utf-8").count("flowdps = ") == 1


def test_no_module_of_the_wheel_imports_what_it_lacks(installed):
    assert lost_imports(installed / PACKAGE) == []


def test_the_installed_command_restores(installed, tmp_path):
    """From another folder, with the prior that comes along; few steps."""
    version = run_from(installed, "-m", f"{PACKAGE}.cli", "--version", cwd=tmp_path)
    stated = module("tools/release.py").stated_version(read("pyproject.toml"))
    assert version.stdout == f"flowdps {stated}\n", version.stderr
    photo = installed / PACKAGE / "pictures" / "bee.png"
    task = ("--task", "sr_bicubic", "--size", "32x32", "--steps", "2")
    restore = ("restore", str(photo), *task, "--out", "out")
    run = run_from(installed, "-m", f"{PACKAGE}.cli", *restore, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "out" / "bee_restored.png").is_file()


def test_a_benchmark_without_its_pictures_says_so(installed, tmp_path):
    here = tmp_path / PACKAGE
    shutil.copytree(installed / PACKAGE, here, ignore=shutil.ignore_patterns("test", "tune"))
    bench = ["-m", f"{PACKAGE}.cli", "bench", "--images", "2"]
    run = run_from(tmp_path, *bench, cwd=tmp_path)
    assert run.returncode == 2
    (said,) = run.stderr.strip().splitlines()
    assert "no pictures in " in said
    assert "they come with" in said


def test_the_set_up_script_says_that_it_is_for_clones(installed, tmp_path):
    run = run_from(tmp_path, str(installed / PACKAGE / "standalone.py"), cwd=tmp_path)
    assert run.returncode == 2
    assert "flowdps" in run.stdout
    assert run.stderr == ""


def test_no_module_of_the_archive_imports_what_it_lacks(pack):
    assert lost_imports(pack) == []


def test_nothing_in_the_archive_starts_processes_or_downloads(pack):
    """For which the registry would flag the version, and managers then refuse it."""
    for file in pack.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or "", *(f"{node.module}.{a.name}" for a in node.names)]
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec"}, file
            elif isinstance(node, ast.Attribute):
                assert node.attr not in {"system", "popen"}, file
            assert not FLAGGED & set(names), file


def test_the_archive_has_what_comfyui_shows_and_reads(pack):
    for name in ("LICENSE", "README.md", "pyproject.toml", "requirements.txt"):
        assert (pack / name).is_file(), name
    for room in ("locales", "nodes", "pictures", "priors", "web", "workflows"):
        kept = {f.relative_to(pack) for f in (pack / room).rglob("*") if f.is_file()}
        files = (f for f in tracked() if f.is_relative_to(ROOT / room))
        assert kept == {f.relative_to(ROOT) for f in files}
    assert not [f for f in pack.iterdir() if f.name.startswith(".")]


def test_the_archive_imports_as_a_pack_under_any_name(pack, tmp_path):
    """Its nodes, with a stand-in for ComfyUI; and it knows its version."""
    run = run_from(tmp_path, "-c", IMPORT_PACK, str(pack), cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    version, nodes, lent = run.stdout.splitlines()
    assert version == module("tools/release.py").stated_version(read("pyproject.toml"))
    assert int(nodes) == len(list((pack / "web" / "docs").glob("*.md")))
    assert int(lent) == len(list((pack / "pictures" / "photos").glob("[!L]*.*"))), "the examples"


@pytest.mark.skipif("FLOWDPS_INSTALL" not in os.environ, reason="takes long: FLOWDPS_INSTALL=1")
def test_the_wheel_in_an_empty_environment(wheel, tmp_path):
    """pip finds the requirements, and the command runs with nothing else."""
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    inside = environment / ("Scripts" if os.name == "nt" else "bin")
    standalone = module("standalone.py")
    needs = standalone.TORCH_CPU if standalone.wants_cpu_build() else []
    without = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def do(*words: str) -> str:
        program, *rest = words
        command = [str(inside / program), *rest]
        run = subprocess.run(command, cwd=tmp_path, env=without, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        return run.stdout

    do("python", "-m", "pip", "install", "--quiet", f"{wheel}[standalone]", *needs)
    shutil.copy(ROOT / "pictures" / "house.jpg", tmp_path)
    do("flowdps", "restore", "house.jpg", "--steps", "2", "--out", "out")
    assert (tmp_path / "out" / "house_restored.png").is_file()
    words = "bench --images 2 --tune-images 2 --steps 2 --methods flowchef --tasks"
    assert "| SR x4 | flowchef |" in do("flowdps", *words.split(), "SR x4")
