"""Conjugate gradients for a batch of independent systems, and how they ended."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]
CG_TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-11}
"""Relative residual at which the iteration stops; 1e-3 for other dtypes."""
CG_STEPS = 5000
"""Largest number of steps."""
MARGIN = 0.9
DRIFT = 50
"""After so many steps the residual is computed anew, since rounding errors accumulate."""


class ConvergenceWarning(RuntimeWarning):
    """An iterative pseudo-inverse or prox did not reach its tolerance."""


@dataclasses.dataclass(frozen=True)
class Solution:
    """The result of a solver, and how it ended.

    ``x`` is the solution (N, C, H, W); ``steps`` (N,) the number of iterations of every sample, 0
    for a closed form; ``residual`` (N,) its relative residual, 0 where the right side is 0;
    ``converged`` (N,) whether it reached the tolerance.
    """

    x: Tensor
    steps: Tensor
    residual: Tensor
    converged: Tensor

    def warn(self, what: str) -> None:
        """A ``ConvergenceWarning`` about ``what``, such as "the prox", unless all converged."""
        if not bool(self.converged.all()):
            warnings.warn(
                f"{what} did not converge: the relative residual is"
                f" {float(self.residual.max()):.0e} after {int(self.steps.max())} steps",
                ConvergenceWarning,
                stacklevel=4,
            )


def tolerance(dtype: torch.dtype) -> float:
    """The relative residual to reach in ``dtype``."""
    return CG_TOLERANCE.get(dtype, 1e-3)


def norm(a: Tensor, group: int = 1) -> Tensor:
    """Euclidean norm of every sample, (N, C, H, W) to (N,); of every ``group`` of samples that are
    solved together, it is the norm of all of them."""
    if group > 1:
        a = a.reshape(-1, group, *a.shape[1:])
    return a.flatten(1).norm(dim=1).repeat_interleave(group)


def relative(a: Tensor, b: Tensor, group: int = 1) -> Tensor:
    """Norm of every sample of ``a`` relative to that of ``b`` (N,), and 0 where b is 0; ``group``
    as of ``norm``."""
    return _divide(norm(a, group), norm(b, group))


def _dot(a: Tensor, b: Tensor, group: int) -> Tensor:
    dots = (a * b).sum((1, 2, 3), keepdim=True)
    if group > 1:
        dots = dots.view(-1, group).sum(1).repeat_interleave(group).view(-1, 1, 1, 1)
    return dots


def _divide(a: Tensor, b: Tensor) -> Tensor:
    """a / b, and 0 where a sample has nothing left to solve."""
    return torch.where(b > 0, a / torch.where(b > 0, b, 1.0), 0.0)


def cg(
    matrix: Map,
    right: Tensor,
    preconditioner: Map | None = None,
    scale: Tensor | None = None,
    damping: float = 0.0,
    limit: int | None = None,
    group: int = 1,
) -> Solution:
    """The solution of ``matrix(x) = right`` by preconditioned conjugate gradients from 0.

    ``matrix`` is symmetric and positive definite, ``preconditioner`` as well and near its inverse.
    Every sample of ``right`` (N, C, H, W) is solved on its own, until the norm of its residual is
    below the tolerance times ``scale`` (N,), by default the norm of ``right``, or below 0.02
    ``damping`` ‖x‖; at most ``limit`` steps, or ``CG_STEPS``. Every ``group`` of samples is one
    system, as the frames are that an operator over time mixes.
    """
    x, r = torch.zeros_like(right), right.clone()
    z = preconditioner(r) if preconditioner else r
    p, rho = z.clone(), _dot(r, z, group)
    scale = norm(right, group) if scale is None else scale
    # A little less than the tolerance, which leaves room for the drift of the updated residual.
    goal = least = (MARGIN * scale * tolerance(right.dtype)).square().view(-1, 1, 1, 1)
    left = _dot(r, r, group)
    steps = torch.zeros(len(right), dtype=torch.long, device=right.device)
    for _ in range(CG_STEPS if limit is None else limit):
        active = left > goal
        if not bool(active.any()):
            break
        steps += active.view(-1)
        q = matrix(p)
        # A finished sample keeps its x, since its steps are 0.
        alpha = torch.where(active, _divide(rho, _dot(p, q, group)), 0.0)
        x.addcmul_(alpha, p)
        r.addcmul_(alpha, q, value=-1)
        z = preconditioner(r) if preconditioner else r
        new = _dot(r, z, group)
        left = _dot(r, r, group) if preconditioner else new
        if damping:
            goal = torch.maximum(least, (MARGIN * 0.02 * damping) ** 2 * _dot(x, x, group))
        p.mul_(_divide(new, rho)).add_(z)
        rho = new
    if int(steps.max()) > DRIFT:
        left = _dot(r := right - matrix(x), r, group)
    return Solution(x, steps, _divide(norm(r, group), scale), (left <= goal / MARGIN**2).view(-1))
