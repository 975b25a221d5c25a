"""Which versions of Python and of packages the project works with: ``python tools/matrix.py``.

Makes a virtual environment for every row of ``ROWS``, runs a part of the tests in it, and prints a
table. A row that cannot be made here, as the Python or the packages are not to be had, says so.
``--base PYTHON`` makes no environments: it lays a row's packages over those of another one, which
takes seconds and needs no download of PyTorch; rows of another Python are then left out.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROWS = (
    ("3.10", "torch==2.3.1 numpy==1.26.4 Pillow==9.5.0 transformers==4.46.3 diffusers==0.32.2"),
    ("3.10", "torch==2.4.1 numpy==1.26.4 Pillow==10.4.0 transformers==4.46.3 diffusers==0.32.2"),
    ("3.11", "numpy==1.26.4"),
    ("3.11", "numpy==2.0.2 Pillow==11.3.0"),
    ("3.11", "numpy==2.4.6 Pillow==12.3.0"),
    ("3.11", "transformers==4.57.6"),
    ("3.12", "torch==2.6.0"),
    ("3.12", "torch==2.9.1 transformers==4.57.6 diffusers==0.35.2"),
    ("3.13", ""),
    ("3.14", ""),
)
"""Python, and the packages that are of a certain version; all others are the newest."""
TESTS = [
    "tests/test_versions.py",
    "tests/restoration/test_images.py",
    "tests/restoration/test_colour.py",
    "tests/operators/test_registry.py",
    "tests/priors/test_demo_prior.py",
]
REPORT = """
import importlib.metadata as m, platform
names = ("torch", "numpy", "Pillow", "transformers", "diffusers")
print(platform.python_version(), *(f"{n} {m.version(n)}" for n in names), sep=", ")
"""


def last(run: subprocess.CompletedProcess[str]) -> str:
    """The line that says what went wrong, or how many tests passed."""
    lines = [line.strip() for line in (run.stdout + "\n" + run.stderr).splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    counts = [line for line in lines if re.search(r"\d+ (passed|failed|errors?)\b.* in ", line)]
    return (counts or errors or lines or ["no message"])[-1].strip("= ")


def over(base: str, packages: list[str], folder: Path) -> tuple[list[str], dict[str, str]] | str:
    """The interpreter ``base`` and what lets it find ``packages`` first; or why that is not had."""
    if packages:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
        run = subprocess.run([*pip, str(folder), *packages], capture_output=True, text=True)
        if run.returncode:
            return last(run)
    paths = [str(folder), os.environ.get("PYTHONPATH", "")]
    return [base], {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def anew(python: str, packages: list[str], folder: Path) -> tuple[list[str], dict[str, str]] | str:
    """The interpreter of an environment made in ``folder``; or why it cannot be made."""
    uv = shutil.which("uv")
    found = shutil.which(f"python{python}") or shutil.which(f"python3.{python.split('.')[1]}")
    if uv:
        steps = [[uv, "venv", "--python", python, str(folder)]]
    elif found:
        steps = [[found, "-m", "venv", str(folder)]]
    else:
        return f"there is no Python {python}"
    inside = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = (
        [uv, "pip", "install", "--python", str(inside)]
        if uv
        else [str(inside), "-m", "pip", "install"]
    )
    steps.append([*pip, "-e", f"{ROOT}[standalone,test]", *packages])
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    for step in steps:
        run = subprocess.run(step, capture_output=True, text=True, env=kept)
        if run.returncode:
            return last(run)
    return [str(inside)], kept


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", metavar="PYTHON", help="lay packages over those of this Python")
    parser.add_argument("--only", metavar="WORD", default="", help="rows that contain this alone")
    parser.add_argument("tests", nargs="*", default=TESTS)
    args = parser.parse_args()
    print("| Python | asked for | had | result |\n|---|---|---|---|", flush=True)
    code = 0
    for python, wanted in ROWS:
        if args.only not in f"{python} {wanted}":
            continue
        here = ".".join(platform.python_version_tuple()[:2])
        if args.base and python != here:
            print(f"| {python} | {wanted} | | not run: the base is Python {here} |", flush=True)
            continue
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "packages"
            packages = wanted.split()
            made = (
                over(args.base, packages, folder) if args.base else anew(python, packages, folder)
            )
            if isinstance(made, str):
                print(f"| {python} | {wanted} | | not run: {made} |", flush=True)
                continue
            interpreter, environment = made
            had = subprocess.run(
                [*interpreter, "-c", REPORT], capture_output=True, text=True, env=environment
            )
            run = subprocess.run(
                [*interpreter, "-m", "pytest", "-q", "-p", "no:cacheprovider", *args.tests],
                cwd=ROOT,
                capture_output=True,
                text=True,
                env=environment,
            )
            code |= run.returncode != 0
            print(f"| {python} | {wanted} | {last(had)} | {last(run)} |", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
