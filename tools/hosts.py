"""The tested versions of ComfyUI, in a cache of their own: ``python tools/hosts.py [ARGUMENTS]``.

Brings every version and makes its environment, once, then runs pytest in each: ``tests/host``, or
what its ARGUMENTS say. A ComfyUI of the user's is never touched. Where the network does not allow
it, one line says so, and that is no failure. ``FLOWDPS_HOSTS`` is the folder of the cache,
``FLOWDPS_HOSTS_FROM`` another repository to bring ComfyUI from, and ``FLOWDPS_HOSTS=none`` leaves
all of this out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import standalone  # noqa: E402

HOSTS = {
    "0.3.64": "a125cd84b054a57729b5eecab930ca9408719832",
    "0.33.0": "783545f689a0af730065994b46b382ae24844c99",
}
"""The commits of the versions, as the tag of a version may be set anew."""
SOURCE = "https://github.com/comfyanonymous/ComfyUI"
TORCH = ["torch==2.9.1", "torchvision==0.24.1", "torchaudio==2.9.1"]
STAMP = "flowdps-host-ready"
"""In a version's folder, once all of it is there; without it, the folder is made anew."""


def cache() -> Path:
    """The folder in which the versions lie."""
    if named := os.environ.get("FLOWDPS_HOSTS"):
        return Path(named).expanduser()
    if os.name == "nt":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "flowdps" / "hosts"


def bring(folder: Path, commit: str, source: str) -> None:
    """The files of ``commit`` in ``folder``, without the history."""
    folder.mkdir(parents=True)
    for words in (
        ["init", "--quiet"],
        ["fetch", "--quiet", "--depth", "1", source, commit],
        ["checkout", "--quiet", "--detach", "FETCH_HEAD"],
    ):
        standalone.run(["git", "-C", str(folder), *words])


def equip(folder: Path) -> None:
    """The environment ``.venv`` in ``folder``, with what its ComfyUI requires."""
    standalone.aim(folder)
    pip = standalone.make_environment()
    index: list[str] = []
    if standalone.wants_cpu_build() and standalone.answers(f"{standalone.CPU_INDEX}/torch/"):
        index = ["--extra-index-url", standalone.CPU_INDEX]
    standalone.run([*pip, *TORCH, *index])
    # requests: 0.3.64 imports it without requiring it.
    standalone.run([*pip, "-r", str(folder / "requirements.txt"), "requests"])
    standalone.UNFINISHED.unlink(missing_ok=True)


def ready(version: str) -> Path:
    """The folder of ``version``, made if it is not there. Raises Failed or OSError."""
    folder = cache() / f"ComfyUI-{version}"
    if (folder / STAMP).is_file():
        return folder
    source = os.environ.get("FLOWDPS_HOSTS_FROM", SOURCE)
    if shutil.which("git") is None:
        raise standalone.Failed("there is no git")
    if source.startswith("http") and not standalone.answers(source):
        raise standalone.Failed(f"{source} cannot be reached")
    cache().mkdir(parents=True, exist_ok=True)
    standalone.aim(cache())
    with standalone.locked():
        if (folder / STAMP).is_file():  # By another run, while this one waited.
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        standalone.say(f"Bringing ComfyUI {version} into {cache()}, once; this takes minutes ...")
        bring(folder, HOSTS[version], source)
        equip(folder)
        (folder / STAMP).touch()
    return folder


def main() -> int:
    if os.environ.get("FLOWDPS_HOSTS") == "none":
        return 0
    code = 0
    python, scripts = str(standalone.PYTHON), str(standalone.SCRIPTS)
    if not Path(python).exists():
        python = sys.executable
    for version in HOSTS:
        try:
            folder = ready(version)
        except (standalone.Failed, OSError) as error:
            print(f"Inside ComfyUI {version}: not tested; {error}", flush=True)
            if "cannot be reached" in str(error) or "no git" in str(error):
                break  # Nor can the others.
            continue
        inside = folder / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        more = {"COMFYUI_PATH": str(folder), "COMFYUI_PYTHON": str(inside)}
        more["PATH"] = os.pathsep.join([scripts, os.environ.get("PATH", "")])
        arguments = sys.argv[1:] or ["tests/host"]
        print(f"$ pytest {' '.join(arguments)}, inside ComfyUI {version}", flush=True)
        command = [python, "-m", "pytest", "-q", *arguments]
        code = subprocess.run(command, cwd=ROOT, env={**os.environ, **more}).returncode or code
    return code


if __name__ == "__main__":
    sys.exit(main())
