"""Folders of photos and of results: on this machine, or at any address that fsspec knows.

An address is a path, or has a scheme, such as ``s3://bucket/photos``. ``file://`` is a path.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from filelock import FileLock, Timeout

from ..restoration import images

WINDOWS = os.name == "nt"
LONGEST_PATH = 259
"""Characters of a whole path on Windows, unless it was told to take longer ones."""
FOREIGN = frozenset('<>:"/\\|?*') | frozenset(map(chr, range(32)))
"""Characters that Windows, and the file systems of memory cards, take in no name."""
LOCK = ".flowdps.lock"
PATIENCE = 60.0
"""Seconds to wait for another run that is writing."""
OLD = 24 * 3600
"""Seconds after which nobody writes a file any more; clocks may be of another time zone."""


def is_remote(address: str) -> bool:
    """Whether fsspec is asked for ``address``."""
    return "://" in address and not address.startswith("file://")


def local(address: str) -> Path:
    """The path that ``address`` is."""
    return Path(unquote(urlsplit(address).path) if address.startswith("file://") else address)


@dataclass(frozen=True)
class Remote:
    """A file or folder at an address of fsspec: ``path`` in the file system ``fs``."""

    fs: Any
    path: str
    address: str

    @classmethod
    def at(cls, address: str) -> Remote:
        """ValueError, in one sentence, where fsspec or a package for the scheme is missing, or the
        address is none."""
        try:
            import fsspec
        except ImportError as error:
            raise ValueError(
                f'{address} needs the package fsspec: pip install "flowdps[remote]"'
            ) from error
        try:
            fs, path = fsspec.core.url_to_fs(address)
        except Exception as error:  # Whatever the file system says of its address.
            raise ValueError(f"{address} cannot be reached ({_first_line(error)})") from error
        return cls(fs, path.rstrip("/"), address.rstrip("/"))

    def __str__(self) -> str:
        return self.address

    def __truediv__(self, name: str) -> Remote:
        head, mark, rest = self.address.partition("::")
        return Remote(self.fs, f"{self.path}/{name}", f"{head}/{name}{mark}{rest}")

    @property
    def name(self) -> str:
        """The last part of the path."""
        return PurePosixPath(self.path).name

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return PurePosixPath(self.path).stem

    @property
    def suffix(self) -> str:
        """The suffix of the name."""
        return PurePosixPath(self.path).suffix

    def read(self) -> bytes:
        """All bytes; ValueError, in one sentence, where they cannot be had."""
        try:
            images.check_kind(PurePosixPath(self.address), self.fs.info(self.path)["size"] or 0)
            return self.fs.cat_file(self.path)
        except FileNotFoundError as error:
            raise ValueError(f"no such file: {self}") from error
        except ValueError:
            raise
        except Exception as error:  # Every file system has its own errors.
            raise ValueError(f"{self} cannot be read ({_first_line(error)})") from error

    def photos(self) -> list[Remote]:
        """The pictures in this folder, or this file."""
        if not self.fs.isdir(self.path):
            return [self]
        names = [
            PurePosixPath(each["name"]).name
            for each in self.fs.ls(self.path, detail=True)
            if each["type"] == "file"
        ]
        return [self / name for name in sorted(names) if images.is_picture(name)]


Photo = Path | Remote
"""The file of a photo."""


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0] or type(error).__name__


def folder_at(address: str) -> Photo:
    """The folder at an address."""
    return Remote.at(address) if is_remote(address) else local(address)


def same_file(one: str | Path, other: str | Path) -> bool:
    """Whether two paths lead to one file or folder, however they write it: there are file systems
    in which names of another case are the same.
    """
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):  # One of them is not there.
        return os.path.realpath(one) == os.path.realpath(other)


def is_same(address: str, folder: Photo) -> bool:
    """Whether ``address`` is that of ``folder``."""
    if isinstance(folder, Remote) or is_remote(address):
        return address.rstrip("/") == str(folder)
    return same_file(local(address), folder)


def content_of(photo: Photo) -> bytes:
    """The bytes of the file; ValueError, in one sentence, where it cannot be read."""
    return photo.read() if isinstance(photo, Remote) else images.content_of(photo)


def place_of(photo: Photo) -> str:
    """The same for two names of one file."""
    if isinstance(photo, Remote):
        return f"{photo.fs.unstrip_protocol(photo.path)} {photo.address.partition('::')[2]}"
    return os.path.abspath(os.path.realpath(photo))


def list_photos(inputs: Sequence[str]) -> tuple[list[Photo], list[str]]:
    """As ``images.list_images``, also for addresses."""
    found: dict[str, Photo] = {}
    wrong: list[str] = []
    for given in inputs:
        files: Sequence[Photo] = []
        if is_remote(given):
            try:
                files = Remote.at(given).photos()
            except ValueError as error:
                wrong.append(str(error))
                continue
            except Exception as error:
                wrong.append(f"{given} cannot be read ({_first_line(error)})")
                continue
            if not files:
                wrong.append(f"no images in the folder {given}; expected PNG, JPEG, WebP, ...")
        else:
            files, problems = images.list_images([local(given)])
            wrong += problems
        for file in files:
            found.setdefault(place_of(file), file)
    return list(found.values()), wrong


class LocalStore:
    """Files in a folder of this machine. All writing happens under a lock that the operating system
    releases when a run is killed."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._lock = FileLock(folder / LOCK, timeout=PATIENCE)

    def check(self, *names: str) -> None:
        """OSError where one of ``names`` is a link to another file."""
        for name in (LOCK, *names):
            if (self.folder / name).is_symlink():
                raise OSError(f"{name} in it is a link to another file; remove it")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Alone among all runs that write here."""
        try:
            self._lock.acquire()
        except Timeout as error:
            raise OSError(f"another run is writing into {self.folder}; try again") from error
        except NotImplementedError:
            pass  # A file system without locks, where only one run at a time is safe.
        try:
            yield
        finally:
            self._lock.release()

    def clean(self) -> None:
        """Remove what is half written. Only while nobody writes: it was left by a killed run."""
        for file in self.folder.glob(".flowdps-*.part"):
            with contextlib.suppress(OSError):  # On Windows, of a scanner that reads it.
                file.unlink(missing_ok=True)

    def takes_any_name(self) -> bool:
        """Whether files may have names of all characters."""
        probe = self.folder / f".flowdps-{os.getpid()}-:?\x1f.part"
        try:
            probe.touch()
            probe.unlink()
        except OSError as error:
            return error.errno not in (errno.EINVAL, errno.EILSEQ)
        return not WINDOWS  # There, a colon makes a second stream of a file.

    def exists(self, name: str) -> bool:
        """Whether anything has this name, be it a link to nothing."""
        return os.path.lexists(self.folder / name)

    def state(self, name: str) -> tuple[Any, ...] | None:
        """What changes whenever the file does; None if there is none."""
        try:
            stat = (self.folder / name).stat()
        except OSError:
            return None
        return stat.st_ino, stat.st_mtime_ns, stat.st_size

    def open(self, name: str) -> IO[bytes]:
        """The file, to be read."""
        return (self.folder / name).open("rb")

    def write(self, name: str, content: bytes) -> None:
        """Write a file, which is there as a whole or not at all."""
        images.write_file(self.folder / name, content)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        (self.folder / name).unlink(missing_ok=True)

    def append(self, name: str, line: bytes) -> None:
        """Append a line, on a line of its own, or leave the file as it was and raise OSError."""
        with (self.folder / name).open("ab+", buffering=0) as stream:
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

    def longest_name(self) -> int:
        """How many bytes a file name may have."""
        if WINDOWS:
            return max(64, min(255, LONGEST_PATH - len(os.path.abspath(self.folder)) - 1))
        try:
            return max(64, min(255, os.pathconf(self.folder, "PC_NAME_MAX")))
        except (AttributeError, OSError, ValueError):
            return 255


class RemoteStore:
    """Files in a folder of fsspec, which is listed once. There is no lock: one run at a time is
    safe."""

    def __init__(self, folder: Remote):
        self.folder = folder
        self._whole: set[str] = set()

        def listed() -> list[dict[str, Any]]:
            folder.fs.makedirs(folder.path, exist_ok=True)
            try:
                return folder.fs.ls(folder.path, detail=True)
            except FileNotFoundError:  # A store of objects has no folder until there is one in it.
                return []

        self._states = {
            PurePosixPath(each["name"]).name: (each["size"], 0) for each in self._told(listed)
        }

    def _told(self, act: Any) -> Any:
        """The result of ``act()``; OSError whatever the file system raises."""
        try:
            return act()
        except OSError:
            raise
        except Exception as error:
            raise OSError(errno.EIO, _first_line(error)) from error

    def _path(self, name: str) -> str:
        return f"{self.folder.path}/{name}"

    def check(self, *names: str) -> None:
        """OSError where none of ``names`` can be appended to, as the log needs."""
        for name in names:
            self._told(lambda name=name: self.folder.fs.open(self._path(name), "ab").close())
            self._states.setdefault(name, (0, 0))

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """A context without effect."""
        return contextlib.nullcontext()

    def clean(self) -> None:
        """Remove what a killed run left half written, if it is old: it may be another run's."""
        parts = [n for n in self._states if n.startswith(".flowdps-") and n.endswith(".part")]
        for name in parts:
            with contextlib.suppress(Exception):  # Not every file system tells the time.
                told = self.folder.fs.modified(self._path(name))
                if time.time() - told.timestamp() > OLD:
                    self.remove(name)

    def takes_any_name(self) -> bool:
        """Whether files may have names of all characters, as objects of a store may."""
        return True

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        return name in self._states

    def state(self, name: str) -> tuple[Any, ...] | None:
        """What changes whenever this run changes the file; None if there is none."""
        return self._states.get(name)

    def open(self, name: str) -> IO[bytes]:
        """The file, to be read."""
        return self._told(lambda: self.folder.fs.open(self._path(name), "rb"))

    def write(self, name: str, content: bytes) -> None:
        """Write a file, which has its name only when it is whole."""
        part = f".flowdps-{uuid4().hex}.part"

        def write() -> None:
            fs = self.folder.fs
            try:
                fs.pipe_file(self._path(part), content)
                fs.mv(self._path(part), self._path(name))
            except BaseException:
                self.remove(part)
                raise

        self._told(write)
        self._states[name] = len(content), self._states.get(name, (0, 0))[1] + 1

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self._told(lambda: self.folder.fs.rm_file(self._path(name)))
        self._states.pop(name, None)

    def append(self, name: str, line: bytes) -> None:
        """Append a line, on a line of its own. OSError where that fails."""

        def append() -> None:
            fs, path = self.folder.fs, self._path(name)
            start = b""
            if name not in self._whole and fs.exists(path) and (size := fs.size(path)):
                start = b"" if fs.cat_file(path, start=size - 1, end=size) == b"\n" else b"\n"
            with fs.open(path, "ab") as stream:
                stream.write(start + line)

        self._whole.discard(name)
        self._told(append)
        self._whole.add(name)

    def longest_name(self) -> int:
        """How many bytes a file name may have."""
        return 255


Store = LocalStore | RemoteStore


def store_at(folder: Photo) -> Store:
    """The files in ``folder``, which is made. OSError where nothing can be written."""
    if isinstance(folder, Remote):
        return RemoteStore(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return LocalStore(folder)
