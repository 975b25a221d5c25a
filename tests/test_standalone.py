"""The set-up of standalone.py: interrupted, offline, without pip, and in any folder.

Nothing is downloaded here: pip, uv and venv are small programs that do as they are told.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
POSIX = pytest.mark.skipif(os.name == "nt", reason="the stand-ins are scripts of a shell")
FOLDER = "Ünï 画 (my clone) #1"


@pytest.fixture
def clone(tmp_path):
    """A clone with the script and the project, in a folder whose name has spaces and alphabets."""
    folder = tmp_path / FOLDER
    folder.mkdir()
    for name in ("standalone.py", "pyproject.toml"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


@pytest.fixture
def script(clone, monkeypatch):
    """The module standalone.py in ``clone``, whose steps are recorded and make what they would."""
    spec = importlib.util.spec_from_file_location("standalone_of_clone", clone / "standalone.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.steps, module.fails = [], []

    def run(command):
        words = list(map(str, command))
        module.steps.append(words)
        for failing in module.fails:
            if failing in words:
                raise module.Failed(f"{failing} is broken")
        if "venv" in words:
            module.SCRIPTS.mkdir(parents=True, exist_ok=True)
            module.PYTHON.write_text("a Python")
        if "ensurepip" in words or "--python" in words or any("get-pip" in w for w in words):
            (module.ENVIRONMENT / "pip").touch()

    def works(command):
        there = module.PYTHON.exists()
        return there and ((module.ENVIRONMENT / "pip").exists() or "pip" not in command)

    monkeypatch.setattr(module, "run", run)
    monkeypatch.setattr(module, "_works", works)
    monkeypatch.setattr(module, "answers", lambda address: True)
    monkeypatch.setattr(module, "unreachable", lambda address: "")
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    return module


def installs(script) -> list[list[str]]:
    return [step for step in script.steps if "install" in step and "--python" not in step[:4]]


def test_a_set_up_is_done_once(script):
    script.install("standalone")
    assert [step[-1] for step in installs(script)][-1] == f"{script.ROOT}[standalone]"
    before = len(script.steps)
    script.install("standalone")
    assert len(script.steps) == before
    script.install("standalone,test")
    script.install("standalone")
    assert len(installs(script)) == 4
    (script.ROOT / "pyproject.toml").write_text("[project]\n")
    script.install("standalone")
    assert len(installs(script)) == 6


def test_commands_that_want_different_extras_take_turns_for_nothing(script):
    """The tests and a film each add theirs once; a change of the project brings all of them."""
    for extras in ("standalone", "standalone,test", "standalone,video"):
        script.install(extras)
    every = f"{script.ROOT}[standalone,test,video]"
    assert installs(script)[-1][-1] == every
    before = len(script.steps)
    for extras in ("standalone,test", "standalone,video", "standalone", "video,test"):
        script.install(extras)
    assert len(script.steps) == before
    (script.ROOT / "pyproject.toml").write_text("[project]\n")
    script.install("standalone,video")
    assert installs(script)[-1][-1] == every
    assert script.is_installed("standalone,test")


@pytest.mark.parametrize("step", range(4))
def test_interrupted_at_any_step_it_begins_again(script, monkeypatch, capsys, step):
    """After the interruption everything is made anew, however far it came."""
    run, left = script.run, [step]

    def stopped(command):
        if left[0] == 0:
            left[0] = -1
            raise KeyboardInterrupt
        left[0] -= 1
        run(command)
        (script.ENVIRONMENT / "half").touch()

    monkeypatch.setattr(script, "run", stopped)
    with pytest.raises(KeyboardInterrupt):
        script.install()
    assert not script.is_installed("standalone")
    script.steps.clear()
    script.install()
    assert script.is_installed("standalone,test")
    assert not script.UNFINISHED.exists()
    assert "venv" in script.steps[0]
    assert "interrupted" in capsys.readouterr().err


def test_an_environment_that_is_not_ours_is_left_alone(script):
    script.ENVIRONMENT.mkdir()
    (script.ENVIRONMENT / "precious").write_text("mine")
    with pytest.raises(script.Failed, match="no environment of Python; move it away"):
        script.install()
    assert (script.ENVIRONMENT / "precious").read_text() == "mine"


@pytest.mark.parametrize("after", [*range(9)])
def test_a_removal_that_was_interrupted_goes_on(script, monkeypatch, after):
    """However many files are gone already, what is left is known to be of the set-up."""
    script.install()
    for name in ("pyvenv.cfg", "a/b/c", "z/d", "e"):
        file = script.ENVIRONMENT / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    script.STAMP.unlink()
    script.PYTHON.unlink()
    removed, left = os.unlink, [after]

    def stopped(*words, **options):
        left[0] -= 1
        if left[0] == -1:
            raise KeyboardInterrupt
        removed(*words, **options)

    monkeypatch.setattr(os, "unlink", stopped)
    with contextlib.suppress(KeyboardInterrupt):
        script.install()
    script.install()
    assert script.is_installed("standalone,test")
    assert not (script.ENVIRONMENT / "e").exists()


def test_an_environment_in_use_is_said_and_waited_for(script, monkeypatch):
    """A program has a file open on Windows: it may be gone soon, or the user has to end it."""
    script.ENVIRONMENT.mkdir()
    script.UNFINISHED.touch()
    (script.ENVIRONMENT / "Lib").mkdir()
    real, left = script.shutil.rmtree, [2]

    def used(path):
        left[0] -= 1
        if left[0] >= 0:
            raise PermissionError(13, "Access is denied", str(path))
        real(path)

    monkeypatch.setattr(script.shutil, "rmtree", used)
    script.empty()
    assert [each.name for each in script.ENVIRONMENT.iterdir()] == [script.UNFINISHED.name]
    (script.ENVIRONMENT / "Lib").mkdir()
    left[0] = 10**6
    monkeypatch.setattr(script, "REMOVING", 0)
    with pytest.raises(script.Failed, match=r"Lib cannot be removed \(Access is denied\): end the"):
        script.empty()


def test_on_windows_the_environment_is_laid_out_as_there(script, monkeypatch, capsys):
    """Reasoned, as no Windows is at hand: Scripts/python.exe, and a lock of msvcrt that others may
    hold for a while, or that a share does not know.
    """
    answers = [OSError(errno.EACCES, "held"), OSError(errno.EDEADLK, "held"), None]
    asked = []

    class Console:
        LK_NBLCK = 2

        @staticmethod
        def locking(descriptor, mode, count):
            asked.append((mode, count))
            if answer := answers.pop(0):
                raise answer

    monkeypatch.setitem(sys.modules, "msvcrt", Console)
    monkeypatch.setattr(script, "WINDOWS", True)
    script.aim(script.ROOT)
    script.install("standalone")
    assert script.PYTHON == script.ENVIRONMENT / "Scripts" / "python.exe"
    assert script.is_installed("standalone")
    assert asked == [(2, 1)] * 3
    said = capsys.readouterr().err
    assert said.count("Another set-up is at work here") == 1
    answers.append(OSError(errno.EINVAL, "no locks"))
    with script.locked():
        pass
    script.fails += ["--editable"]
    answers.append(None)
    monkeypatch.setattr(script.sys, "argv", ["standalone.py", "lint"])
    assert script.main() == 1
    assert r"C:\flowdps" in capsys.readouterr().err


@POSIX
def test_what_a_killed_set_up_left_running_is_waited_for(script, monkeypatch, capsys, tmp_path):
    """The lock lasts as long as the step of the set-up that was killed."""
    monkeypatch.undo()
    began, done = tmp_path / "began", tmp_path / "done"
    step = f"open({str(began)!r}, 'w'); import time; time.sleep(2); open({str(done)!r}, 'w')"
    program = textwrap.dedent(
        f"""
        import sys
        sys.path.insert(0, {str(script.ROOT)!r})
        import standalone
        with standalone.locked():
            standalone.run([sys.executable, "-c", {step!r}])
        """
    )
    child = subprocess.Popen([sys.executable, "-c", program])
    until = time.monotonic() + 60
    while not began.exists() and time.monotonic() < until:
        time.sleep(0.01)
    child.kill()
    child.wait()
    assert not done.exists()
    with script.locked():
        assert done.exists()
    assert "Another set-up is at work here" in capsys.readouterr().err


def test_without_the_index_of_pytorch_it_goes_on_at_once_and_in_one_line(
    script, monkeypatch, capsys
):
    monkeypatch.setattr(script, "wants_cpu_build", lambda: True)
    monkeypatch.setattr(script, "answers", lambda address: False)
    script.install("standalone")
    assert not [step for step in script.steps if script.CPU_INDEX in step]
    said = capsys.readouterr().err.strip().splitlines()
    assert len([line for line in said if "cannot be reached" in line]) == 1
    assert len(said) == 2


def test_without_the_package_index_one_sentence_says_so_at_once(script, monkeypatch, capsys):
    """Nothing is made or removed before; a mirror that pip or uv knows is left to them."""
    for name in [n for n in os.environ if n.upper().startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    for name in ("APPDATA", "PROGRAMDATA"):
        monkeypatch.setenv(name, str(script.ROOT))
    settings: list[str] = []

    def read_text(path, **_):
        if path.name == "uv.toml" and settings:
            return settings[0]
        raise FileNotFoundError

    monkeypatch.setattr(script.Path, "read_text", read_text)
    monkeypatch.setattr(script, "unreachable", lambda address: "no route to host")
    script.ENVIRONMENT.mkdir()
    script.UNFINISHED.touch()
    monkeypatch.setattr(script.sys, "argv", ["standalone.py", "restore", "x.png"])
    assert script.main() == 1
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "The set-up failed: pypi.org cannot be reached (no route to host)"
    assert "PIP_INDEX_URL" in "".join(said)
    assert not script.steps
    settings += ["[global]\ncert = /etc/ssl/ours.pem\ntimeout = 60\n"]
    monkeypatch.setenv("PIP_CERT", "/etc/ssl/ours.pem")
    with pytest.raises(script.Failed, match="cannot be reached"):
        script.install("standalone")
    for key, value in {"UV_DEFAULT_INDEX": "https://x.invalid", "PIP_PROXY": "x:1"}.items():
        with monkeypatch.context() as given:
            given.setenv(key, value)
            assert script.has_another_index()
    for told in ("extra-index-url = x", "find-links = x", "proxy = x:1", '[[index]]\nurl = "x"'):
        settings[0] = told
        assert script.has_another_index()
    script.install("standalone")
    assert "install" in script.steps[-1]


def test_what_answers_is_reachable_whatever_it_says(script, monkeypatch):
    """A page that is not there, and a certificate that pip may know and Python does not."""
    import ssl
    import urllib.error

    monkeypatch.undo()
    answers = [
        urllib.error.HTTPError("x", 404, "not found", None, None),  # type: ignore[arg-type]
        urllib.error.URLError(ssl.SSLError("self-signed")),
        urllib.error.URLError(OSError("no such name")),
        TimeoutError("timed out"),
    ]

    def asked(*_, **__):
        raise answers.pop(0)

    monkeypatch.setattr(script.urllib.request, "urlopen", asked)
    found = [script.unreachable("https://index.invalid/") for _ in range(4)]
    assert found == ["", "", "no such name", "timed out"]


def test_an_index_that_is_lost_on_the_way_is_told(script, monkeypatch):
    """pip says it of a step within a step, and ends with a line that does not."""
    monkeypatch.undo()
    line = "WARNING: after connection broken by 'NameError(<pip at 0x7>: no such name)': /simple/"
    code = (
        f"print({line!r});"
        "print('ERROR: No matching distribution found for setuptools');"
        "print('ERROR: Failed to build x when installing build dependencies'); exit(1)"
    )
    with pytest.raises(script.Failed) as failed:
        script.run([sys.executable, "-c", code])
    assert str(failed.value) == (
        "ERROR: No matching distribution found for setuptools (an index cannot be reached:"
        " NameError(no such name)': /simple/)"
    )
    assert script.environment()["PIP_RETRIES"]


def test_an_address_that_does_not_answer_is_given_up_within_seconds(script, monkeypatch):
    import socket

    monkeypatch.undo()
    silent = socket.create_server(("127.0.0.1", 0))
    monkeypatch.setattr(script, "PATIENCE", 1)
    began = time.monotonic()
    assert not script.answers(f"http://127.0.0.1:{silent.getsockname()[1]}/")
    assert time.monotonic() - began < 5
    assert not script.answers("http://127.0.0.1:1/")


def test_addresses_are_asked_through_a_proxy(script, monkeypatch):
    """A name that nobody knows is reached by the proxy that the environment names."""
    import http.server
    import threading

    asked: list[str] = []

    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.handle_request, daemon=True).start()
    monkeypatch.undo()
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    # What was asked first in a process reads the environment; here that was another test.
    monkeypatch.setattr(script.urllib.request, "_opener", None)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    assert script.answers("http://index.invalid/torch/")
    assert asked == ["http://index.invalid/torch/"]
    server.server_close()


def test_a_long_step_shows_that_it_goes_on(script, monkeypatch, capsys):
    """What is downloaded is named as it comes, and time is told where nothing is said for long."""
    monkeypatch.undo()
    clock = iter(range(0, 10**6, 10))
    monkeypatch.setattr(script.time, "monotonic", lambda: next(clock))
    code = "import time; print('Downloading torch', flush=True); print('noise'); time.sleep(1)"
    script.run([sys.executable, "-c", code])
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "  Downloading torch"
    assert said[1:]
    assert all(line.startswith("  ... ") and line.endswith(" s") for line in said[1:])
    assert "noise" in script.LOG.read_text(encoding="utf-8")


def test_uv_is_taken_where_it_is(script, monkeypatch):
    monkeypatch.setattr(script.shutil, "which", lambda name: "/bin/uv" if name == "uv" else None)
    script.install("standalone")
    assert {step[0] for step in script.steps} == {"/bin/uv"}
    assert script.steps[-1][-1] == f"{script.ROOT}[standalone]"


@pytest.mark.parametrize(
    ("fails", "way"),
    [([], "ensurepip"), (["ensurepip"], "--python"), (["ensurepip", "--python"], "get-pip.py")],
)
def test_without_ensurepip_another_pip_is_found(script, monkeypatch, fails, way):
    class Answer:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def read(self):
            return b"a script"

    monkeypatch.setattr(script.urllib.request, "urlopen", lambda *_, **__: Answer())
    script.fails += fails
    script.install("standalone")
    assert any(way in word for step in script.steps for word in step)
    assert script.is_installed("standalone")


def test_the_reason_of_a_step_within_a_step_is_told(script, monkeypatch):
    monkeypatch.undo()
    code = "print('  ERROR: no setuptools'); print('error: subprocess-exited-with-error'); exit(1)"
    with pytest.raises(script.Failed, match=r"^ERROR: no setuptools$"):
        script.run([sys.executable, "-c", code])


def test_a_set_up_that_fails_says_what_to_do(script, monkeypatch, capsys):
    script.fails += ["--editable"]
    monkeypatch.setattr(script.sys, "argv", ["standalone.py", "restore", "x.png"])
    assert script.main() == 1
    said = capsys.readouterr().err
    assert "The set-up failed: --editable is broken" in said
    for word in ("HTTPS_PROXY", "PIP_INDEX_URL", "python3-venv", "uv", str(script.LOG)):
        assert word in said
    assert "Traceback" not in said
    script.fails.clear()
    script.install("standalone")
    assert script.is_installed("standalone")


@POSIX
def test_killed_at_random_instants_it_recovers(clone):
    """Real processes: Python's own venv, a pip that takes its time, and SIGKILL."""
    # A package named pip, found first by every Python that runs here.
    slow = clone / "slow"
    (slow / "pip").mkdir(parents=True)
    (slow / "pip" / "__init__.py").touch()
    (slow / "pip" / "__main__.py").write_text(
        textwrap.dedent(
            """
            import pathlib, sys, time
            time.sleep(0.2)
            if "--editable" in sys.argv:
                pathlib.Path(sys.prefix, "all").touch()
            """
        )
    )
    program = textwrap.dedent(
        f"""
        import sys
        sys.path.insert(0, {str(clone)!r})
        import standalone
        standalone.wants_cpu_build = lambda: False
        standalone.unreachable = lambda address: ""
        kept = standalone.environment
        standalone.environment = lambda: {{**kept(), "PYTHONPATH": {str(slow)!r}}}
        standalone.install("standalone")
        """
    )
    for k in range(6):
        child = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE)
        time.sleep(0.15 * (k + 1))
        child.kill()
        child.communicate()
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert (clone / ".venv" / "all").exists()
    assert (clone / ".venv" / "flowdps-installed").exists()
    assert not (clone / ".venv" / "flowdps-unfinished").exists()


def test_the_pack_tells_its_host_by_what_is_loaded(tmp_path):
    """Started in a folder with a ComfyUI in it, the library is imported without its nodes; with the
    host's API loaded, the pack brings them.
    """
    (tmp_path / "comfy_api").mkdir()
    (tmp_path / "comfy_api" / "__init__.py").touch()
    code = "import comfyui_flowdps as pack; print(hasattr(pack, 'comfy_entrypoint'))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "False"
    run = subprocess.run(
        [sys.executable, "-c", f"import comfy_api; {code}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert "No module named 'comfy_api.latest'" in run.stderr


def test_the_command_takes_no_module_from_the_current_folder(script, tmp_path):
    """A folder of photos, or ComfyUI's own, may hold files with the names of modules."""
    for name in ("torch.py", "nodes.py", "json.py", "tqdm.py"):
        (tmp_path / name).write_text("raise SystemExit('the wrong module')")
    run = subprocess.run(
        [sys.executable, "-c", script.RUN, "--version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.stdout.startswith("flowdps "), run.stderr
