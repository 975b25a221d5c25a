"""Work ahead of the one who needs it: in threads, in order, and never more than a few items."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Feed(Generic[Item]):
    """The items of an iterator, which a thread of its own takes, at most ``count`` ahead.

    What the iterator raises is raised by ``get``. ``close`` lets the thread end after the item that
    it is at.
    """

    def __init__(self, items: Iterable[Item], count: int):
        self._queue: queue.Queue[tuple[Item | None, BaseException | None]] = queue.Queue(count)
        self._closed = threading.Event()
        self.ended = False
        """Whether the last item was given out."""
        threading.Thread(target=self._run, args=(items,), daemon=True).start()

    def _run(self, items: Iterable[Item]) -> None:
        error: BaseException | None = StopIteration()
        try:
            for item in items:
                if not self._put((item, None)):
                    return
        except BaseException as raised:
            error = raised
        self._put((None, error))

    def _put(self, entry: tuple[Item | None, BaseException | None]) -> bool:
        while not self._closed.is_set():
            try:
                self._queue.put(entry, timeout=0.1)
                return True
            except queue.Full:
                pass
        return False

    def get(self, timeout: float | None = None) -> Item:
        """The next item. ``queue.Empty`` if there is none within ``timeout`` seconds, StopIteration
        after the last one."""
        if self.ended:
            raise StopIteration
        item, error = self._queue.get(timeout != 0, timeout)
        if error is not None:
            self.ended = True
            raise error
        return item  # type: ignore[return-value]

    def __iter__(self) -> Iterator[Item]:
        while True:
            try:
                item = self.get()
            except StopIteration:
                return
            yield item

    def close(self) -> None:
        """Take no further items."""
        self._closed.set()


def ahead(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int, count: int
) -> Generator[Result, None, None]:
    """``function`` of every item, in order, computed by ``threads``, about ``count`` of them ahead.

    ``items`` is iterated in another thread.
    """
    pool = ThreadPoolExecutor(threads)

    def begun() -> Iterator[Future[Result]]:
        for item in items:
            yield pool.submit(function, item)

    feed = Feed(begun(), count)
    try:
        for future in feed:
            yield future.result()
    finally:
        feed.close()
        pool.shutdown(wait=False, cancel_futures=True)
