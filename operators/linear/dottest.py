"""The dot-test: whether an operator's adjoint is its adjoint."""

from __future__ import annotations

import torch

from .linear_operator import LinearOperator

DOT_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-10}
"""Largest difference of both inner products, relative to ‖A x‖ ‖y‖."""


def dottest(
    operator: LinearOperator,
    generator: torch.Generator | None = None,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    tolerance: float | None = None,
) -> tuple[float, float]:
    """Checks that ⟨A x, y⟩ = ⟨x, Aᵀ y⟩ for random x and y, and returns both inner products.

    ``generator`` (on the CPU; by default one of seed 0) draws x and y; ``device`` and ``dtype`` are
    those for which the operator was bound. Half of y is A x and half is noise, since noise alone is
    nearly orthogonal to A x and would let a wrong factor pass. ``tolerance`` is relative to
    ‖A x‖ ‖y‖, by default 1e-10 in float64, 1e-4 in float32 and 1e-2 in other types.

    Raises ValueError, with both numbers, where they differ by more.
    """
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    film, frames = operator.cycle or (1, 1)
    x, noise = (
        torch.randn(count, *shape, generator=generator, dtype=torch.float64).to(device, dtype)
        for count, shape in ((film, operator.in_shape), (frames, operator.out_shape))
    )
    with torch.no_grad():
        seen = operator.A(x)
        y = seen / seen.norm().clamp(min=torch.finfo(dtype).tiny) + noise / noise.norm()
        # In double precision, so that the sums themselves add no error.
        back = operator.adjoint(y)
        x, y, seen, back = (each.cpu().double() for each in (x, y, seen, back))
        left, right = float((seen * y).sum()), float((x * back).sum())
        scale = float(seen.norm() * y.norm())
    allowed = DOT_TOLERANCE.get(dtype, 1e-2) if tolerance is None else tolerance
    if not abs(left - right) <= allowed * scale:
        raise ValueError(
            f"the adjoint of {type(operator).__name__} is not one: <A x, y> is {left:.9g} and"
            f" <x, A* y> is {right:.9g}; they may differ by {allowed:g} |A x| |y| = "
            f"{allowed * scale:.3g}"
        )
    return left, right
