"""Morozov's discrepancy principle: no pull is left where the residual is down to the noise."""

from __future__ import annotations

import torch
from torch import Tensor

from ..operators import Measurement


class DiscrepancyStop:
    """Shortens the moves of every sample so that its residual ratio does not fall below ``stop``.

    A move goes no further than to where the ratio could be down to ``stop``, by the slope of the
    loss, if the residual is linear in it. With ``stop`` 0 moves stay as they are.
    """

    def __init__(self, stop: float, measurement: Measurement, power: int = 1):
        """``power`` of the residual with which the loss grows: 1 for a norm, 2 for its square."""
        self.ratio_goal, self.power, self._measurement = stop, power, measurement
        self.ratio: Tensor | None = None

    @torch.no_grad()
    def update(self, seen: Tensor) -> None:
        """Take note of A x at the images that the next moves start from."""
        if self.ratio_goal:
            self.ratio = (
                self._measurement.residual_rms(seen.detach())
                / self._measurement.floored_noise_level
            )

    @property
    def reached(self) -> bool:
        """Whether every sample is down to the goal."""
        return self.ratio is not None and bool((self.ratio <= self.ratio_goal).all())

    def limit(self, move: Tensor, loss: Tensor, gradient: Tensor) -> Tensor:
        """The moves (N, ...) of latents at which ``loss`` (N,) has its ``gradient`` (N, ...)."""
        if self.ratio is None:
            return move
        slope = (gradient * move).flatten(1).sum(1)
        # The residual's square, at least 0 and with this slope, is at least (1 − t / T)² of itself.
        part = (1 - self.ratio_goal / self.ratio).clamp(min=0).to(loss)
        share = torch.where(slope < 0, part * self.power * loss / -slope, (part > 0).to(loss))
        share = share.clamp(max=1)
        return move * share.to(move).view(-1, *[1] * (move.ndim - 1))


def towards(x: Tensor, corrected: Tensor, stop: float, measurement: Measurement) -> Tensor:
    """The last of the images between x and ``corrected`` whose residual ratio is at least ``stop``.

    Every sample on its own; x where its ratio is no more than ``stop``.
    """
    operator, y = measurement.operator, measurement.y
    goal = stop * measurement.floored_noise_level
    start = operator.A(x) - y.to(x)
    change = operator.A(corrected) - y.to(x) - start
    count = start[0].numel()
    if (measured := measurement.measured) is not None:
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
