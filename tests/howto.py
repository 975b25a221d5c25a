"""Follows a page that says how to add something: in a copy of the package, step by step."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STEP = re.compile(
    r"(?:Create|[Ii]n) `(?P<file>[^`]+)`(?:, (?P<side>above|below) `(?P<line>[^`]+)`)?:\n\n"
    r"(?P<indent> *)```\w+\n(?P<block>.*?)\n(?P=indent)```$",
    re.M | re.S,
)
"""``Create `FILE`:`` or ``In `FILE`, above `LINE`:`` (or below), and a block of code."""
LEFT_OUT = shutil.ignore_patterns(
    ".*", "__pycache__", "images", "pictures", "training", "runs", "*.egg-info", "workflows"
)


def copied(folder: Path) -> Path:
    """A copy of the package in ``folder``, where it can be imported from; pictures are linked."""
    copy = folder / "comfyui_flowdps"
    shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
    for name in ("pictures", "benchmarks/pictures", "docs/images", "training", "workflows"):
        (copy / name).symlink_to(ROOT / name, target_is_directory=True)
    return copy


def follow(page: str, title: str, copy: Path) -> list[Path]:
    """Do in ``copy`` what the section ``title`` of a page says; the files that it touched."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    assert found, f"{page} has no section {title!r}"
    touched = []
    for step in STEP.finditer(found[1]):
        file, block = copy / step["file"], textwrap.dedent(step["block"]) + "\n"
        if step["side"] is None:
            assert not file.exists(), f"{step['file']} is there already"
            file.write_text(block, encoding="utf-8")
        else:
            insert(file, step["side"], step["line"], block)
        touched.append(file)
    assert touched, f"{title!r} of {page} has no steps"
    return touched


def insert(file: Path, side: str, anchor: str, block: str) -> None:
    """Put ``block`` above or below the one line that is ``anchor``, indented like what follows."""
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    places = [k for k, line in enumerate(lines) if line.strip() == anchor]
    assert len(places) == 1, f"{file.name} has the line {anchor!r} {len(places)} times"
    place = places[0] + (side == "below")
    if block.startswith(("class ", "def ", "@")):
        block += "\n\n"
    indent = re.match(" *", lines[place])
    lines.insert(place, textwrap.indent(block, indent[0] if indent else ""))
    file.write_text("".join(lines), encoding="utf-8")


def run(copy: Path, *arguments: str) -> str:
    """What Python prints with ``arguments``, with the copy as the package; asserts that it ends
    well.
    """
    told = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy.parent)},
    )
    assert told.returncode == 0, told.stdout[-3000:] + told.stderr[-3000:]
    return told.stdout
