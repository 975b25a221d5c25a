"""Run FlowDPS on a bare Python 3.10+: makes .venv beside this file once, then runs the command.

python3 standalone.py restore photo.png --out restored
python3 standalone.py bench
python3 standalone.py test [ARGUMENTS OF PYTEST]

``test`` is ``lint`` (ruff and pyright) and then ``pytest``; each of the two can be run alone. After
them, ``test`` brings the versions of ComfyUI that count into a cache and tests inside them.

A set-up that was interrupted is begun again, once what it left running has ended. It uses uv where
that is installed, else pip: that of ensurepip, of the Python that runs this, or a downloaded one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import re
import shutil
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".venv"
WINDOWS = os.name == "nt"
SCRIPTS = ENVIRONMENT / ("Scripts" if WINDOWS else "bin")
PYTHON = SCRIPTS / ("python.exe" if WINDOWS else "python")
STAMP = ENVIRONMENT / "flowdps-installed"
"""Says what is installed, once it is; without it, the set-up was not finished."""
UNFINISHED = ENVIRONMENT / "flowdps-unfinished"
"""There from the first moment of a set-up to its last: what it finds there may be broken."""
LOCK = ROOT / ".venv.lock"
LOG = ROOT / ".venv.log"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
TORCH_CPU = ["torch==2.13.0", "--extra-index-url", CPU_INDEX]
INDEX = "https://pypi.org/simple/pip/"
GET_PIP = "https://bootstrap.pypa.io/get-pip.py"
LINT = (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["pyright"])
WORKERS = max(1, min(4, os.cpu_count() or 1))
"""Processes that share the tests; each has its models in memory."""
SHARED = ["-n", str(WORKERS), "--dist", "loadgroup"]
TESTS = (["pytest"],)
CHECKS = {"test": LINT + TESTS, "lint": LINT, "pytest": TESTS}
"""What the verbs for developers run; all other verbs are those of the command ``flowdps``."""
STEP = ("error: subprocess-exited", "error: failed to build")
"""How pip tells that a step of its own failed, which says nothing of the reason."""
BROKEN = "connection broken by"
"""What pip says of an index that cannot be reached."""
PATIENCE = 6
"""Seconds to wait for an answer of PyTorch's index."""
REMOVING = 30
"""Seconds in which a broken environment has to be gone: other programs may have its files open."""
HELD: list[int] = []
"""Descriptors of the locks that are held. Steps inherit them, so that a lock lasts as long as what
a killed set-up left running; Windows knows no such inheritance.
"""
RUN = (
    "import sys; sys.path[:] = [p for p in sys.path if p];"
    " from comfyui_flowdps.cli.command import main; sys.exit(main())"
)
"""The command ``flowdps``; nothing in the current folder is taken for one of its modules."""


def aim(folder: Path) -> None:
    """Let what follows be about the environment ``.venv`` in ``folder``."""
    global ENVIRONMENT, SCRIPTS, PYTHON, STAMP, UNFINISHED, LOCK, LOG
    ENVIRONMENT = folder / ".venv"
    SCRIPTS = ENVIRONMENT / ("Scripts" if WINDOWS else "bin")
    PYTHON = SCRIPTS / ("python.exe" if WINDOWS else "python")
    STAMP, UNFINISHED = ENVIRONMENT / STAMP.name, ENVIRONMENT / UNFINISHED.name
    LOCK, LOG = folder / LOCK.name, folder / LOG.name


def hosts(arguments: Sequence[str]) -> int:
    """The tests inside the versions of ComfyUI that count, unless there is one of the user's, in
    which they ran with all others; see tools/hosts.py.
    """
    there = os.environ.get("COMFYUI_PATH") or (Path.home() / "ComfyUI" / "main.py").is_file()
    if there or arguments:
        return 0
    return subprocess.run([str(PYTHON), str(ROOT / "tools" / "hosts.py")], cwd=ROOT).returncode


class Failed(Exception):
    """A set-up that cannot be done, with the sentence that says why."""


def say(text: str) -> None:
    """Print one line about the set-up."""
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    safe = text.encode(encoding, "backslashreplace").decode(encoding)
    print(safe, file=sys.stderr, flush=True)


def wants_cpu_build() -> bool:
    """Whether this machine shows no NVIDIA driver; on a Mac the default build is the right one."""
    return platform.system() != "Darwin" and shutil.which("nvidia-smi") is None


