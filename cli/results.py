"""The folder of results: their names, what they carry, and the log.

Every picture carries what made it, in a text of its PNG file. A picture may be replaced only by a
result of the same photo, and only while its pixels are those that were written; whatever else lies
in the folder keeps its name, and the result gets another one.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import threading
import unicodedata
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from PIL import Image
from torch import Tensor

from ..restoration import images
from .folders import FOREIGN, Photo, Remote, Store, place_of, same_file, store_at

KEY = "flowdps"
"""Name of the text in a PNG file: JSON with what made the picture."""
PARTS = ("measurement", "restored", "sheet")
LOG = "results.jsonl"
REMEMBERED = 1024
"""Number of pictures whose marks are kept in memory."""


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


def source_of(file: Photo) -> str:
    """What tells the photo in ``file`` from all others: a digest of its place."""
    return digest(os.fsencode(place_of(file)))


def _digest_of_pixels(picture: Image.Image) -> str:
    return digest(f"{picture.mode} {picture.size}".encode(), picture.tobytes())


def marked(
    picture: Image.Image | Tensor, part: str, run: str, source: str, made: Mapping[str, Any]
) -> bytes:
    """The PNG file of a result: ``part`` of the run ``run`` of the photo ``source``, and ``made``,
    what else it carries."""
    picture = picture if isinstance(picture, Image.Image) else images.to_pil(picture)
    mark = {"part": part, "run": run, "source": source, **made}
    mark["pixels"] = _digest_of_pixels(picture)
    return images.as_png(picture, {KEY: json.dumps(mark)})


def mark_of(file: Path | IO[bytes]) -> dict[str, Any] | None:
    """What made a result; None for any other file, and for a result whose pixels were changed
    since.
    """
    try:
        with Image.open(file, formats=["PNG"]) as picture:
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

    name: str
    parts: tuple[str, ...]

    @property
    def files(self) -> dict[str, str]:
        """The name of the file of every part."""
        return {part: f"{self.name}_{part}.png" for part in self.parts}


class Log:
    """``results.jsonl``: one line per finished photo; existing lines are never changed."""

    def __init__(self, store: Store):
        self._store = store
        self.finished: set[str] = set()
        if not store.exists(LOG):
            return
        with store.open(LOG) as stream:
            for line in stream:
                try:
                    self.finished.add(json.loads(line)["run"])
                except (ValueError, KeyError, TypeError):
                    continue  # An incomplete line, after a crash: that photo is restored again.

    def add(self, record: Mapping[str, Any]) -> None:
        """Append one record, or leave the file as it was and raise OSError."""
        # In JSON, a backslash escape is how a character that is no valid UTF-8 is written.
        line = json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        self._store.append(LOG, line)
        self.finished.add(record["run"])


class Results:
    """The results in one folder, for any number of photos: what is kept in memory of one is its id
    and the start of its name. Raises OSError where nothing can be written.
    """

    def __init__(self, folder: Photo, samples: int = 1):
        self.folder, self.parts = folder, parts_of(samples)
        self.store = store_at(folder)
        self.store.check(LOG)
        self._marks: OrderedDict[tuple[Any, ...], dict[str, Any] | None] = OrderedDict()
        self._guard = threading.Lock()
        self._removed: set[str] = set()
        with self.store.locked():
            self.store.clean()
            self.everywhere = not self.store.takes_any_name()
        self.log = Log(self.store)

    def mark(self, name: str) -> dict[str, Any] | None:
        """``mark_of`` a file, read again only when it has changed. Threads may ask at once."""
        state = self.store.state(name)
        if state is None:
            return None
        key = name, *state
        with self._guard:
            if key in self._marks:
                return self._marks[key]
        try:
            with self.store.open(name) as stream:
                found = mark_of(stream)
        except OSError:
            found = None
        with self._guard:
            self._marks[key] = found
            while len(self._marks) > REMEMBERED:
                self._marks.popitem(last=False)
        return found

    def is_result(self, file: Photo) -> bool:
        """Whether ``file`` is a result in this folder, or was until this run removed it."""
        if isinstance(file, Remote) or isinstance(self.folder, Remote):
            here = str(file) == str(self.folder / file.name)
        else:
            here = same_file(self.folder, file.parent)
        return here and (file.name in self._removed or self.mark(file.name) is not None)

    def look_up(self, file: Photo) -> None:
        """Read the marks that will be asked for: a thread may do so ahead."""
        self.is_result(file)
        for name in next(self._names(file)).files.values():
            self.mark(name)

    def place_for(self, file: Photo, taken: set[str]) -> Place:
        """The place of the next photo of a run, named by its stem; the next name if another photo's
        results, or a file that is no result, has that one. The order of the photos decides, not
        that of writing.

        taken: the names that the photos before have, to which this one's is added.
        """
        place = next(p for p in self._places(file) if _key(p) not in taken)
        taken.add(_key(place))
        return place

    def _names(self, file: Photo) -> Iterator[Place]:
        """The places that the photo in ``file`` might have, the first ones first."""
        longest = max(map(len, self.parts)) + len("_.png")
        room = max(16, self.store.longest_name() - longest)
        stem = _written(file.stem, everywhere=self.everywhere)
        suffix = _cut(_written(file.suffix[1:] or "file", everywhere=self.everywhere), 16)
        for k in itertools.count(1):
            end = ("", f"_{suffix}")[k - 1] if k < 3 else f"_{suffix}_{k - 1}"
            yield Place(_cut(stem, room - len(end.encode())) + end, self.parts)

    def _places(self, file: Photo) -> Iterator[Place]:
        """Those that it may have."""
        source = source_of(file)
        return (place for place in self._names(file) if self._may_write(place, source))

    def _may_write(self, place: Place, source: str) -> bool:
        """Whether every file of ``place`` is missing or a result of the photo ``source``."""
        for name in place.files.values():
            if self.store.exists(name):
                mark = self.mark(name)
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
        file: Photo,
        place: Place,
        run: str,
        pictures: Mapping[str, bytes],
        record: Mapping[str, Any],
    ) -> Place:
        """Write the ``pictures`` of the photo in ``file``, PNG files by part, and then the line of
        the log that says that they are finished. Returns where they are: if ``place`` was taken
        meanwhile, the next.
        """
        source = source_of(file)
        with self.store.locked():
            if not self._may_write(place, source):
                place = next(self._places(file))
            for part, name in place.files.items():
                self.store.write(name, pictures[part])
            self._remove_rest(place, source)
            written = {f"{part}_file": name for part, name in place.files.items()}
            self.log.add({**record, **written, "run": run})
        return place

    def _remove_rest(self, place: Place, source: str) -> None:
        """Remove what an earlier run left of this photo that the last one does not make: samples
        beside a restoration that they do not belong to.
        """
        for k in itertools.count():
            name = f"{place.name}_{f'sample{k}' if k else 'spread'}.png"
            if name in place.files.values():
                continue
            mark = self.mark(name)
            if mark is not None and mark.get("source") == source:
                self.store.remove(name)
                self._removed.add(name)
            elif k:
                return


def _key(place: Place) -> str:
    """The same for names that some file systems do not tell apart."""
    return unicodedata.normalize("NFC", place.name).casefold()
