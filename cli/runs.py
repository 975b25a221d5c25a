"""A run over photos: what is finished is skipped, an engine restores the rest, and the results and
the log are written. Nothing of it depends on the engine, or grows with the number of photos but
their names."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from tqdm import tqdm

from .ahead import Feed, ahead
from .engines import Engine, Job, Outcome
from .folders import Photo, content_of
from .results import Place, Results, digest, shown, source_of
from .work import Task, sentence

READERS = 2
"""Threads that read files."""
AHEAD = 8
"""Files that are read before the engine needs them, and outcomes that wait to be written."""


class Restoring:
    """Restores photos and logs the results.

    A photo that fails costs one line, and the others go on. Raises OSError where nothing can be
    written.
    """

    def __init__(self, task: Task, engine: Engine, out: Photo):
        self.task, self.engine, self.out = task, engine, out
        self.results = Results(out, task.request.samples)
        self.failed = self.done = self.skipped = self.left_out = 0
        self._places: dict[str, tuple[Photo, Place]] = {}
        self._guard = threading.Lock()

    def say(self, text: str, *, error: bool = False) -> None:
        """Print one line above the progress bar; a console that is gone ends nothing."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            tqdm.write(shown(text), file=sys.stderr if error else sys.stdout)

    def advance(self, photos: float) -> None:
        """So many photos, or so much of one, are done."""
        with self._guard:
            self.bar.update(photos)

    def refuse(self, problem: str) -> None:
        """Count and report a failure."""
        with self._guard:
            self.failed += 1
        self.say(f"flowdps: {problem}", error=True)

    def run(self, files: Sequence[Photo]) -> int:
        """Restore all files and return the exit code."""
        shape = "{l_bar}{bar}| {n:.1f}/{total_fmt} [{elapsed}<{remaining}]"
        with (
            tqdm(total=len(files), disable=None, leave=False, bar_format=shape) as self.bar,
            contextlib.closing(self._written(files)) as written,
        ):
            for outcome in written:
                if outcome.problem:
                    self.refuse(outcome.problem)
                else:
                    self.done += 1
                    if outcome.said:
                        self.say(outcome.said)
        if self.left_out:
            self.say(
                f"{self.left_out} results of earlier runs in {self.out} are no input; left out"
            )
        if self.skipped:
            self.say(f"{self.skipped} finished before, with the same settings; skipped")
        if self.done:
            self.say(f"{self.done} restored: {self.out}")
        return 2 if self.failed else 0

    def _read(self, file: Photo) -> bytes | str | None:
        """The bytes of a file, or why there are none; None for a result."""
        try:
            self.results.look_up(file)
            return None if self.results.is_result(file) else content_of(file)
        except Exception as error:
            return sentence(file.name, error)

    def _jobs(self, files: Sequence[Photo]) -> Iterator[Job]:
        """The photos that are still to be restored."""
        settings, taken = json.dumps(self.task.record), set[str]()
        contents = ahead(self._read, files, READERS, AHEAD)
        for file, content in zip(files, contents, strict=True):
            if content is None:
                self.left_out += 1
            elif isinstance(content, str):
                self.refuse(content)
            elif (job := self._job(file, content, settings, taken)) is not None:
                yield job
                continue
            self.advance(1)

    def _job(self, file: Photo, content: bytes, settings: str, taken: set[str]) -> Job | None:
        """The job of a photo; None if it is finished."""
        place = self.results.place_for(file, taken)
        run = digest(f"[{settings}, {json.dumps(file.name)}]".encode(), content)
        if self.results.finished(place, run):
            self.skipped += 1
            return None
        source = source_of(file)
        with self._guard:
            self._places[source] = file, place
        return Job(str(file), file.name, content, run, source)

    def _write(self, outcome: Outcome) -> Outcome:
        """Write the pictures, and then the line of the log that marks them as finished."""
        job = outcome.job
        with self._guard:
            file, place = self._places.pop(job.source)
        if not outcome.problem:
            try:
                self.results.write(file, place, job.run, outcome.pictures, outcome.record)
            except Exception as error:
                return Outcome(job, problem=sentence(job.name, error))
        return outcome

    def _written(self, files: Sequence[Photo]) -> Generator[Outcome, None, None]:
        """The outcomes of all photos, written in a thread behind the engine."""
        jobs = Feed(self._jobs(files), AHEAD)
        outcomes = self.engine.restored(iter(jobs), self)
        pool, writing = ThreadPoolExecutor(1), list[Future[Outcome]]()
        try:
            for outcome in outcomes:
                writing.append(pool.submit(self._write, outcome))
                while writing and (len(writing) > AHEAD or writing[0].done()):
                    yield writing.pop(0).result()
            while writing:
                yield writing.pop(0).result()
        finally:
            jobs.close()
            outcomes.close()
            pool.shutdown()  # What is finished is written, whatever ended the run.
