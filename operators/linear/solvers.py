"""Iterative solvers of linear systems, every sample of a batch on its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]
CG_TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-11}
"""Relative residual at which the iterative solvers stop."""
CG_STEPS = 1000


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((1, 2, 3), keepdim=True)


def _divide(a: Tensor, b: Tensor) -> Tensor:
    """a / b, and 0 where a sample has nothing left to solve."""
    return torch.where(b > 0, a / torch.where(b > 0, b, 1.0), 0.0)


def cg(matrix: Map, right: Tensor) -> Tensor:
    """Conjugate gradients for a positive definite ``matrix``, every sample on its own."""
    x, r, p = torch.zeros_like(right), right.clone(), right.clone()
    rho = _dot(r, r)
    goal = rho * CG_TOLERANCE.get(right.dtype, 1e-3) ** 2
    for _ in range(CG_STEPS):
        active = rho > goal
        if not bool(active.any()):
            break
        q = matrix(p)
        # A finished sample keeps its x, since its steps are 0.
        alpha = torch.where(active, _divide(rho, _dot(p, q)), 0.0)
        x.addcmul_(alpha, p)
        r.addcmul_(alpha, q, value=-1)
        new = _dot(r, r)
        p.mul_(_divide(new, rho)).add_(r)
        rho = new
    return x


def cgls(forward: Map, adjoint: Map, y: Tensor) -> Tensor:
    """Least-squares solution of least norm: CG on AᵀA x = Aᵀy from 0, every sample on its own."""
    r = y.clone()
    s = adjoint(r)
    x, p, rho = torch.zeros_like(s), s.clone(), _dot(s, s)
    goal = rho * CG_TOLERANCE.get(y.dtype, 1e-3) ** 2
    for _ in range(CG_STEPS):
        active = rho > goal
        if not bool(active.any()):
            break
        q = forward(p)
        # A finished sample keeps its x, since its steps are 0.
        alpha = torch.where(active, _divide(rho, _dot(q, q)), 0.0)
        x.addcmul_(alpha, p)
        r.addcmul_(alpha, q, value=-1)
        s = adjoint(r)
        new = _dot(s, s)
        p.mul_(_divide(new, rho)).add_(s)
        rho = new
    return x
