"""Linear operators on images: adjoint, pseudo-inverse, prox and composition."""

from __future__ import annotations

import dataclasses
import functools
import math
from abc import abstractmethod
from typing import Any, overload

import torch
from torch import Tensor

from ..operator import Composition, Operator
from .preconditioner import Spectrum, estimated_spectrum, largest_eigenvalue
from .solvers import Map, Solution, cg, norm, relative, tolerance

DAMPING = {torch.float32: 3e-3, torch.float64: 7e-4}
"""Level of the regularisation of iterative pseudo-inverses, relative to the largest singular
value; 0.1 for other dtypes.
"""
PASSES, MOST_PASSES = 2, 30
"""Passes of iterated Tikhonov regularisation: these at least, unless the solution is exact before,
and at most; a sample that has taken more than ``EFFORT`` steps gets no further ones.
"""
EFFORT = 500
WORTH = 0.2
"""A larger shift needs so few steps that preconditioning them costs more than it saves, for
operators of a norm near 1.
"""


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

        A closed form counts singular values below 1e-11 (float64) or 1e-5 (float32) of the largest,
        ‖A‖, as zero. Without a closed form, A⁺ is regularised and found by conjugate gradients: the
        inverse 1/σ of every singular value is multiplied by 1 − (μ² / (σ² + μ²))², where μ is
        7e-4 ‖A‖ (float64) or 3e-3 ‖A‖ (float32), so that A A⁺ A differs from A by at most
        3e-4 ‖A‖ or 3e-3 ‖A‖ (spectral norm). A ``ConvergenceWarning`` says if the iteration did not
        reach its tolerance. The gradient is the transpose of A⁺, by the same method.
        """
        return self._pinv(self._checked(y, self.out_shape, "measurement"))

    def solve_pinv(self, y: Tensor) -> Solution:
        """``pinv(y)`` and how it was found, without a warning.

        The residual is ‖Aᵀ(y − A x)‖ / ‖Aᵀ y‖, that of the normal equations.
        """
        y = self._checked(y, self.out_shape, "measurement")
        if type(self)._pinv is LinearOperator._pinv:
            solution = self._iterative_pinv(y)
        else:
            solution = _closed(self._pinv(y))
        with torch.no_grad():
            seen = self._adjoint(y)
            missed = self._adjoint(y - self._forward(solution.x))
            residual = relative(missed, seen, self._group(False))
        return dataclasses.replace(solution, residual=residual)

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
        """argmin over x of γ/2 ‖A x − y‖² + ½ ‖x − z‖², (N, *in_shape).

        Without a closed form it is found by conjugate gradients, to a relative residual of 1e-11
        (float64) or 1e-5 (float32); a ``ConvergenceWarning`` says if that was not reached. The
        gradient solves the same linear system for another right side. ValueError for a gamma below
        0.
        """
        return self._prox(*self._checked_prox(z, y, gamma), gamma)

    def solve_prox(self, z: Tensor, y: Tensor, gamma: float) -> Solution:
        """``prox(z, y, gamma)`` and how it was found, without a warning.

        The residual is ‖γ Aᵀ(y − A x) − (x − z)‖ / ‖γ Aᵀ(y − A z)‖.
        """
        z, y = self._checked_prox(z, y, gamma)
        if type(self)._prox is LinearOperator._prox:
            solution = self._iterative_prox(z, y, gamma)
        else:
            solution = _closed(self._prox(z, y, gamma))
        with torch.no_grad():
            x = solution.x
            slope = gamma * self._adjoint(y - self._forward(x)) - (x - z)
            first = gamma * self._adjoint(y - self._forward(z))
            residual = relative(slope, first, self._group(False))
        return dataclasses.replace(solution, residual=residual)

    def _checked_prox(self, z: Tensor, y: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
        if not gamma >= 0:
            raise ValueError(f"gamma is {gamma}; expected a number of at least 0")
        z = self._checked(z, self.in_shape, "image")
        return z, self._checked(y, self.out_shape, "measurement")

    @property
    def iterative(self) -> bool:
        """Whether the prox has no closed form, so that one takes many applications of A."""
        return type(self)._prox is LinearOperator._prox

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
        solution = self._iterative_pinv(y)
        solution.warn("the pseudo-inverse")
        return solution.x

    def _prox(self, z: Tensor, y: Tensor, gamma: float) -> Tensor:
        solution = self._iterative_prox(z, y, gamma)
        solution.warn("the prox")
        return solution.x

    # Both are solutions of (G + c I) u = b with a Gram matrix G: x = u for G = AᵀA and b = Aᵀy, or
    # x = Aᵀu for G = A Aᵀ and b = y. The smaller matrix is taken.

    @property
    def _dual(self) -> bool:
        """Whether the smaller Gram matrix is A Aᵀ."""
        film, seen = self.cycle or (1, 1)
        return seen * math.prod(self.out_shape) < film * math.prod(self.in_shape)

    def _group(self, dual: bool) -> int:
        """How many samples of images, or of measurements if ``dual``, are one system."""
        return 1 if self.cycle is None else self.cycle[dual]

    def _gram(self, u: Tensor, dual: bool) -> Tensor:
        return self._forward(self._adjoint(u)) if dual else self._normal(u)

    def _preconditioner(self, shift: float, like: Tensor) -> Map | None:
        """A symmetric positive map near (G + ``shift`` I)⁻¹ for the smaller Gram matrix and tensors
        like ``like``; or None.
        """
        return None

    def _shifted_inverse(
        self,
        b: Tensor,
        shift: float,
        dual: bool,
        scale: Tensor | None = None,
        damping: float = 0.0,
    ) -> Solution:
        """(G + ``shift`` I)⁻¹ b; ``scale`` and ``damping`` are those of ``cg``."""
        wanted = shift < WORTH and dual == self._dual
        preconditioner = self._preconditioner(shift, b) if wanted else None
        return cg(
            lambda u: torch.add(self._gram(u, dual), u, alpha=shift),
            b,
            preconditioner,
            scale,
            damping,
            group=self._group(dual),
        )

    def _iterative_prox(self, z: Tensor, y: Tensor, gamma: float) -> Solution:
        # With d = x − z: (AᵀA + I / γ) d = Aᵀ(y − A z).
        dual, ended = self._dual, []
        change = y - linear(z, self._forward, self._adjoint)
        if gamma == 0:
            return _closed(z + 0 * linear(change, self._adjoint, self._forward))

        def solve(b: Tensor) -> Tensor:
            ended.append(self._shifted_inverse(b, 1 / gamma, dual))
            return ended[-1].x

        def backward(b: Tensor) -> Tensor:
            solution = self._shifted_inverse(b, 1 / gamma, dual)
            solution.warn("the gradient of the prox")
            return solution.x

        if dual:
            d = linear(linear(change, solve, backward), self._adjoint, self._forward)
        else:
            d = linear(linear(change, self._adjoint, self._forward), solve, backward)
        return dataclasses.replace(ended[0], x=z + d)

    _largest: float | None = None

    def _norm_squared(self, y: Tensor) -> float:
        """‖A‖², estimated once: the operator does not change."""
        if self._largest is None:
            shape = self.out_shape if self._dual else self.in_shape
            like = y.new_empty(self._group(self._dual), *shape)
            self._largest = largest_eigenvalue(lambda u: self._gram(u, self._dual), like)
        return self._largest

    def _iterative_pinv(self, y: Tensor) -> Solution:
        ended = []

        def solve(y: Tensor) -> Tensor:
            if self._dual:
                ended.append(self._regularised_inverse(y, True))
                return self._adjoint(ended[-1].x)
            ended.append(self._regularised_inverse(self._adjoint(y), False))
            return ended[-1].x

        def backward(x: Tensor) -> Tensor:
            # (A⁺)ᵀ = (A Aᵀ)⁺ A; what A does not see of x would spoil (AᵀA)⁺ x.
            solution = self._regularised_inverse(self._forward(x), True)
            solution.warn("the gradient of the pseudo-inverse")
            return solution.x

        x = linear(y, solve, backward)
        return dataclasses.replace(ended[0], x=x)

    def _regularised_inverse(self, b: Tensor, dual: bool) -> Solution:
        """G⁺ b by iterated Tikhonov regularisation: every pass adds what is missing of the solution
        of the passes before.
        """
        largest, tol, group = self._norm_squared(b), tolerance(b.dtype), self._group(dual)
        shift = DAMPING.get(b.dtype, 0.1) ** 2 * largest or 1.0
        # Of b = y, a part may have no solution, and the norm of u says nothing of x = Aᵀu.
        damping = 0.0 if dual and self._dual else shift
        total = self._shifted_inverse(b, shift, dual, damping=damping)
        for passes in range(1, MOST_PASSES):
            rest = b - self._gram(total.x, dual)
            # Not below the rounding errors of this difference.
            rounding = 32 * torch.finfo(b.dtype).eps * largest * norm(total.x, group)
            scale = torch.maximum(norm(b, group), rounding / max(tol, torch.finfo(b.dtype).tiny))
            done = norm(rest, group) <= tol * scale
            if passes >= PASSES:
                done |= total.steps > EFFORT
            done |= ~total.converged
            if bool(done.all()):
                break
            rest = torch.where(done.view(-1, 1, 1, 1), 0.0, rest)
            more = self._shifted_inverse(rest, shift, dual, scale, damping)
            total = Solution(
                total.x + more.x,
                total.steps + more.steps,
                torch.where(done, total.residual, more.residual),
                total.converged & more.converged,
            )
        return total


def _closed(x: Tensor) -> Solution:
    """Of a closed form; the residual is still to be computed."""
    zero = torch.zeros(len(x), dtype=torch.long, device=x.device)
    return Solution(x, zero, x.new_zeros(len(x)), zero == 0)


class Composed(Composition, LinearOperator):
    """The product of two linear operators; its pseudo-inverse and prox are iterative."""

    outer: LinearOperator
    inner: LinearOperator

    def __init__(self, outer: LinearOperator, inner: LinearOperator):
        super().__init__(outer, inner)
        self._spectrum: Spectrum | None = None
        self._estimated = False

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.inner.adjoint(self.outer.adjoint(y))

    def _normal(self, x: Tensor) -> Tensor:
        return self.inner.adjoint(self.outer.normal(self.inner.A(x)))

    def _preconditioner(self, shift: float, like: Tensor) -> Map | None:
        if min(like.shape[-2:]) == 1 or self.cycle is not None:
            return None  # Not an image, or frames that are mixed.
        if not self._estimated:
            root, shape = self._adjoint, self.out_shape
            if self._dual:
                root, shape = self._forward, self.in_shape
            gram = functools.partial(self._gram, dual=self._dual)
            self._spectrum = estimated_spectrum(gram, root, shape, like)
            self._estimated = True
        return self._spectrum.inverse(shift) if self._spectrum else None
