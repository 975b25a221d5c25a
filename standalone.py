"""Run FlowDPS on a bare Python 3.10+: makes .venv beside this file once, then runs the command.

python3 standalone.py restore photo.png --out restored
python3 standalone.py bench
python3 standalone.py test [ARGUMENTS OF PYTEST]

``test`` is ``lint`` (ruff and pyright) and then ``pytest``; each of the two can be run alone.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".venv"
SCRIPTS = ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin")
PYTHON = SCRIPTS / ("python.exe" if os.name == "nt" else "python")
STAMP = ENVIRONMENT / "flowdps-installed"
TORCH_CPU = ["torch==2.13.0", "--extra-index-url", "https://download.pytorch.org/whl/cpu"]
LINT = (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["pyright"])
TESTS = (["pytest"],)
CHECKS = {"test": LINT + TESTS, "lint": LINT, "pytest": TESTS}
"""What the verbs for developers run; all other verbs are those of the command ``flowdps``."""


def wants_cpu_build() -> bool:
    """Whether this machine shows no NVIDIA driver; on a Mac the default build is the right one."""
    return platform.system() != "Darwin" and shutil.which("nvidia-smi") is None


def install() -> None:
    """Create the environment unless it was already made from this pyproject.toml."""
    mark = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    if STAMP.exists() and STAMP.read_text() == mark:
        return
    print("Setting up .venv, once; this takes a few minutes ...", file=sys.stderr, flush=True)
    if not PYTHON.exists():
        venv.create(ENVIRONMENT, with_pip=True)
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet"]
    if wants_cpu_build():
        # The index of CPU builds offers 2.13.0+cpu, which pip prefers to plain 2.13.0.
        subprocess.run([*pip, *TORCH_CPU], check=True)
    subprocess.run([*pip, "--editable", f"{ROOT}[standalone,test]"], check=True)
    STAMP.write_text(mark)


def main() -> int:
    if sys.version_info < (3, 10):  # noqa: UP036 - this file runs on whatever Python is there
        print(f"Python {platform.python_version()} is too old; 3.10 or newer is needed.")
        return 2
    if not (ROOT / "pyproject.toml").exists():
        print("standalone.py sets up a clone of the repository; where pip installed it: flowdps")
        return 2
    try:
        install()
    except subprocess.CalledProcessError as error:
        print(f"The set-up failed (exit code {error.returncode}); see above.", file=sys.stderr)
        return 1
    if (verb := "".join(sys.argv[1:2])) in CHECKS:
        path = os.pathsep.join([str(SCRIPTS), os.environ.get("PATH", "")])
        for check in CHECKS[verb]:
            print("$", *check, flush=True)
            command = [str(PYTHON), "-m", *check, *(sys.argv[2:] if check[0] == "pytest" else [])]
            code = subprocess.run(command, cwd=ROOT, env={**os.environ, "PATH": path}).returncode
            if code:
                return code
        return 0
    return subprocess.run([str(PYTHON), "-m", "comfyui_flowdps.cli", *sys.argv[1:]]).returncode


if __name__ == "__main__":
    sys.exit(main())
