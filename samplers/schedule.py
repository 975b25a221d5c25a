"""Noise schedules, from σ = 1 (noise) to σ = 0 (data)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor


def shifted(sigma: Tensor, shift: float) -> Tensor:
    """SD3's timestep shift, σ ↦ k σ / (1 + (k − 1) σ) with k = ``shift``; a larger k puts more
    steps at high noise."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def published_sigmas(steps: int, shift: float = 4.0) -> Tensor:
    """The schedule of the FlowDPS paper: float64 (steps + 1,), from 1 to 0.

    σ is linear from 1 to 0.001 shifted by 3 (the model's shift), then shifted by ``shift``.
    Raises ValueError for fewer than one step or a shift that is not positive.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}; expected at least 1")
    if not shift > 0:
        raise ValueError(f"shift is {shift}; expected a positive number, 4 as published")
    end = float(shifted(torch.tensor(1e-3, dtype=torch.float64), 3.0))
    levels = shifted(torch.linspace(1.0, end, steps, dtype=torch.float64), shift)
    return torch.cat([levels, levels.new_zeros(1)])


def noise_levels(sigmas: Tensor) -> Iterator[tuple[int, float, float]]:
    """Index, noise level and next noise level of every step."""
    for i, (level, following) in enumerate(
        zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True)
    ):
        yield i, level, following


def posterior_deviation(sigma: float) -> float:
    """Standard deviation of a unit Gaussian given its noisy version at ``sigma``."""
    return sigma / math.hypot(sigma, 1 - sigma)


def check_sigmas(sigmas: Tensor) -> None:
    """ValueError unless ``sigmas`` (n,), n ≥ 2, decrease strictly from at most 1 to at least 0."""
    count = len(sigmas)
    wrong = ""
    if count < 2:
        wrong = f"there are {count} sigmas"
    elif not bool((falling := sigmas[1:] < sigmas[:-1]).all()):
        k = int((~falling).nonzero()[0])
        first, second = sigmas[k : k + 2].tolist()
        wrong = f"of {count} sigmas, {first:g} is followed by {second:g} (at place {k + 1})"
    elif sigmas[0] > 1 or sigmas[-1] < 0:
        wrong = f"the sigmas fall from {float(sigmas[0]):g} to {float(sigmas[-1]):g}"
    if wrong:
        raise ValueError(
            f"{wrong}; expected numbers falling from 1 to 0, such as those of FlowDPS Sigmas"
        )
