"""Morozov's discrepancy principle: data steps end once the residual reaches the noise level."""

from __future__ import annotations

import torch
from torch import Tensor

from ..operators import Measurement


class DiscrepancyStop:
    """Shortens the updates of every sample so that its residual ratio does not fall below ``stop``.

    The residual is assumed linear in the update: an update ends where, by the slope of the loss,
    the ratio can first reach ``stop``. A ``stop`` of 0 leaves updates unchanged.
    """

    def __init__(self, stop: float, measurement: Measurement, power: int = 1):
        """``power``: exponent of the residual norm in the loss, 1 for a norm, 2 for its square."""
        self.ratio_goal, self.power, self._measurement = stop, power, measurement
        self.ratio: Tensor | None = None

    @torch.no_grad()
    def update(self, seen: Tensor) -> None:
        """Record the residual ratio of ``seen`` = A x, x being the images before the update."""
        if self.ratio_goal:
            self.ratio = (
                self._measurement.residual_rms(seen.detach())
                / self._measurement.floored_noise_level
            )

    @property
    def reached(self) -> bool:
        """Whether the residual ratio of every sample is at most ``stop``."""
        return self.ratio is not None and bool((self.ratio <= self.ratio_goal).all())

    def limit(self, move: Tensor, loss: Tensor, gradient: Tensor) -> Tensor:
        """The updates ``move`` (N, ...), shortened, given ``loss`` (N,) and its ``gradient``."""
        if self.ratio is None:
            return move
        slope = (gradient * move).flatten(1).sum(1)
        # If the residual is linear in the step t, its square is nonnegative and quadratic in t:
        # with a zero at T by the slope, it is at least (1 − t / T)² of its value at t = 0.
        part = (1 - self.ratio_goal / self.ratio).clamp(min=0).to(loss)
        share = torch.where(slope < 0, part * self.power * loss / -slope, (part > 0).to(loss))
        share = share.clamp(max=1)
        return move * share.to(move).view(-1, *[1] * (move.ndim - 1))


def towards(x: Tensor, corrected: Tensor, stop: float, measurement: Measurement) -> Tensor:
    """The point on the segment from x to ``corrected`` where the residual ratio reaches ``stop``.

    Computed per sample; ``corrected`` if the ratio stays above ``stop``, and x if its ratio is
    already at most ``stop``.
    """
    operator, y = measurement.operator, measurement.y
    goal = stop * measurement.floored_noise_level
    start = operator.A(x) - y.to(x)
    change = operator.A(corrected) - y.to(x) - start
    count = start[0].numel()
    if (measured := measurement.measured) is not None:
        start, change = start * measured, change * measured
        count = int(measured.sum()) // len(measured)
    # ‖start + t change‖² = count · goal² is quadratic in t.
    a, b, c = (
        (p * q).flatten(1).sum(1) for p, q in ((change, change), (change, start), (start, start))
    )
    if operator.cycle:  # All frames of a film together.
        count *= len(start)
        a, b, c = (each.sum().expand(len(x)) for each in (a, b, c))
    c = c - count * goal * goal  # Infinite, where goal**2 would raise OverflowError.
    root = (b.square() - a * c).clamp(min=0).sqrt()
    crossing = torch.where(a > 0, (-b - root) / torch.where(a > 0, a, 1.0), 0.0)
    never = (b.square() - a * c < 0) | (b >= 0)
    part = torch.where(never, 1.0, crossing.clamp(0, 1))
    part = torch.where(c <= 0, 0.0, part)
    part = part.view(-1, 1, 1, 1)
    return torch.where(part < 1, x + part * (corrected - x), corrected)
