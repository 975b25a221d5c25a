"""Cuts: where one shot of a film ends and the next begins."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE, BINS = 16, 32
LEAST, TIMES = 0.7, 3.0
"""A cut differs by ``LEAST`` at least, and by so many times what is usual in its shot."""
REMEMBERED = 12


class Cuts:
    """Tells of frames (1, C, H, W), one after another, which are the first of a shot.

    A frame is compared with the last one as a small picture (1 − correlation) and by the histogram
    of its brightness (half the sum of the differences); mean and contrast are taken out first, so
    that flicker is no cut. What moves, and films whose frames always differ, raise what is usual.
    """

    def __init__(self) -> None:
        self._last: tuple[Tensor, Tensor] | None = None
        self._usual: deque[float] = deque(maxlen=REMEMBERED)

    def __call__(self, frame: Tensor) -> bool:
        """Whether ``frame`` begins a shot; the first one does."""
        last, self._last = self._last, _look(frame)
        if last is None:
            return True
        apart = 1 - float((last[0] * self._last[0]).mean())
        apart += float((last[1] - self._last[1]).abs().sum()) / 2
        usual = statistics.median(self._usual) if self._usual else 0.0
        if apart > max(LEAST, TIMES * usual):
            self._usual.clear()
            return True
        self._usual.append(apart)
        return False


def _look(frame: Tensor) -> tuple[Tensor, Tensor]:
    """The small picture of a frame and its histogram, both without mean and contrast."""
    grey = frame.float().mean(1, keepdim=True)
    grey = (grey - grey.mean()) / grey.std().clamp(min=0.02)
    small = F.adaptive_avg_pool2d(grey, SIDE)
    small = (small - small.mean()) / small.std().clamp(min=0.02)
    counts = torch.histc(grey.clamp(-3, 3), BINS, -3, 3)
    return small, counts / counts.sum()


def shots(frames: Iterable[Tensor]) -> Iterator[tuple[bool, Tensor]]:
    """Every frame with whether it begins a shot."""
    cut = Cuts()
    for frame in frames:
        yield cut(frame), frame
