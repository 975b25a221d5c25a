"""Linear physics of the library deepinv as operators. Nothing of it is imported here."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .base import LinearOperator, Shape

TOLERANCE = 1e-3
"""How far ⟨A x, y⟩ and ⟨x, Aᵀ y⟩ may differ, relative to ‖A x‖ ‖y‖, in float32."""


class _Physics(LinearOperator):
    def __init__(self, physics: Any, shape: Shape, out_shape: Shape):
        super().__init__(shape, out_shape)
        self._physics = physics

    def _forward(self, x: Tensor) -> Tensor:
        return self._physics.A(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._physics.A_adjoint(y)


def from_deepinv(
    physics: Any,
    shape: Shape,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> LinearOperator:
    """The operator of a deepinv ``LinearPhysics`` for images of ``shape`` (C, H, W).

    Only ``A`` and ``A_adjoint`` are used, without noise; pseudo-inverse and prox are iterative. The
    physics must already be on ``device`` and of ``dtype``, and must not be changed afterwards.
    Raises ValueError for an object without these methods, measurements that are no (N, C, h, w)
    tensor, or an adjoint that is not one.
    """
    if not (hasattr(physics, "A") and hasattr(physics, "A_adjoint")):
        raise ValueError(
            f"{type(physics).__name__} has no A and A_adjoint; expected a LinearPhysics of deepinv"
        )
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, *shape, generator=generator).to(device, dtype)
    seen = physics.A(x)
    if not (isinstance(seen, Tensor) and seen.ndim == 4 and not seen.is_complex()):
        raise ValueError(
            f"{type(physics).__name__} measures something else than a real tensor (N, C, h, w);"
            " this is not supported"
        )
    y = torch.randn(seen.shape, generator=generator).to(device, dtype)
    there, back = (seen * y).sum(), (x * physics.A_adjoint(y)).sum()
    if abs(float(there - back)) > TOLERANCE * float(seen.norm() * y.norm()):
        raise ValueError(
            f"A_adjoint of {type(physics).__name__} is not the adjoint of its A: <A x, y> is"
            f" {float(there):.4g} and <x, A* y> is {float(back):.4g}"
        )
    channels, height, width = seen.shape[1:]
    return _Physics(physics, shape, (channels, height, width))
