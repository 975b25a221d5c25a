"""How much of an image a measurement determines."""

from __future__ import annotations

import torch
from torch import Tensor

from ..operators import LinearOperator, Measurement

SPREAD = 0.15
"""Standard deviation of images around what neighbouring pixels tell, for images in [-1, 1]."""
PROBES = 4
LEAST = 1e-4
"""The share that counts as nothing."""
ROUNDED = 0.1
"""The share where A rounds: the intervals hold little of what a model can know better."""


@torch.no_grad()
def resolution(measurement: Measurement) -> Tensor:
    """The share of every value that the measurement determines, (1, C, H, W) from 0 to 1, or of
    every frame where the operator is one over time.

    It estimates the diagonal of the resolution matrix R = γ AᵀA (I + γ AᵀA)⁻¹, γ = (0.15 / σₙ)²,
    by u · R u with random signs u (Hutchinson 1989; Bekas et al. 2007). The average over the image
    is what four probes tell well. The value of a single pixel is mixed with it as far as the
    probes differ: what a mask hides is found exactly, as there R is diagonal, and a blur has the
    same number everywhere. Where A is not linear, it is that of
    an operator that shows every value, or little where A rounds.
    """
    operator, noise = measurement.operator, measurement.floored_noise_level
    like = measurement.y
    shape = (measurement.count if operator.cycle else 1, *operator.in_shape)
    gamma = (SPREAD / noise) ** 2
    if operator.rounds:
        return torch.full(shape, ROUNDED, dtype=like.dtype, device=like.device)
    if not isinstance(operator, LinearOperator):
        return torch.full(shape, gamma / (1 + gamma), dtype=like.dtype, device=like.device)
    generator = torch.Generator().manual_seed(0)
    seen = []
    for _ in range(PROBES):
        u = (2 * torch.randint(0, 2, shape, generator=generator) - 1).to(like)
        seen.append(u * operator.prox(torch.zeros_like(u), operator.A(u), gamma))
    values = torch.stack(seen)
    local, mean = values.mean(0), values.mean()
    within = values.var(0).mean() / PROBES
    between = (local - mean).square().mean()
    share = ((between - within) / between.clamp(min=1e-12)).clamp(0, 1)
    return (mean + share * (local - mean)).clamp(LEAST, 1)


@torch.no_grad()
def directness(measurement: Measurement) -> float:
    """How directly values are measured: the root of the mean of the diagonal of AᵀA, from 0 to 1.

    It is 1 where every value is seen as it is, less where some are missing, and small where each
    measured value mixes many. The mean is estimated by random signs, as in ``resolution``. Where A
    is not linear it is 1, and where A rounds 0.
    """
    operator = measurement.operator
    if operator.rounds:
        return 0.0
    if not isinstance(operator, LinearOperator):
        return 1.0
    generator = torch.Generator().manual_seed(0)
    count = measurement.count if operator.cycle else PROBES
    u = 2 * torch.randint(0, 2, (count, *operator.in_shape), generator=generator) - 1
    u = u.to(measurement.y)
    return min(1.0, float((operator.A(u).square().sum() / u.numel()).sqrt()))