def answers(address: str) -> bool:
    """Whether ``address`` can be reached, through a proxy if the environment names one."""
    try:
        with urllib.request.urlopen(address, timeout=PATIENCE):
            return True
    except (OSError, ValueError):
        return False


def unreachable(address: str) -> str:
    """Why ``address`` cannot be reached; empty if something answers, whatever it says.

    A certificate that Python does not know is an answer: pip may know it.
    """
    try:
        with urllib.request.urlopen(address, timeout=PATIENCE):
            return ""
    except (urllib.error.HTTPError, ssl.SSLError):
        return ""
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return "" if isinstance(reason, ssl.SSLError) else str(reason)


ANOTHER = ("index", "find-links", "offline", "proxy")
"""Words of settings by which pip or uv get packages otherwise than from PyPI, as this script asks
it."""


def has_another_index() -> bool:
    """Whether pip or uv may take packages from elsewhere than PyPI, from a cache, or by a proxy."""

    def leads_elsewhere(text: str) -> bool:
        return any(word in text.lower().replace("_", "-") for word in ANOTHER)

    tools = [name for name in os.environ if name.upper().startswith(("PIP_", "UV_"))]
    if any(leads_elsewhere(name) or name.upper().endswith("CONFIG_FILE") for name in tools):
        return True
    home = Path.home()
    here = [Path("/etc"), Path("/etc/xdg"), home, home / ".config"]
    here += [home / "Library" / "Application Support"]
    here += [Path(os.environ[n]) for n in ("APPDATA", "PROGRAMDATA") if n in os.environ]
    for folder in here:
        for file in ("pip.conf", "pip/pip.conf", ".pip/pip.conf", "pip/pip.ini", "uv/uv.toml"):
            # A file that cannot be read may say anything; one that is not there says nothing.
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                try:
                    text = (folder / file).read_text(encoding="utf-8", errors="replace")
                except PermissionError:
                    return True
                if leads_elsewhere(text):
                    return True
    return False


