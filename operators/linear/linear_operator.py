"""Linear operators on images: adjoint, pseudo-inverse, prox and composition."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, overload

import torch
from torch import Tensor

from ..operator import Composition, Operator
from .solvers import Map, cg, cgls


class _Linear(torch.autograd.Function):
    """``x`` through a linear map whose gradient goes through the map's transpose.

    Nothing of the map's inside is kept for the gradient, so that an iterative solver takes the same
    memory however many steps it makes. The gradient is linear, too, and has gradients of its own.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, apply: Map, transpose: Map) -> Tensor:
        ctx.maps = apply, transpose
        return apply(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        apply, transpose = ctx.maps
        return linear(gradients[0], transpose, apply), None, None


def linear(x: Tensor, apply: Map, transpose: Map) -> Tensor:
    """``apply(x)``, with ``transpose`` as the gradient instead of autograd through ``apply``."""
    result: Any = _Linear.apply(x, apply, transpose)
    return result


class LinearOperator(Operator):
    """A linear map A from images (N, ``in_shape``) to measurements (N, ``out_shape``).

    Immutable; both shapes are (C, H, W). Differentiable in every argument, any batch size, no value
    range assumed. Raises ValueError for a tensor of another shape.
    """

    linear = True

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y, the exact transpose: (N, *out_shape) to (N, *in_shape)."""
        return self._adjoint(self._checked(y, self.out_shape, "measurement"))

    def pinv(self, y: Tensor) -> Tensor:
        """A⁺ y, the least-squares solution of least norm: (N, *out_shape) to (N, *in_shape).

        In closed form where there is one, else by CGLS to a relative residual of 1e-11 in float64
        and 1e-5 in float32; its gradient is then the pseudo-inverse of Aᵀ, by CGLS too.
        """
        return self._pinv(self._checked(y, self.out_shape, "measurement"))

    def normal(self, x: Tensor) -> Tensor:
        """AᵀA x: (N, *in_shape) to the same; the gradient is the same map."""
        return linear(self._checked(x, self.in_shape, "image"), self._normal, self._normal)

    def projection(self, x: Tensor) -> Tensor:
        """A⁺A x, the part of x that A sees: (N, *in_shape) to the same; tolerance as of pinv.

        The orthogonal projection on the row space of A; the gradient is the same map.
        """
        x = self._checked(x, self.in_shape, "image")
        return linear(x, self._projection, self._projection)

    def prox(self, z: Tensor, y: Tensor, gamma: float) -> Tensor:
        """argmin over x of γ/2 ‖A x − y‖² + ½ ‖x − z‖², (N, *in_shape); tolerance as of pinv.

        Where it is iterative, its gradient solves the same linear system for another right side.
        """
        if not gamma >= 0:
            raise ValueError(f"gamma is {gamma}; expected a number of at least 0")
        z = self._checked(z, self.in_shape, "image")
        return self._prox(z, self._checked(y, self.out_shape, "measurement"), gamma)

    @overload
    def __matmul__(self, other: LinearOperator) -> Composed: ...
    @overload
    def __matmul__(self, other: Operator) -> Operator: ...
    def __matmul__(self, other: Operator) -> Operator:
        """``(a @ b).A(x)`` is ``a.A(b.A(x))``; linear where both are."""
        if isinstance(other, LinearOperator):
            return Composed(self, other)
        return super().__matmul__(other)

    @abstractmethod
    def _adjoint(self, y: Tensor) -> Tensor: ...

    def _normal(self, x: Tensor) -> Tensor:
        return self._adjoint(self._forward(x))

    def _projection(self, x: Tensor) -> Tensor:
        return self._pinv(self._forward(x))

    def _pinv(self, y: Tensor) -> Tensor:
        # (A⁺)ᵀ = (Aᵀ)⁺
        return linear(
            y,
            lambda y: cgls(self._forward, self._adjoint, y),
            lambda x: cgls(self._adjoint, self._forward, x),
        )

    def _prox(self, z: Tensor, y: Tensor, gamma: float) -> Tensor:
        # With d = x − z: (I + γ AᵀA) d = γ Aᵀ(y − A z), and the system is symmetric.
        def solve(right: Tensor) -> Tensor:
            return cg(lambda d: torch.add(d, self._normal(d), alpha=gamma), right)

        return z + linear(gamma * self._adjoint(y - self._forward(z)), solve, solve)


class Composed(Composition, LinearOperator):
    """The product of two linear operators; its pseudo-inverse and prox are iterative."""

    outer: LinearOperator
    inner: LinearOperator

    def __init__(self, outer: LinearOperator, inner: LinearOperator):
        super().__init__(outer, inner)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.inner.adjoint(self.outer.adjoint(y))

    def _normal(self, x: Tensor) -> Tensor:
        return self.inner.adjoint(self.outer.normal(self.inner.A(x)))
