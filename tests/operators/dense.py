"""Operators as dense matrices, and random images to try them with."""

from __future__ import annotations

import torch
from torch import Tensor


def draw(shape, seed: int, count: int = 2) -> Tensor:
    """Standard normal images, float64 (count, *shape)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, *shape, generator=generator, dtype=torch.float64)


def dense(operator) -> Tensor:
    """The matrix of a linear operator, float64."""
    n = torch.Size(operator.in_shape).numel()
    basis = torch.eye(n, dtype=torch.float64).view(n, *operator.in_shape)
    return operator.A(basis).flatten(1).T