def environment() -> dict[str, str]:
    """This process's environment without what leads pip or Python to other places than .venv.

    What pip starts by itself is told by PIP_RETRIES alone how often to try.
    """
    apart = {"PYTHONHOME", "PYTHONPATH", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_QUIET"}
    kept = {key: value for key, value in os.environ.items() if key.upper() not in apart}
    kept.setdefault("PIP_RETRIES", "2")
    return {**kept, "PYTHONIOENCODING": "utf-8", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def run(command: Sequence[str]) -> None:
    """Run a step of the set-up: what it does goes to the log, and what takes long to the console.

    Raises Failed if it ends with an error.
    """
    with LOG.open("a", encoding="utf-8", errors="replace") as log:
        log.write(f"$ {' '.join(command)}\n")
        started = said = time.monotonic()
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            encoding="utf-8",
            errors="replace",
            env=environment(),
            pass_fds=() if WINDOWS else tuple(HELD),
        )
        lines: list[str] = []
        reader = threading.Thread(target=lambda: lines.extend(_noted(process, log)), daemon=True)
        reader.start()
        try:
            while reader.is_alive():
                reader.join(0.2)
                if time.monotonic() - said > 15:
                    said = time.monotonic()
                    say(f"  ... {said - started:.0f} s")
        except BaseException:
            process.kill()
            process.wait()
            raise
        if process.wait():
            error = [line for line in lines if line.lower().startswith(("error", "  × "))]
            # pip's last word on a step of its own, whose reason stands above.
            error = [line for line in error if not line.lower().startswith(STEP)] or error
            broken = [line.partition(BROKEN)[2] for line in lines if BROKEN in line]
            # Without the names of pip's own objects.
            reasons = [re.sub(r"<[^<>]*>:? ?", "", each).strip(" '") for each in broken]
            reached = f" (an index cannot be reached: {reasons[-1]})" if broken else ""
            raise Failed((error or lines or ["no message"])[-1] + reached)


def _noted(process: subprocess.Popen[str], log: TextIO) -> Iterator[str]:
    for line in process.stdout or ():
        with contextlib.suppress(OSError):  # On a full disk, what follows still has to be read.
            log.write(line)
            log.flush()
        line = line.strip()
        if line.startswith(("Downloading", "Installing collected", "Using cached torch")):
            say("  " + (line if len(line) < 78 else line[:74] + " ..."))
        if line:
            yield line


def make_environment() -> list[str]:
    """Make .venv and return the command that installs into it.

    Raises Failed where none of the ways to get pip works.
    """
    ENVIRONMENT.mkdir(exist_ok=True)
    UNFINISHED.touch()
    tried: list[str] = []
    if uv := shutil.which("uv"):
        try:
            if not PYTHON.exists():
                run([uv, "venv", "--allow-existing", "--python", sys.executable, str(ENVIRONMENT)])
            return [uv, "pip", "install", "--python", str(PYTHON)]
        except (Failed, OSError) as error:
            tried.append(f"uv: {error}")
    if not PYTHON.exists():
        try:
            run([sys.executable, "-m", "venv", "--without-pip", str(ENVIRONMENT)])
        except (Failed, OSError) as error:
            raise Failed(f"Python makes no environment: {error}") from error
    inside = [str(PYTHON), "-m", "pip"]
    ways = {
        "ensurepip": [str(PYTHON), "-m", "ensurepip", "--upgrade", "--default-pip"],
        "the pip of this Python": [sys.executable, "-m", "pip", "--python", str(PYTHON)],
        "get-pip.py": [str(PYTHON), str(ENVIRONMENT / "get-pip.py")],
    }
    for way, command in ways.items():
        try:
            if _works([*inside, "--version"]):
                break
            if way == "get-pip.py":
                with urllib.request.urlopen(GET_PIP, timeout=5 * PATIENCE) as answer:
                    Path(command[1]).write_bytes(answer.read())
            run([*command, "install", "pip"] if way.startswith("the pip") else command)
        except (Failed, OSError, ValueError) as error:
            tried.append(f"{way}: {error}")
    if not _works([*inside, "--version"]):
        raise Failed("there is no pip for the environment (" + "; ".join(tried) + ")")
    return [*inside, "install", "--no-input", "--progress-bar", "off"]


def _works(command: Sequence[str]) -> bool:
    try:
        return not subprocess.run(command, capture_output=True, env=environment()).returncode
    except OSError:
        return False


def wanted(extras: str) -> str:
    """What the stamp says once ``extras`` are installed: this project, in this place."""
    mark = hashlib.sha256((ROOT / "pyproject.toml").read_bytes())
    mark.update(os.fsencode(ROOT))
    return f"{mark.hexdigest()} {extras}"


def stated() -> tuple[str, str]:
    """What the stamp says: the mark of the project, and the extras; empty without a stamp."""
    try:
        mark, _, extras = STAMP.read_text(encoding="utf-8").partition(" ")
    except (OSError, ValueError):
        return "", ""
    return mark, extras


def with_what_is_there(extras: str) -> str:
    """``extras`` and those that are installed, so that commands which want different ones can take
    turns."""
    return ",".join(dict.fromkeys(filter(None, f"{stated()[1]},{extras}".split(","))))


def is_installed(extras: str) -> bool:
    """Whether a finished set-up has ``extras``, or more."""
    mark, there = stated()
    enough = set(extras.split(",")) <= set(there.split(","))
    return enough and wanted(there) == f"{mark} {there}" and PYTHON.exists()


def install(extras: str = "standalone,test") -> None:
    """Create the environment unless it was already made from this pyproject.toml; extras that are
    installed stay, in the version that this file wants.

    Raises Failed, or OSError where nothing can be written.
    """
    if is_installed(extras):
        return
    with locked():
        if is_installed(extras):  # By another run, while this one waited.
            return
        if not has_another_index() and (why := unreachable(INDEX)):
            raise Failed(f"{INDEX.split('/')[2]} cannot be reached ({why})")
        there = os.path.lexists(ENVIRONMENT)
        if there and (UNFINISHED.exists() or not _works([str(PYTHON), "-c", ""])):
            ours = any(file.exists() for file in (UNFINISHED, STAMP, ENVIRONMENT / "pyvenv.cfg"))
            if not ENVIRONMENT.is_dir() or (not ours and any(ENVIRONMENT.iterdir())):
                raise Failed(f"{ENVIRONMENT} is there and no environment of Python; move it away")
            say("The last set-up was interrupted, or its Python is gone; beginning again.")
            empty()
        extras = with_what_is_there(extras)
        say("Setting up .venv, once; this takes a few minutes ...")
        LOG.write_text("", encoding="utf-8")
        STAMP.unlink(missing_ok=True)
        pip = make_environment()
        if wants_cpu_build():
            # The index of CPU builds offers 2.13.0+cpu, which pip prefers to plain 2.13.0.
            if answers(f"{CPU_INDEX}/torch/"):
                try:
                    run([*pip, *TORCH_CPU])
                except Failed:
                    say("  PyTorch's CPU build does not fit here; taking the usual one.")
            else:
                say("  PyTorch's index of CPU builds cannot be reached; taking the usual build.")
        run([*pip, "--editable", f"{ROOT}[{extras}]"])
        # In this order: killed in between, it finds all that is wanted, and says so.
        UNFINISHED.unlink(missing_ok=True)
        STAMP.write_text(wanted(extras), encoding="utf-8")


def empty() -> None:
    """Remove all that is in the environment but ``UNFINISHED``: killed meanwhile, the next run
    still knows that the rest is its own.

    Raises Failed if something stays, as it does on Windows while a program has it open.
    """
    until = time.monotonic() + REMOVING
    while True:
        try:
            UNFINISHED.touch()
            for each in list(ENVIRONMENT.iterdir()):
                if each.is_dir() and not each.is_symlink():
                    shutil.rmtree(each)
                elif each != UNFINISHED:
                    each.unlink(missing_ok=True)
            return
        except OSError as error:
            if time.monotonic() > until:
                raise Failed(
                    f"{error.filename or ENVIRONMENT} cannot be removed"
                    f" ({error.strerror or error}): end the programs that use it"
                ) from error
            time.sleep(0.2)


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Let one set-up run at a time; the system releases the lock of one that was killed, once what
    it left running has ended.
    """
    with LOCK.open("a+") as stream:
        if not _took(stream):
            say("Another set-up is at work here; waiting until it has ended ...")
            while not _took(stream):
                time.sleep(0.2)
        HELD.append(stream.fileno())
        try:
            yield
        finally:
            HELD.pop()


def _took(stream: TextIO) -> bool:
    """Whether the lock of ``stream`` is ours now; a file system without locks lets everyone in."""
    try:
        if WINDOWS:
            import msvcrt

            stream.seek(0)
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore
        else:
            import fcntl

            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
    return True


ADVICE = """What helps:
- behind a proxy, set HTTPS_PROXY; with a mirror of PyPI, set PIP_INDEX_URL (with uv, UV_INDEX_URL)
- on Debian and Ubuntu: sudo apt install python3-venv; anywhere else uv: docs.astral.sh/uv
- to begin from nothing, delete {environment} and run this again"""
ADVICE_ON_WINDOWS = """
- where paths are too long, clone into a short folder, such as C:\\flowdps, or let Windows take long
  ones: learn.microsoft.com/windows/win32/fileio/maximum-file-path-limitation"""


def main() -> int:
    if sys.version_info < (3, 10):  # noqa: UP036 - this file runs on whatever Python is there
        print(f"Python {platform.python_version()} is too old; 3.10 or newer is needed.")
        return 2
    if not (ROOT / "pyproject.toml").exists():
        print("standalone.py sets up a clone of the repository; where pip installed it: flowdps")
        return 2
    verb = "".join(sys.argv[1:2])
    try:
        more = ",test" if verb in CHECKS else ",video" if verb == "film" else ""
        install(f"standalone{more}")
    except (Failed, OSError) as error:
        say(f"The set-up failed: {error}")
        if LOG.exists():
            say(f"What it did is in {LOG}.")
        say(ADVICE.format(environment=ENVIRONMENT) + (ADVICE_ON_WINDOWS if WINDOWS else ""))
        return 1
    except KeyboardInterrupt:
        say("Stopped; the next run begins the set-up again.")
        return 130
    if verb in CHECKS:
        path = os.pathsep.join([str(SCRIPTS), os.environ.get("PATH", "")])
        threads = str(max(1, (os.cpu_count() or 1) // WORKERS))
        surroundings = {"OMP_NUM_THREADS": threads, **os.environ, "PATH": path}
        for check in CHECKS[verb]:
            print("$", *check, flush=True)
            more = [*SHARED, *sys.argv[2:]] if check[0] == "pytest" else []
            command = [str(PYTHON), "-m", *check, *more]
            code = subprocess.run(command, cwd=ROOT, env=surroundings).returncode
            if code:
                return code
        return hosts(sys.argv[2:]) if verb == "test" else 0
    try:
        return subprocess.run([str(PYTHON), "-c", RUN, *sys.argv[1:]]).returncode
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
