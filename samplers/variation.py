"""Total variation without a preferred direction, and images that are sharp in its sense."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ..operators import LinearOperator, Measurement
from ..operators.linear.solvers import cg
from .pixel_prox import gradient_of_fit

CORNERS = [(below, right) for below in (False, True) for right in (False, True)]
PROX_STEPS = 4
"""Steps of conjugate gradients per iteration for an operator whose prox has no closed form. They
start from the last iteration's solution, so that what they leave is caught up with."""
SLOPE = 1.0
"""Largest slope that a nonlinear operator is taken to have: clipping, rounding and JPEG have 1."""


def _differences(x: Tensor) -> tuple[Tensor, Tensor]:
    """Differences to the pixel below and to the right, 0 at the border: each (N, C, H, W)."""
    down = F.pad(x[..., 1:, :] - x[..., :-1, :], (0, 0, 0, 1))
    return down, F.pad(x[..., 1:] - x[..., :-1], (0, 1))


def _shifted(a: Tensor, axis: int) -> Tensor:
    """What the pixel before has, along ``axis``, and 0 for the first."""
    first = (0, 0, 1, 0) if axis == -2 else (1, 0)
    return F.pad(a.narrow(axis, 0, a.shape[axis] - 1), first)


def _back(a: Tensor, axis: int) -> Tensor:
    """The adjoint of ``_shifted``."""
    last = (0, 0, 0, 1) if axis == -2 else (0, 1)
    return F.pad(a.narrow(axis, 1, a.shape[axis] - 1), last)


def corners(x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Vertical and horizontal differences at the four corners of every pixel.

    Each pair takes the neighbours above or below, and to the left or to the right.
    """
    down, right = _differences(x)
    up, left = _shifted(down, -2), _shifted(right, -1)
    for first, second in CORNERS:
        yield (up if first else down), (left if second else right)


def _adjoint(pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """The adjoint of ``corners``: images (N, C, H, W) of four pairs of fields."""
    down = right = torch.zeros(())
    for (first, second), (p, q) in zip(CORNERS, pairs, strict=True):
        down = down + (_back(p, -2) if first else p)
        right = right + (_back(q, -1) if second else q)
    # The field at the last row or column belongs to no difference.
    p, q = down[..., :-1, :], right[..., :-1]
    return F.pad(p, (0, 0, 1, 0)) - F.pad(p, (0, 0, 0, 1)) + F.pad(q, (1, 0)) - F.pad(q, (0, 1))


def symmetric_variation(x: Tensor) -> Tensor:
    """Mean over the four corners of isotropic total variation, colours coupled: (N,).

    Unlike the usual discretisation with the neighbours below and to the right, it is the same for
    an image and its reflections.
    """
    total = x.new_zeros(len(x))
    for p, q in corners(x):
        total = total + (p.square() + q.square()).sum(1).sqrt().sum((1, 2)) / len(CORNERS)
    return total


def _prox(operator: LinearOperator, z: Tensor, y: Tensor, gamma: float, last: Tensor) -> Tensor:
    """``operator.prox(z, y, gamma)``; a few steps towards it from ``last`` if it is iterative."""
    if not operator.iterative:
        return operator.prox(z, y, gamma)
    rest = z - last + gamma * operator.adjoint(y - operator.A(last))
    film = operator.cycle[0] if operator.cycle else 1
    return last + cg(lambda u: u + gamma * operator.normal(u), rest, limit=PROX_STEPS, group=film).x


def regularised(
    measurement: Measurement,
    strength: Tensor | float,
    start: Tensor,
    weight: Tensor | float = 0.0,
    iterations: int = 60,
    typical: Tensor | float | None = None,
) -> Tensor:
    """argmin over x of ½ ‖A x − y‖² + ‖λ · TVₛ(x)‖₁ + ½ Σ w (x − x̄)², (N, C, H, W).

    λ is ``strength`` and w ``weight``, each a number or one of every pixel, (N, 1, H, W) or
    (N, C, H, W) for w; ``typical`` is a usual λ, by which steps are sized, where λ is not the same
    for every sample; x̄ is ``start``, where the iteration starts as well; TVₛ as in
    ``symmetric_variation``, of every pixel. The primal-dual method of Condat (2013) and Vũ: the
    data term by the operator's prox, or by its gradient where the operator is not linear; the
    smallest w with the prox, the rest of it by its gradient.
    """
    operator, y, anchor = measurement.operator, measurement.y.to(start), start
    strength = torch.as_tensor(strength).to(start)
    weight = torch.as_tensor(weight).to(start)
    least, most = float(weight.min()), float(weight.max())
    linear = isinstance(operator, LinearOperator)
    curvature = most - least + (0.0 if linear else SLOPE**2)
    # The dual variables have norm at most λ / 2 and images change by a few tenths: this ratio of
    # the step sizes converges fastest. ‖corners / 2‖² ≤ 8.
    usual = strength if typical is None else torch.as_tensor(typical)
    tau = 0.06 / max(float(usual.mean()), 1e-6)
    if curvature:
        tau = min(tau, 0.5 / curvature)
    sigma = (1 / tau - curvature) / 8
    relax = 1.9 if not curvature else 1.4
    x = last = start
    duals = [(torch.zeros_like(p), torch.zeros_like(q)) for p, q in corners(x)]
    for _ in range(iterations):
        slope = _adjoint(duals) / 2
        if most > least:
            slope = slope + (weight - least) * (x - anchor)
        if not isinstance(operator, LinearOperator):
            slope = slope + gradient_of_fit(operator, x, y)
        step = 1 / (1 / tau + least)
        new = step * ((x - tau * slope) / tau + least * anchor)
        if isinstance(operator, LinearOperator):
            last = new = _prox(operator, new, y, step, last)
        moved = []
        for (p, q), (down, right) in zip(duals, corners(2 * new - x), strict=True):
            u, v = p + sigma / 2 * down, q + sigma / 2 * right
            size = (u.square() + v.square()).sum(1, keepdim=True).sqrt()
            size = (size / (strength / 2).clamp(min=1e-12)).clamp(min=1)
            moved.append((p + relax * (u / size - p), q + relax * (v / size - q)))
        x, duals = x + relax * (new - x), moved
    return x
