"""How far an estimate is, for those who wait; and where it may be stopped."""

from __future__ import annotations

from collections.abc import Callable


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

    def part(self, first: float, last: float) -> Progress:
        """The progress of a piece of the work, which lies between ``first`` and ``last`` of it."""
        piece = Progress(self._report)
        piece._first = piece._done = self._first + self._share * first
        piece._share = self._share * (last - first)
        return piece


SILENT = Progress()
"""Tells nobody."""
