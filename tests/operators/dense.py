"""Operators as dense matrices, and random images to try them with."""

from __future__ import annotations

import torch
from torch import Tensor


def draw(shape, seed: int, count: int = 2) -> Tensor:
    """Standard normal images, float64 (count, *shape)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, *shape, generator=generator, dtype=torch.float64)


def check_prox(operator, z: Tensor, y: Tensor) -> None:
    """Its prox is where the gradient of γ/2 ‖A x − y‖² + ½ ‖x − z‖² is 0."""
    for gamma in (0.0, 0.3, 50.0):
        got = operator.prox(z, y, gamma)
        slope = gamma * operator.adjoint(operator.A(got) - y) + got - z
        assert slope.norm() <= 1e-8 * (1 + gamma) * (z.norm() + y.norm())


def dense(operator) -> Tensor:
    """The matrix of a linear operator, float64."""
    n = torch.Size(operator.in_shape).numel()
    basis = torch.eye(n, dtype=torch.float64).view(n, *operator.in_shape)
    return operator.A(basis).flatten(1).T
