"""The folder of results: their names, what they carry, and the log.

Every picture carries what made it, in a text of its PNG file. A picture may be replaced only by a
result of the same photo, and only while its pixels are those that were written; whatever else lies
in the folder keeps its name, and the result gets another one. All writing happens under a lock that
the operating system releases when a run is killed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from PIL import Image
from torch import Tensor

from ..restoration import images

KEY = "flowdps"
"""Name of the text in a PNG file: JSON with what made the picture."""
PARTS = ("measurement", "restored", "sheet")
LOCK = ".flowdps.lock"
LOG = "results.jsonl"
PATIENCE = 60.0
"""Seconds to wait for another run that is writing."""
WINDOWS = os.name == "nt"
LONGEST_PATH = 259
"""Characters of a whole path on Windows, unless it was told to take longer ones."""
FOREIGN = frozenset('<>:"/\\|?*') | frozenset(map(chr, range(32)))
"""Characters that Windows, and the file systems of memory cards, take in no name."""


def parts_of(samples: int = 1) -> tuple[str, ...]:
    """What is written for every photo."""
    more = ("spread", *(f"sample{k}" for k in range(1, samples + 1))) if samples > 1 else ()
    return (*PARTS, *more)


def digest(*parts: bytes) -> str:
    """Sixteen hexadecimal digits of the SHA-256 of ``parts``."""
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def shown(name: str | Path) -> str:
    """A name in one printable line: what cannot be printed is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(name))


def source_of(file: Path) -> str:
    """What tells the photo in ``file`` from all others: a digest of its place."""
    return digest(os.fsencode(os.path.abspath(os.path.realpath(file))))


def _digest_of_pixels(picture: Image.Image) -> str:
    return digest(f"{picture.mode} {picture.size}".encode(), picture.tobytes())


def mark_of(path: Path) -> dict[str, Any] | None:
    """What made the result at ``path``; None for any other file, and for a result whose pixels were
    changed since.
    """
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            mark = json.loads(picture.info[KEY])
            return mark if mark["pixels"] == _digest_of_pixels(picture) else None
    except Exception:  # Whatever it is, it is not a result.
        return None


def _written(name: str, *, everywhere: bool = False) -> str:
    """``name`` in UTF-8, whatever bytes it has; ``everywhere``: as all file systems take it."""
    found = []
    for c in name:
        if "\ud800" <= c <= "\udfff":
            found.append(f"%{ord(c) - (0xDC00 if c >= chr(0xDC00) else 0):02X}")
        else:
            found.append(f"%{ord(c):02X}" if everywhere and c in FOREIGN else c)
    return "".join(found)


def _cut(name: str, length: int) -> str:
    """``name`` in at most ``length`` bytes; a digest of the whole replaces what is cut off."""
    whole = name.encode()
    if len(whole) <= length:
        return name
    end = f"~{digest(whole)[:8]}"
    return whole[: max(1, length - len(end))].decode(errors="ignore") + end


@dataclass(frozen=True)
class Place:
    """Where the results of one photo go: ``name`` is the start of all file names."""

    folder: Path
    name: str
    parts: tuple[str, ...]

    @property
    def files(self) -> dict[str, Path]:
        """The file of every part."""
        return {part: self.folder / f"{self.name}_{part}.png" for part in self.parts}


class Log:
    """``results.jsonl``: one line per finished photo; existing lines are never changed."""

    def __init__(self, folder: Path):
        self.path = folder / LOG
        self.finished: set[str] = set()
        if self.path.exists():
            # Not splitlines: a line separator of Unicode inside a name ends no record.
            for line in self.path.read_text(encoding="utf-8", errors="replace").split("\n"):
                try:
                    self.finished.add(json.loads(line)["run"])
                except (ValueError, KeyError, TypeError):
                    continue  # An incomplete line, after a crash: that photo is restored again.

    def add(self, record: dict[str, Any]) -> None:
        """Append one record, or leave the file as it was and raise OSError."""
        # In JSON, a backslash escape is how a character that is no valid UTF-8 is written.
        line = json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        with self.path.open("ab+", buffering=0) as stream:
            before = stream.seek(0, os.SEEK_END)
            if before:
                stream.seek(before - 1)
                line = line if stream.read(1) == b"\n" else b"\n" + line
            try:
                while line:
                    line = line[stream.write(line) or 0 :]
            except OSError:
                with contextlib.suppress(OSError):
                    stream.truncate(before)
                raise
        self.finished.add(record["run"])


