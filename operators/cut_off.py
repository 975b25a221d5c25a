"""Values that an operator cut off, so that a measurement only bounds them."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class CutOff:
    """What is known of the values of images that were cut off, each (N, C, H, W).

    where: which they are, bool.
    end: the value at which they were cut off.
    centre, variance: mean and variance of what they may have been, all of it equally likely.
    """

    where: Tensor
    end: Tensor
    centre: Tensor
    variance: Tensor

    def within(self, x: Tensor) -> Tensor:
        """Images x, moved to the end where they are on the wrong side of it."""
        beyond = (x - self.end) * (self.centre - self.end).sign()
        return torch.where(self.where & (beyond < 0), self.end, x)


def cut_off(x: Tensor, tolerance: float, low: float, high: float) -> CutOff:
    """What clamping images in [-1, 1] to ``low`` and ``high`` cut off, where it left x.

    Values within ``tolerance`` of an end that lies inside the range count as cut off there.
    """
    under = (x <= low + tolerance) if low > -1 else torch.zeros_like(x, dtype=torch.bool)
    over = (x >= high - tolerance) if high < 1 else torch.zeros_like(under)
    end = torch.where(over, x.new_tensor(high), x.new_tensor(low))
    outer = torch.where(over, x.new_tensor(max(1.0, high)), x.new_tensor(min(-1.0, low)))
    return CutOff(under | over, end, (end + outer) / 2, (outer - end).square() / 12)
