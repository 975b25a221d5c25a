"""The engine that is this process: reading ahead, the model, and describing behind it."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain

from ...estimation.progress import Progress
from ...priors.base import is_out_of_memory
from ..ahead import ahead
from ..work import Looked, Work, sentence
from . import Console, Job, Outcome

AHEAD = 4
"""Photos that are looked at before the model needs them."""
BEHIND = 4
"""Results that wait to be described: a slow disk holds up the model."""
KINDS = 4
"""Batches' worth of photos that may wait for others of their kind."""
THREADS = max(1, min(8, (os.cpu_count() or 2) // 2))
"""Threads that look at photos."""


class Plain:
    """Restores in this process. The results do not depend on what else there is to do."""

    def __init__(self, work: Work):
        self.work = work

    def restored(self, jobs: Iterator[Job], console: Console) -> Generator[Outcome, None, None]:
        """See ``Engine``. The model is loaded once there is something to restore."""
        first = next(jobs, None)
        if first is None:
            return
        _ = self.work.prior  # Outside of what is caught: no photo could be restored.
        pool, described = ThreadPoolExecutor(1), deque[Future[Outcome]]()
        ended = threading.Event()

        def going_on(_: float) -> None:
            if ended.is_set():
                raise RuntimeError("the run has ended")

        def look(job: Job) -> Looked | Outcome:
            try:
                return self.work.looked(job, Progress(going_on))
            except Exception as error:
                return Outcome(job, problem=sentence(job.name, error))

        looked = ahead(look, chain([first], jobs), THREADS, AHEAD)
        try:
            for outcome in self._modelled(looked, console):
                if isinstance(outcome, Outcome):
                    yield outcome
                else:
                    described.append(pool.submit(self._described, *outcome))
                while described and (len(described) > BEHIND or described[0].done()):
                    yield described.popleft().result()
            while described:
                yield described.popleft().result()
        finally:
            ended.set()
            looked.close()
            pool.shutdown(wait=False, cancel_futures=True)

    def _described(self, each: Looked, result: object) -> Outcome:
        try:
            return self.work.described(each, result)  # type: ignore[arg-type]
        except Exception as error:
            return Outcome(each.job, problem=sentence(each.job.name, error))

    def _modelled(
        self, looked: Iterator[Looked | Outcome], console: Console
    ) -> Iterator[tuple[Looked, object] | Outcome]:
        """Every photo with its result, or its failure, photos of one kind together."""
        waiting: dict[tuple[object, ...], list[Looked]] = {}
        for each in looked:
            if isinstance(each, Outcome):
                yield each
                continue
            try:
                if said := self.work.try_model(each):
                    console.say(said)
                size = self.work.batch_of(each)
            except Exception as error:
                yield Outcome(each.job, problem=sentence(each.job.name, error))
                continue
            if each.healthy:
                console.advance(1)
                yield each, None
                continue
            group = waiting.setdefault(each.kind, [])
            group.append(each)
            if len(group) >= size:
                yield from self._together(waiting.pop(each.kind), console)
            elif sum(map(len, waiting.values())) > KINDS * size:
                # The oldest kind: its group goes as it is.
                yield from self._together(waiting.pop(next(iter(waiting))), console)
        for group in waiting.values():
            yield from self._together(group, console)

    def _together(
        self, group: list[Looked], console: Console, fill: bool = True
    ) -> Iterator[tuple[Looked, object] | Outcome]:
        """A batch; one by one if it fails."""
        try:
            results = self.work.restored(group, console.advance, fill)
        except Exception as error:
            if len(group) == 1 and (not is_out_of_memory(error) or not fill):
                yield Outcome(group[0].job, problem=sentence(group[0].job.name, error))
                return
            # A photo that fails is found alone; and where memory runs out, alone fits more.
            fill = fill and not is_out_of_memory(error)
        else:
            yield from zip(group, results, strict=True)
            return
        for each in group:
            yield from self._together([each], console, fill)
