"""Cuts: where one shot of a film ends and the next begins."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE, BINS, SPAN = 32, 64, 3
LEAST, TIMES = 0.55, 2.0
FLAT = 0.05
"""Contrast below which frames look alike."""
"""A cut differs by ``LEAST`` at least, and by so many times what is usual in its shot."""
REMEMBERED = 12


class Cuts:
    """Tells of frames (1, C, H, W), one after another, which are the first of a shot.

    A frame is compared with the last one as a small picture, by 1 − the largest correlation at any
    shift, and by the distribution of its brightness, by how far that has to be moved. Mean and
    contrast are taken out first, so that flicker is no cut. Films whose frames always differ raise
    what is usual.
    """

    def __init__(self) -> None:
        self._last: tuple[Tensor, Tensor] | None = None
        self._usual: deque[float] = deque(maxlen=REMEMBERED)

    def __call__(self, frame: Tensor) -> bool:
        """Whether ``frame`` begins a shot; the first one does."""
        last, self._last = self._last, _look(frame)
        if last is None:
            return True
        apart = 1 - _correlation(last[0], self._last[0])
        apart += 2 * SPAN / BINS * float((last[1] - self._last[1]).abs().sum())
        usual = statistics.median(self._usual) if self._usual else 0.0
        if apart > max(LEAST, TIMES * usual):
            self._usual.clear()
            return True
        self._usual.append(apart)
        return False


def _look(frame: Tensor) -> tuple[Tensor, Tensor]:
    """The small picture of a frame without its mean, and the cumulative distribution of its
    brightness in standard deviations."""
    grey = frame.float().mean(1, keepdim=True)
    small = F.adaptive_avg_pool2d(grey, SIDE)
    small = small - small.mean()
    usual = (grey - grey.mean()) / grey.std().clamp(min=FLAT)
    counts = torch.histc(usual.clamp(-SPAN, SPAN), BINS, -SPAN, SPAN)
    return small, counts.cumsum(0) / counts.sum()


def _correlation(one: Tensor, other: Tensor) -> float:
    """The largest correlation of two small pictures at any shift; 1 of two flat ones."""
    spectrum = torch.fft.rfft2(one) * torch.fft.rfft2(other).conj()
    most = float(torch.fft.irfft2(spectrum, s=(SIDE, SIDE)).max()) / SIDE**2
    flat = FLAT**2
    return (most + flat) / (float(one.std() * other.std()) + flat)


def shots(frames: Iterable[Tensor]) -> Iterator[tuple[bool, Tensor]]:
    """Every frame with whether it begins a shot."""
    cut = Cuts()
    for frame in frames:
        yield cut(frame), frame
