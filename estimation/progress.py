"""How far an estimate is, for those who wait; and where it may be stopped."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")
OFTEN = 0.2
"""Seconds between two questions whether to go on, during work that cannot be interrupted."""


class Progress:
    """Tells ``report``, at least every half second, how much of an estimate is done: 0 to 1.

    ``report`` may raise to stop the work; nothing is left behind by that. None: nobody is told.
    """

    def __init__(self, report: Callable[[float], None] | None = None):
        self._report = report
        self._first, self._share, self._done = 0.0, 1.0, 0.0

    def __call__(self, done: float | None = None) -> None:
        """``done``: the part of the work that is done, 0 to 1; None: no more than before."""
        if done is not None:
            self._done = self._first + self._share * min(max(done, 0.0), 1.0)
        if self._report is not None:
            self._report(self._done)

    def during(self, work: Callable[[], T]) -> T:
        """What ``work`` returns, a single long operation without gradients, such as a
        factorisation. It is done in a thread of its own while ``report`` is asked; if that raises,
        so does this at once, and the operation ends unheard.
        """
        if self._report is None:
            return work()
        done: list[T] = []
        failed: list[BaseException] = []

        @torch.no_grad()  # A thread begins with gradients.
        def run() -> None:
            try:
                done.append(work())
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(OFTEN)
            self()
        if failed:
            raise failed[0]
        return done[0]

    def part(self, first: float, last: float) -> Progress:
        """The progress of a piece of the work, which lies between ``first`` and ``last`` of it."""
        piece = Progress(self._report)
        piece._first = piece._done = self._first + self._share * first
        piece._share = self._share * (last - first)
        return piece


SILENT = Progress()
"""Tells nobody."""
