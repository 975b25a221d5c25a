"""Who restores the photos of a run: this process, the workers of a Ray cluster, or ComfyUI servers.

An engine takes jobs and gives outcomes, in any order. What is to be done, where results go and what
the log says of them is decided by the run, which is the same for all engines.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Job:
    """A photo to be restored.

    address: of its file, as the user knows it; name: of the file. content: the file's bytes. run:
    the id of the run, of this photo with these settings. source: what tells the photo from all
    others.
    """

    address: str
    name: str
    content: bytes = field(repr=False)
    run: str
    source: str


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    pictures: PNG files by part. record: what the log says. said: what is told to the user once they
    are written. problem: why there are none, in one sentence.
    """

    job: Job
    pictures: dict[str, bytes] = field(default_factory=dict, repr=False)
    record: dict[str, Any] = field(default_factory=dict, repr=False)
    said: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Graph:
    """What a ComfyUI server does with a photo. model: what Load SD3 Flow Prior loads. values: of
    Restore Photo. prompt: what the photos show; empty: nothing is said."""

    model: str
    values: dict[str, Any]
    prompt: str = ""


class Console(Protocol):
    """Where an engine tells the user how far it is."""

    def say(self, text: str, *, error: bool = False) -> None:
        """One line."""
        ...

    def advance(self, photos: float) -> None:
        """So many photos, or so much of one, are done."""
        ...


class Engine(Protocol):
    """Restores photos."""

    def restored(self, jobs: Iterator[Job], console: Console) -> Generator[Outcome, None, None]:
        """The outcome of every job, in any order.

        Holds a bounded number of jobs at any time. Closing the iterator ends all work. ValueError,
        in one sentence, where no photo can be restored.
        """
        ...