class Results:
    """The results in one folder. Raises OSError where nothing can be written."""

    def __init__(self, folder: Path, samples: int = 1):
        self.folder, self.parts = folder, parts_of(samples)
        self._lock = FileLock(folder / LOCK, timeout=PATIENCE)
        for name in (LOCK, LOG):
            if (folder / name).is_symlink():
                raise OSError(f"{name} in it is a link to another file; remove it")
        self._marks: dict[tuple[str, int, int, int], dict[str, Any] | None] = {}
        with self._locked():
            # Nobody writes: what is half written was left by a run that was killed.
            for file in folder.glob(".flowdps-*.part"):
                with contextlib.suppress(OSError):  # On Windows, of a scanner that reads it.
                    file.unlink(missing_ok=True)
            self.everywhere = not _takes_any_name(folder)
        self.log = Log(folder)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self._lock.acquire()
        except Timeout as error:
            raise OSError(f"another run is writing into {shown(self.folder)}; try again") from error
        except NotImplementedError:
            pass  # A file system without locks, where only one run at a time is safe.
        try:
            yield
        finally:
            self._lock.release()

    def mark(self, path: Path) -> dict[str, Any] | None:
        """``mark_of(path)``, read again only when the file has changed."""
        try:
            stat = path.stat()
        except OSError:
            return None
        key = path.name, stat.st_ino, stat.st_mtime_ns, stat.st_size
        if key not in self._marks:
            self._marks[key] = mark_of(path)
        return self._marks[key]

    def is_result(self, file: Path) -> bool:
        """Whether ``file`` is a result in this folder."""
        return same_file(self.folder, file.parent) and self.mark(file) is not None

    def plan(self, files: Sequence[Path]) -> list[Place]:
        """A place for every photo, named by its stem; the next name if another photo's results, or
        a file that is no result, has that one. The order of ``files`` decides, not that of writing.
        """
        taken: set[str] = set()
        places = []
        for file in files:
            place = next(p for p in self._places(file) if _key(p) not in taken)
            taken.add(_key(place))
            places.append(place)
        return places

    def _places(self, file: Path) -> Iterator[Place]:
        """The places that the photo in ``file`` may have, the first ones first."""
        longest = max(map(len, self.parts)) + len("_.png")
        room = max(16, _longest_name(self.folder) - longest)
        stem, source = _written(file.stem, everywhere=self.everywhere), source_of(file)
        suffix = _cut(_written(file.suffix[1:] or "file", everywhere=self.everywhere), 16)
        k = 0
        while True:
            k += 1
            end = ("", f"_{suffix}")[k - 1] if k < 3 else f"_{suffix}_{k - 1}"
            name = _cut(stem, room - len(end.encode())) + end
            place = Place(self.folder, name, self.parts)
            if self._may_write(place, source):
                yield place

    def _may_write(self, place: Place, source: str) -> bool:
        """Whether every file of ``place`` is missing or a result of the photo ``source``."""
        for path in place.files.values():
            if os.path.lexists(path):
                mark = self.mark(path)
                if mark is None or mark.get("source") != source:
                    return False
        return True

    def finished(self, place: Place, run: str) -> bool:
        """Whether ``run`` was logged and all pictures in ``place`` are its results."""
        if run not in self.log.finished:
            return False
        marks = map(self.mark, place.files.values())
        return all(mark is not None and mark.get("run") == run for mark in marks)

    def write(
        self,
        file: Path,
        place: Place,
        run: str,
        pictures: Mapping[str, Image.Image | Tensor],
        made: Mapping[str, Any],
        record: Mapping[str, Any],
    ) -> Place:
        """Write the ``pictures`` of the photo in ``file``, and then the line of the log that says
        that they are finished. Returns where they are: if ``place`` was taken meanwhile, the next.

        ``made`` goes into every picture; ``record`` into the log.
        """
        source = source_of(file)
        with self._locked():
            if not self._may_write(place, source):
                place = next(self._places(file))
            for part, path in place.files.items():
                picture = pictures[part]
                picture = picture if isinstance(picture, Image.Image) else images.to_pil(picture)
                mark = {"part": part, "run": run, "source": source, **made}
                mark["pixels"] = _digest_of_pixels(picture)
                images.save_png(picture, path, {KEY: json.dumps(mark)})
            self._remove_rest(place, source)
            written = {f"{part}_file": path.name for part, path in place.files.items()}
            self.log.add({**record, **written, "run": run})
        return place

    def _remove_rest(self, place: Place, source: str) -> None:
        """Remove what an earlier run left of this photo that the last one does not make: samples
        beside a restoration that they do not belong to.
        """
        for k in itertools.count():
            path = self.folder / f"{place.name}_{f'sample{k}' if k else 'spread'}.png"
            if path in place.files.values():
                continue
            mark = self.mark(path)
            if mark is not None and mark.get("source") == source:
                path.unlink(missing_ok=True)
            elif k:
                return


def _key(place: Place) -> str:
    """The same for names that some file systems do not tell apart."""
    return unicodedata.normalize("NFC", place.name).casefold()


def same_file(one: str | Path, other: str | Path) -> bool:
    """Whether two paths lead to one file or folder, however they write it: there are file systems
    in which names of another case are the same.
    """
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):  # One of them is not there.
        return os.path.realpath(one) == os.path.realpath(other)


def _takes_any_name(folder: Path) -> bool:
    """Whether files in ``folder`` may have names of all characters."""
    probe = folder / f".flowdps-{os.getpid()}-:?\x1f.part"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        return error.errno not in (errno.EINVAL, errno.EILSEQ)
    return not WINDOWS  # There, a colon makes a second stream of a file.


def _longest_name(folder: Path) -> int:
    """How many bytes a file name may have."""
    if WINDOWS:
        return max(64, min(255, LONGEST_PATH - len(os.path.abspath(folder)) - 1))
    try:
        return max(64, min(255, os.pathconf(folder, "PC_NAME_MAX")))
    except (AttributeError, OSError, ValueError):
        return 255
