"""The engine that is a Ray cluster: workers on one machine or many, each with its model loaded.

The photos go to the workers and the finished PNG files come back, so that the workers need no way
to the folders of the run. A worker that dies is replaced, and what it had is done by others.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import contextlib
import logging
import queue
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from itertools import chain
from typing import Any

import torch

from ... import __version__
from ..ahead import Feed
from ..work import Task, Work, sentence
from . import Console, Job, Outcome
from .plain import Plain

TRIES = 3
"""Workers that may die while they have nothing but one photo, until it is set aside."""
AT_ONCE = 2
"""Chunks that a worker has: the model works on one while the other is looked at or described."""
MOST = 8
"""Most photos of a chunk."""
KIBIBYTES = 256
"""What the files of a chunk have together, or one alone more: small photos are batched."""
LOADS = 5
"""Workers that may die in a row while they load the model."""


class Worker:
    """One model, kept loaded, in a process of its own."""

    def __init__(self, task: Task, threads: int):
        torch.set_num_threads(threads)
        self._plain = Plain(Work(task))

    def load(self) -> str:
        """Load the model; why that is not possible, in one sentence."""
        try:
            _ = self._plain.work.prior
        except Exception as error:
            return str(error) if isinstance(error, ValueError) else sentence("the model", error)
        return ""

    def restored(self, jobs: Sequence[Job]) -> list[Outcome]:
        """The outcomes of some jobs."""
        return list(self._plain.restored(iter(jobs), _Silent()))


class _Silent:
    def say(self, text: str, *, error: bool = False) -> None: ...

    def advance(self, photos: float) -> None: ...


class _Hand:
    """A worker as the run sees it, and the chunks that it has, by what they are waited for."""

    def __init__(self, actor: Any):
        self.actor = actor
        self.loading: Any = actor.load.remote()
        self.chunks: dict[Any, list[Job]] = {}
        self.alone = False
        """Whether it has one photo that workers died on, and gets nothing else."""

    @property
    def room(self) -> int:
        """How many more chunks it may get."""
        return 0 if self.loading or self.alone else AT_ONCE - len(self.chunks)


class Cluster:
    """Restores on a Ray cluster.

    address: of the cluster; None starts one on this machine, which ends with the run. workers: how
    many; 0: one for every GPU, or on processors as many as there are threads for. ValueError where
    Ray is missing.
    """

    def __init__(self, task: Task, address: str | None = None, workers: int = 0):
        try:
            import ray
        except ImportError as error:
            raise ValueError('--engine ray needs Ray: pip install "flowdps[ray]"') from error
        if workers < 0:
            raise ValueError(f"--workers is {workers}; expected 0 (as many as fit) or more")
        self._ray, self.task, self.address, self.workers = ray, task, address, workers
        self._hands: list[_Hand] = []
        self._again: deque[Job] = deque()
        self._deaths: dict[str, int] = {}
        self._unloaded = 0

    def restored(self, jobs: Iterator[Job], console: Console) -> Generator[Outcome, None, None]:
        """See ``Engine``. The cluster is joined once there is something to restore."""
        first = next(jobs, None)
        if first is None:
            return
        feed = Feed(chain([first], jobs), max(MOST, self.task.batch))
        try:
            self._hire()
            while not (feed.ended and not self._again and not self._busy):
                self._hand_out(feed)
                for outcome in self._come_back():
                    console.advance(1)
                    yield outcome
        except self._ray.exceptions.RayError as error:
            raise ValueError(
                f"the Ray cluster cannot be reached any more ({_first_line(error)}); run it again"
                " to restore the remaining photos"
            ) from error
        finally:
            feed.close()
            for hand in self._hands:
                self._dismiss(hand)
            self._ray.shutdown()

    @property
    def _busy(self) -> bool:
        return any(hand.chunks for hand in self._hands)

    def _hire(self) -> None:
        """Join or start the cluster, and start the workers."""
        ray, threads = self._ray, torch.get_num_threads()
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
        try:
            if self.address is None:
                more = {"num_cpus": self.workers * threads} if self.workers else {}
                ray.init("local", include_dashboard=False, **more, **quiet)
            else:
                ray.init(self.address, **quiet)
        except Exception as error:  # Ray raises ConnectionError, RuntimeError, ValueError, ...
            raise ValueError(
                f"no Ray cluster at {self.address or 'this machine'} ({_first_line(error)})"
            ) from error
        gpu = self.task.record["device"] == "cuda"
        there = ray.cluster_resources()
        fitting = int(there.get("GPU", 0)) if gpu else int(there.get("CPU", 0)) // threads
        options = {"num_gpus": 1, "num_cpus": 1} if gpu else {"num_cpus": threads}
        self._actor = ray.remote(Worker).options(max_concurrency=AT_ONCE, **options)
        # One copy for all workers, whatever is in it.
        self._given = ray.put(self.task), threads
        for _ in range(self.workers or max(1, fitting)):
            self._hands.append(_Hand(self._actor.remote(*self._given)))

    def _dismiss(self, hand: _Hand) -> None:
        with contextlib.suppress(Exception):  # It is gone already, or the cluster is.
            self._ray.kill(hand.actor)

    def _hand_out(self, feed: Feed[Job]) -> None:
        """Give work to those who have room, first to those who have none."""
        for hand in sorted(self._hands, key=lambda each: len(each.chunks)):
            if hand.room == AT_ONCE and self._again:
                self._give(hand, [self._again.popleft()], alone=True)
            elif hand.room > 0 and (chunk := _chunk(feed, self.task.batch)):
                self._give(hand, chunk)

    def _give(self, hand: _Hand, chunk: list[Job], *, alone: bool = False) -> None:
        hand.alone = alone
        hand.chunks[hand.actor.restored.remote(chunk)] = chunk

    def _come_back(self) -> Iterator[Outcome]:
        """What workers have done by now; those that died are replaced."""
        loading = {hand.loading: hand for hand in self._hands if hand.loading}
        waited = [*loading, *(ref for hand in self._hands for ref in hand.chunks)]
        if not waited:
            time.sleep(0.02)  # Nothing is there to do yet.
            return
        done, _ = self._ray.wait(waited, timeout=0.1)
        for ref in done:
            hand = loading.get(ref) or next(h for h in self._hands if ref in h.chunks)
            try:
                found = self._ray.get(ref)
            except self._ray.exceptions.RayTaskError as error:
                if ref in loading:
                    raise ValueError(
                        f"the workers cannot start ({_first_line(error)}); expected flowdps"
                        f" {__version__} on all machines"
                    ) from error
                # No fault of a photo is raised; this one is of the program.
                found = [
                    Outcome(job, problem=f"{job.name}: {_first_line(error)}")
                    for job in hand.chunks[ref]
                ]
            except self._ray.exceptions.RayError:
                yield from self._died(hand)
                return
            if ref in loading:
                if found:
                    raise ValueError(found)
                hand.loading, self._unloaded = None, 0
            else:
                del hand.chunks[ref]
                hand.alone = False
                yield from found

    def _died(self, hand: _Hand) -> Iterator[Outcome]:
        """Replace a worker. What it had is done by others, one by one and alone, so that a photo
        that kills workers is found."""
        self._dismiss(hand)
        self._hands.remove(hand)
        if hand.loading:
            self._unloaded += 1
            if self._unloaded >= LOADS:
                raise ValueError(
                    f"{LOADS} workers in a row died while they loaded the model: give them more"
                    " memory, or fewer --workers"
                )
        for job in chain(*hand.chunks.values()):
            if hand.alone:
                self._deaths[job.source] = self._deaths.get(job.source, 0) + 1
            if self._deaths.get(job.source, 0) >= TRIES:
                yield Outcome(
                    job,
                    problem=f"{job.name}: {TRIES} workers died on it, and it is set aside; restore"
                    " it alone without --engine ray to see why",
                )
            else:
                self._again.append(job)
        self._hands.append(_Hand(self._actor.remote(*self._given)))


def _chunk(feed: Feed[Job], batch: int) -> list[Job]:
    """Some jobs that are there by now: ``batch`` of them, or if that is 0, as many as suit."""
    chunk: list[Job] = []
    size = 0
    while not feed.ended and len(chunk) < (batch or MOST):
        if not batch and size >= KIBIBYTES * 1024:
            break
        try:
            job = feed.get(0)
        except (queue.Empty, StopIteration):
            break
        chunk.append(job)
        size += len(job.content)
    return chunk


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    # Of an error in a task, the last line says what it was.
    return (lines or [type(error).__name__])[-1]
