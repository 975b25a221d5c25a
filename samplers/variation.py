"""Total variation without a preferred direction, and images that are sharp in its sense."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..operators import LinearOperator, Measurement
from ..operators.linear.solvers import cg
from .pixel_prox import gradient_of_fit

CORNERS = [(below, right) for below in (False, True) for right in (False, True)]
PROX_STEPS = 2
"""Steps of conjugate gradients per iteration for an operator whose prox has no closed form. They
start from the last iteration's solution, so that what they leave is caught up with."""
SLOPE = 1.0
"""Largest slope that a nonlinear operator is taken to have: clipping, rounding and JPEG have 1."""
STRIP = 2**18
"""Values of an image in one strip of rows: what is worked out in it stays in the processor's cache,
and large images need no further memory."""
STRIP_ON_DEVICE = 2**24
"""The same on other devices, which large pieces suit."""

Pair = tuple[Tensor, Tensor]


def _differences(x: Tensor, first: int, last: int) -> Pair:
    """Differences in rows from ``first`` to before ``last``: to the pixel below, also of the row
    before ``first``, (N, C, last - first + 1, W), and to the right, with a column of zeros on
    either side, (N, C, last - first, W + 1). They are 0 across the border."""
    top, bottom = max(first - 1, 0), min(last + 1, x.shape[-2])
    rows = x[..., top:bottom, :]
    down = F.pad(rows.diff(dim=-2), (0, 0, int(first == 0), int(last == x.shape[-2])))
    return down, F.pad(x[..., first:last, :].diff(dim=-1), (1, 1))


def corners(x: Tensor, first: int = 0, last: int | None = None) -> Iterator[Pair]:
    """Vertical and horizontal differences at the four corners of every pixel, in the rows from
    ``first`` to before ``last``.

    Each pair takes the neighbours above or below, and to the left or to the right.
    """
    down, right = _differences(x, first, x.shape[-2] if last is None else last)
    for above, left in CORNERS:
        vertical = down[..., :-1, :] if above else down[..., 1:, :]
        yield vertical, right[..., :-1] if left else right[..., 1:]


def _adjoint(pairs: Sequence[Pair], first: int = 0, last: int | None = None) -> Tensor:
    """The adjoint of ``corners``: images (N, C, H, W) of four pairs of fields, in the rows from
    ``first`` to before ``last``."""
    height = pairs[0][0].shape[-2]
    last = height if last is None else last
    top, bottom = max(first - 1, 0), min(last + 1, height)
    down = right = torch.zeros(())
    for (above, left), (p, q) in zip(CORNERS, pairs, strict=True):
        # The field at a difference between two pixels: that of the upper or the left one, or that
        # of the other. Those of differences across the border count for nothing.
        p, q = p[..., top:bottom, :], q[..., first:last, :]
        down = down + (p[..., 1:, :] if above else p[..., :-1, :])
        right = right + (q[..., 1:] if left else q[..., :-1])
    down = F.pad(down, (0, 0, int(first == 0), int(last == height)))
    right = F.pad(right, (1, 1))
    return down[..., :-1, :] - down[..., 1:, :] + right[..., :-1] - right[..., 1:]


def symmetric_variation(x: Tensor) -> Tensor:
    """Mean over the four corners of isotropic total variation, colours coupled: (N,).

    Unlike the usual discretisation with the neighbours below and to the right, it is the same for
    an image and its reflections.
    """
    total = x.new_zeros(len(x))
    for p, q in corners(x):
        total = total + (p.square() + q.square()).sum(1).sqrt().sum((1, 2)) / len(CORNERS)
    return total


def _strips(x: Tensor) -> list[tuple[int, int]]:
    """First row and row after the last of strips of images x (N, C, H, W)."""
    height = x.shape[-2]
    values = STRIP if x.device.type == "cpu" else STRIP_ON_DEVICE
    rows = max(1, values * height // max(x.numel(), 1))
    return [(first, min(first + rows, height)) for first in range(0, height, rows)]


def _rows(values: Tensor, first: int, last: int) -> Tensor:
    """Rows of values (…, H, W) of every pixel, or of (…, 1, 1) of all pixels."""
    return values if values.shape[-2] == 1 else values[..., first:last, :]


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
    strength, weight = (
        value.view(1, 1, 1, 1) if value.ndim == 0 else value
        for value in (torch.as_tensor(given).to(start) for given in (strength, weight))
    )
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
    x, last = start.clone(), start
    duals = [(torch.zeros_like(x), torch.zeros_like(x)) for _ in CORNERS]
    radius = (strength / 2).clamp(min=1e-12)
    strips = _strips(x)
    for _ in range(iterations):
        slope = torch.empty_like(x)
        for rows in strips:
            part = _adjoint(duals, *rows) / 2
            if most > least:
                off = _rows(x, *rows) - _rows(anchor, *rows)
                part = part + (_rows(weight, *rows) - least) * off
            slope[..., slice(*rows), :] = part
        if not isinstance(operator, LinearOperator):
            slope += gradient_of_fit(operator, x, y)
        step = 1 / (1 / tau + least)
        new = slope.mul_(-tau).add_(x).div_(tau).add_(anchor, alpha=least).mul_(step)
        if isinstance(operator, LinearOperator):
            last = new = _prox(operator, new, y, step, last)
        ahead = torch.lerp(x, new, 2.0)
        for rows in strips:
            for dual, pair in zip(duals, corners(ahead, *rows), strict=True):
                _ascend(dual, pair, rows, sigma, _rows(radius, *rows), relax)
        x.lerp_(new, relax)
    return x


def _ascend(
    dual: Pair, pair: Pair, rows: tuple[int, int], sigma: float, radius: Tensor, relax: float
) -> None:
    """A step of the dual variables of one corner, in some rows, towards ``pair`` and back into the
    ball of ``radius``."""
    p, q = (_rows(field, *rows) for field in dual)
    u, v = (p.add(pair[0], alpha=sigma / 2), q.add(pair[1], alpha=sigma / 2))
    size = (u.square() + v.square()).sum(1, keepdim=True).sqrt_().div(radius).clamp_(min=1)
    p.add_(u.div_(size).sub_(p), alpha=relax)
    q.add_(v.div_(size).sub_(q), alpha=relax)
