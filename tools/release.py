"""Build a release: ``pypi`` with wheel and source archive, ``registry`` with Comfy's archive.

``python tools/release.py [--tag v1.2.3] [--out dist] [--check]``. Nothing is built while something
is missing, such as the public address; ``--check`` only says what. Needs ``pip install build``.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLACEHOLDER = "TO-BE-DECIDED"
"""Stands in pyproject.toml for the public address and the publisher."""


def git(*arguments: str) -> list[str]:
    """Lines of what git says about the repository."""
    run = subprocess.run(
        ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True
    )
    return run.stdout.splitlines()


def stated_version(project: str) -> str:
    """The version of a pyproject.toml."""
    return re.findall(r'^version = "(.+)"$', project, re.M)[0]


def hindrances(project: str, changes: str, tag: str | None, uncommitted: list[str]) -> list[str]:
    """Why there can be no release; ``project`` and ``changes`` are the files' texts."""
    version, found = stated_version(project), []
    # Where the word is only spoken about, it is in a comment.
    if any(PLACEHOLDER in line for line in project.splitlines() if not line.startswith("#")):
        found.append(
            f"pyproject.toml has {PLACEHOLDER} where the public address and the publisher belong"
        )
    if tag is not None and tag != f"v{version}":
        found.append(f"the tag is {tag}, the version in pyproject.toml is {version}")
    if not re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", changes, re.M):
        found.append(f"CHANGELOG.md has no line '## [{version}] - YEAR-MONTH-DAY'")
    if uncommitted:
        found.append(f"there are uncommitted changes: {', '.join(uncommitted)}")
    return found


def archived() -> list[str]:
    """Files of the registry's archive: what git tracks and ``.comfyignore`` does not name."""
    ignored = git("ls-files", "--cached", "--ignored", f"--exclude-from={ROOT / '.comfyignore'}")
    return sorted(set(git("ls-files")) - set(ignored))


def write_archive(file: Path) -> None:
    """Write the registry's archive as its own tool would."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in archived():
            archive.write(ROOT / name, name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tag", help="the tag that is released, to compare with the version")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--check", action="store_true", help="build nothing")
    args = parser.parse_args()
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    found = hindrances(project, changes, args.tag, git("status", "--porcelain"))
    for each in found:
        print(f"no release: {each}", file=sys.stderr)
    if found:
        return 1
    if not args.check:
        pypi, registry = args.out / "pypi", args.out / "registry"
        registry.mkdir(parents=True, exist_ok=True)
        write_archive(registry / f"ComfyUI-FlowDPS-{stated_version(project)}.zip")
        build = [sys.executable, "-m", "build", "--outdir", str(pypi), str(ROOT)]
        subprocess.run(build, check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
