"""The README's test command brings ComfyUI into a cache of its own, or says in a line why not.

Nothing is downloaded here: the repository is a small one, and so is the environment.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import LAYERS, layer_of
from .test_project import ROOT, module

GIT = pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")


@pytest.fixture
def hosts(tmp_path, monkeypatch):
    """tools/hosts.py with a cache in ``tmp_path``; ``made`` are the environments that it made."""
    found = module("tools/hosts.py")
    kept = {name: getattr(found.standalone, name) for name in vars(found.standalone)}
    monkeypatch.setenv("FLOWDPS_HOSTS", str(tmp_path / "cache"))
    monkeypatch.setattr(found.sys, "argv", ["hosts.py"])
    found.made = []

    def equip(folder):
        found.made.append(folder)
        scripts = folder / ".venv" / ("Scripts" if os.name == "nt" else "bin")
        scripts.mkdir(parents=True)
        (scripts / ("python.exe" if os.name == "nt" else "python")).touch()

    monkeypatch.setattr(found, "equip", equip)
    yield found
    for name, value in kept.items():
        setattr(found.standalone, name, value)


@pytest.fixture
def mirror(tmp_path, hosts, monkeypatch) -> Path:
    """A repository with two commits, which are the versions."""
    folder = tmp_path / "mirror"
    folder.mkdir()

    def git(*words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", str(folder), *who, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    git("config", "uploadpack.allowAnySHA1InWant", "true")
    for version in hosts.HOSTS:
        (folder / "main.py").write_text(version)
        (folder / "comfyui_version.py").write_text(f'__version__ = "{version}"\n')
        (folder / "requirements.txt").write_text("torch\n")
        git("add", ".")
        git("commit", "--quiet", "-m", version)
        monkeypatch.setitem(hosts.HOSTS, version, git("rev-parse", "HEAD"))
    monkeypatch.setenv("FLOWDPS_HOSTS_FROM", str(folder))
    return folder


@GIT
def test_every_version_is_brought_once_and_tested(hosts, mirror, tmp_path, monkeypatch):
    ran: list[tuple[str, str]] = []
    real = subprocess.run

    def run(command, **options):
        if "pytest" not in command:
            return real(command, **options)
        inside = options["env"]
        version = Path(inside["COMFYUI_PATH"], "main.py").read_text()
        assert Path(inside["COMFYUI_PYTHON"]).is_file()
        ran.append((version, command[-1]))
        return subprocess.CompletedProcess(command, 1 if version == "0.3.64" else 0)

    monkeypatch.setattr(hosts.subprocess, "run", run)
    assert hosts.main() == 1, "the failure in the first version is not forgotten"
    assert ran == [(version, "tests/host") for version in hosts.HOSTS]
    assert [folder.parent for folder in hosts.made] == [tmp_path / "cache"] * len(hosts.HOSTS)
    hosts.main()
    assert len(hosts.made) == len(hosts.HOSTS), "what is there is not made again"


@GIT
def test_a_set_up_that_was_interrupted_is_begun_again(hosts, mirror, tmp_path, monkeypatch):
    equip = hosts.equip
    monkeypatch.setattr(hosts, "equip", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        hosts.ready("0.33.0")
    (tmp_path / "cache" / "ComfyUI-0.33.0" / "half").touch()
    monkeypatch.setattr(hosts, "equip", equip)
    folder = hosts.ready("0.33.0")
    assert (folder / "main.py").read_text() == "0.33.0"
    assert not (folder / "half").exists()


@pytest.mark.parametrize(
    ("source", "words"),
    [("http://127.0.0.1:1/ComfyUI", "cannot be reached"), ("nowhere", "not tested; ")],
)
def test_without_a_network_it_says_so_in_a_line(hosts, monkeypatch, capsys, source, words):
    monkeypatch.setenv("FLOWDPS_HOSTS_FROM", source)
    assert hosts.main() == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert words in lines[0]
    assert lines[0].startswith("Inside ComfyUI 0.3.64: not tested; ")
    assert len(lines) == (1 if "reached" in words else len(hosts.HOSTS))


def test_an_environment_that_cannot_be_made_is_no_failure_of_a_test(
    hosts, mirror, monkeypatch, capsys
):
    def equip(_):
        raise hosts.standalone.Failed("pip is broken")

    monkeypatch.setattr(hosts, "equip", equip)
    assert hosts.main() == 0
    said = capsys.readouterr().out.strip().splitlines()
    assert said == [f"Inside ComfyUI {v}: not tested; pip is broken" for v in hosts.HOSTS]


def test_a_comfyui_of_the_users_is_left_alone(hosts, monkeypatch, tmp_path):
    """Where there is one, the tests ran in it with all others, and nothing is brought."""
    script = module("standalone.py")
    started: list[object] = []
    monkeypatch.setattr(
        script.subprocess,
        "run",
        lambda command, **_: started.append(command) or subprocess.CompletedProcess(command, 0),
    )
    monkeypatch.setattr(script.Path, "home", lambda: tmp_path)
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    assert script.hosts([]) == 0
    monkeypatch.delenv("COMFYUI_PATH")
    assert script.hosts(["-k", "one"]) == 0
    assert started == []
    assert script.hosts([]) == 0
    assert len(started) == 1


def test_nothing_of_it_is_in_the_registrys_archive():
    """Programs are started and files are brought only from a clone."""
    archived = module("tools/release.py").archived()
    assert not {"standalone.py", "tools/hosts.py", "benchmarks/attack.py"} & set(archived)


def test_every_test_has_a_layer():
    assert layer_of("tests/nodes/test_agreement.py::test_x") == list(LAYERS)[1]
    assert layer_of("tests/host/test_schemas.py::test_x") == list(LAYERS)[2]
    assert layer_of("tests/operators/test_chain.py::test_x") == "Core"
    text = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert text.rstrip().endswith("python3 standalone.py test")
