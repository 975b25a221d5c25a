"""Morozov's discrepancy principle: no pull is left where the residual is down to the noise."""

from __future__ import annotations

import torch
from torch import Tensor

from ..operators import Measurement


class Rest:
    """Scales the moves of every sample by how far its residual ratio is above ``stop``.

    Whole from twice ``stop`` on, it falls to nothing at ``stop`` and below, so that the last moves
    do not overshoot. With ``stop`` 0 moves stay as they are.
    """

    def __init__(self, stop: float, measurement: Measurement):
        self.stop, self._measurement = stop, measurement
        self.share: Tensor | None = None

    @torch.no_grad()
    def look(self, seen: Tensor) -> None:
        """Take note of A x at the images that the next moves start from."""
        if self.stop:
            ratios = self._measurement.spread(seen.detach()) / self._measurement.level
            self.share = (ratios / self.stop - 1).clamp(0, 1)

    @property
    def all(self) -> bool:
        """Whether every sample rests."""
        return self.share is not None and not bool(self.share.any())

    def scaled(self, move: Tensor) -> Tensor:
        """The moves (N, ...) of latents, each sample's by its own share."""
        if self.share is None:
            return move
        return move * self.share.to(move).view(-1, *[1] * (move.ndim - 1))


def towards(x: Tensor, corrected: Tensor, stop: float, measurement: Measurement) -> Tensor:
    """The last of the images between x and ``corrected`` whose residual ratio is at least ``stop``.

    Every sample on its own; x where its ratio is no more than ``stop``.
    """
    operator, y = measurement.operator, measurement.y
    goal = stop * measurement.level
    start = operator.A(x) - y.to(x)
    change = operator.A(corrected) - y.to(x) - start
    count = start[0].numel()
    if (measured := operator.measured) is not None:
        start, change = start * measured, change * measured
        count = int(measured.expand_as(start[:1]).sum())
    # ‖start + t change‖² = count · goal² is quadratic in t.
    a, b, c = (
        (p * q).flatten(1).sum(1) for p, q in ((change, change), (change, start), (start, start))
    )
    c = c - count * goal**2
    root = (b.square() - a * c).clamp(min=0).sqrt()
    crossing = torch.where(a > 0, (-b - root) / torch.where(a > 0, a, 1.0), 0.0)
    never = (b.square() - a * c < 0) | (b >= 0)
    part = torch.where(never, 1.0, crossing.clamp(0, 1))
    part = torch.where(c <= 0, 0.0, part)
    return x + part.view(-1, 1, 1, 1) * (corrected - x)
