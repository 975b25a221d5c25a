"""The project's own files: one version, one public address, forms and workflows that are right, and
documents that name what exists."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
from pathlib import Path

import comfyui_flowdps
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


def module(path: str):
    """A script of the project that belongs to no package."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec
    assert spec.loader
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def read(path: str | Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def tracked() -> list[Path]:
    """The project's files; without git, as in an unpacked archive, there is nothing to look at."""
    try:
        run = subprocess.run(["git", "-C", ROOT, "ls-files"], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no git")
    if run.returncode:
        pytest.skip("this is no clone")
    return [ROOT / line for line in run.stdout.splitlines() if (ROOT / line).is_file()]


def texts(*suffixes: str) -> dict[Path, str]:
    return {file: read(file) for file in tracked() if file.suffix in suffixes}


def where(pattern: str) -> set[str]:
    """The files of text in which a regular expression is found."""
    files = texts(".py", ".toml", ".md", ".yml", ".json", ".txt", ".cjs")
    return {f.relative_to(ROOT).as_posix() for f, text in files.items() if re.search(pattern, text)}


@pytest.fixture(scope="module")
def release():
    return module("tools/release.py")


@pytest.fixture(scope="module")
def forge():
    """Name to content of every YAML file."""
    yaml = pytest.importorskip("yaml")
    files = [*(ROOT / ".github").rglob("*.yml"), ROOT / ".pre-commit-config.yaml"]
    return {file.relative_to(ROOT).as_posix(): yaml.safe_load(read(file)) for file in files}


def test_the_version_stands_in_one_place(release):
    version = release.stated_version(read("pyproject.toml"))
    assert comfyui_flowdps.__version__ == version
    assert re.search(rf"^## \[{re.escape(version)}\] - ", read("CHANGELOG.md"), re.M)
    pattern = rf"(?<![\d.]){re.escape(version)}(?![\d.]*\d)"
    # A workflow says with which version its nodes were made.
    made = {name for name in where(pattern) if name.startswith(("workflows/", "subgraphs/"))}
    assert where(pattern) - made == {"pyproject.toml", "CHANGELOG.md"}


def test_blueprints_name_the_pack_and_its_version_and_say_what_they_do():
    files = sorted((ROOT / "subgraphs").glob("*.json"))
    assert len(files) == 3
    for file in files:
        content = json.loads(file.read_text(encoding="utf-8"))
        assert content["extra"]["BlueprintDescription"].endswith("another model.")
        (subgraph,) = content["definitions"]["subgraphs"]
        assert subgraph["name"] == file.stem
        assert {node["type"] for node in subgraph["nodes"]} >= {"FlowDPS_RestorePhoto"}
        for node in subgraph["nodes"]:
            known = node["properties"]
            assert (known["cnr_id"], known["ver"]) == ("flowdps", comfyui_flowdps.__version__)


def test_nothing_else_is_an_attribute_of_the_package():
    with pytest.raises(AttributeError, match="NODE_CLASS_MAPPINGS"):
        comfyui_flowdps.NODE_CLASS_MAPPINGS  # noqa: B018


PROJECT = 'version = "1.2.3"\n# TO-BE-DECIDED is gone.\n[project.urls]\n'
CHANGES = "## [1.2.3] - 2026-12-01\n"


@pytest.mark.parametrize(
    ("project", "changes", "tag", "uncommitted", "words"),
    [
        (f"{PROJECT}Repository = 'TO-BE-DECIDED'\n", CHANGES, None, [], "public address"),
        (PROJECT, "## [1.2.3] - not released yet", None, [], "CHANGELOG.md has no line"),
        (PROJECT, CHANGES, "v1.2.4", [], "the tag is v1.2.4"),
        (PROJECT, CHANGES, "v1.2.3", [" M a.py"], "uncommitted"),
        (PROJECT, CHANGES, "v1.2.3", [], None),
    ],
)
def test_no_release_while_something_is_missing(release, project, changes, tag, uncommitted, words):
    found = release.hindrances(project, changes, tag, uncommitted)
    assert [words in each for each in found] == ([] if words is None else [True])


def test_the_public_address_stands_in_one_place(release):
    """A fork, or the decision where the project lives, changes pyproject.toml alone."""
    assert where(r"github\.com/[^/\s]+/ComfyUI-FlowDPS") == {"pyproject.toml"}
    project = read("pyproject.toml")
    addresses = re.findall(r"github\.com/([^/\s]+)/ComfyUI-FlowDPS", project)
    (publisher,) = re.findall(r'^PublisherId = "(.+)"$', project, re.M)
    assert len(set(addresses)) == 1
    assert (addresses[0] == release.PLACEHOLDER) == (publisher == release.PLACEHOLDER)


def test_the_hooks_are_the_checks_of_the_test_command(forge):
    (repository,) = forge[".pre-commit-config.yaml"]["repos"]
    hooks = [hook["entry"].split() for hook in repository["hooks"]]
    assert hooks == list(module("standalone.py").CHECKS["test"])
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}


def test_workflows_of_the_forge_run_what_there_is(forge):
    """Every command is one of the README's, of standalone.py, or a script that exists."""
    verbs, commands = {*module("standalone.py").CHECKS, "--version"}, []
    for name, workflow in forge.items():
        if not name.startswith(".github/workflows/"):
            continue
        assert {"name", "jobs", "permissions"} <= set(workflow), name
        assert True in workflow, f"{name}: YAML reads the key 'on' as true"
        for job in workflow["jobs"].values():
            commands += [step["run"] for step in job.get("steps", []) if "run" in step]
            for needed in [job["needs"]] if "needs" in job else []:
                assert needed in workflow["jobs"], needed
            if used := job.get("uses"):
                assert (ROOT / used).is_file(), used
    for command in commands:
        for verb in re.findall(r"standalone\.py (\S+)", command):
            assert verb in verbs, command
        for script in re.findall(r"tools/\w+\.py", command):
            assert (ROOT / script).is_file(), command
        for path in re.findall(r"pytest (?:--ignore=)?(\S+)", command):
            assert (ROOT / path).exists(), command
    said = "\n".join(commands)
    for part in ("lint", "pytest --ignore=tests/host", "pytest tests/host", "overhead --imports"):
        assert part in said, part


def test_workflows_of_the_forge_test_the_hosts_that_the_readme_names(forge):
    hosts = forge[".github/workflows/checks.yml"]["jobs"]["host"]["strategy"]["matrix"]["version"]
    assert hosts == list(module("tools/hosts.py").HOSTS)
    said = re.search(r"the tests ran on ([\d.]+)\s+and ([\d.]+)\.", read("README.md"))
    assert said
    assert hosts == list(said.groups())
    assert all(version in read("CONTRIBUTING.md") for version in hosts)
    assert f'requires-comfyui = ">={hosts[0]}"' in read("pyproject.toml")


def test_publishing_waits_for_the_checks_and_the_build(forge):
    jobs = forge[".github/workflows/publish.yml"]["jobs"]
    assert jobs["build"]["needs"] == "checks"
    assert {jobs[name]["needs"] for name in ("pypi", "registry")} == {"build"}
    assert any("release.py --check" in step.get("run", "") for step in jobs["build"]["steps"])


def test_forms_ask_for_what_a_report_needs(forge):
    forms = {Path(k).stem: v for k, v in forge.items() if "ISSUE_TEMPLATE" in k}
    assert set(forms) == {"config", "bug", "picture", "feature"}
    for name in ("bug", "picture", "feature"):
        form = forms[name]
        assert {"name", "description", "body"} <= set(form), name
        assert all({"type", "id", "attributes"} <= set(part) for part in form["body"]), name
        assert all(part["attributes"].get("label") for part in form["body"]), name
    required = {p["id"] for p in forms["bug"]["body"] if p.get("validations", {}).get("required")}
    assert {"version", "where", "host", "workflow", "log"} <= required


def test_the_example_of_the_readme_runs():
    (code,) = re.findall(r"^```python\n(.*?)^```", read("README.md"), re.M | re.S)
    assert "published_sigmas(28)" in code
    y = torch.zeros(1, 3, 32, 32)
    values = {"y": y}
    exec(code.replace("published_sigmas(28)", "published_sigmas(2)"), values)
    assert values["images"].shape == (1, 3, 128, 128)
    assert values["measurement"].y is y
    seen = values["operator"].A(values["images"])
    assert float(seen.abs().mean()) < 0.3, "it has nothing to do with the measurement"


TOYS = re.compile(r"[Gg]host|[Gg]lide|\b(?:NAME|MODULE)$")
"""What readers of the how-to pages make for themselves, and words to be replaced."""


def test_documents_and_comments_name_files_that_exist():
    folders = {file.relative_to(ROOT).parts[0] for file in tracked() if file.parent != ROOT}
    path = re.compile(r"(?<![\w/.<>~-])((?:[\w.-]+/)+[\w.-]+\.(?:py|md|cjs|safetensors|yml))\b")
    lost = []
    for file, text in texts(".md", ".py", ".cjs", ".toml", ".yml").items():
        for named in path.findall(text):
            ours = named.split("/")[0] in folders and not TOYS.search(named)
            if ours and not (ROOT / named).exists():
                lost.append(f"{file.relative_to(ROOT)}: {named}")
        for named in re.findall(r"python3? -m comfyui_flowdps\.([\w.]*\w)", text):
            place = ROOT.joinpath(*named.split("."))
            runs = (place.with_suffix(".py"), place / "__main__.py")
            if not TOYS.search(named) and not any(file.is_file() for file in runs):
                lost.append(f"{file.relative_to(ROOT)}: -m comfyui_flowdps.{named}")
    assert lost == []


def test_links_lead_somewhere():
    for file, text in texts(".md").items():
        for target, heading in re.findall(r"\]\((?!https?:|#)([^)#\s]+)(?:#([^)\s]+))?", text):
            there = file.parent / target
            assert there.exists(), f"{file.relative_to(ROOT)}: {target}"
            if heading:
                lines = re.findall(r"^#+ (.*)$", read(there), re.M)
                known = {re.sub(r"[^\w -]", "", line).lower().replace(" ", "-") for line in lines}
                assert heading in known, f"{file.relative_to(ROOT)}: {target}#{heading}"
