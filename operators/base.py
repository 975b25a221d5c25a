"""Linear operators on images, and the recipes that make them."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, overload

import torch
from torch import Tensor

from .operator import Composition, Operator, Shape

Map = Callable[[Tensor], Tensor]
CG_TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-11}
"""Relative residual at which the iterative solvers stop."""
CG_STEPS = 1000


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
            lambda y: _cgls(self._forward, self._adjoint, y),
            lambda x: _cgls(self._adjoint, self._forward, x),
        )

    def _prox(self, z: Tensor, y: Tensor, gamma: float) -> Tensor:
        # With d = x − z: (I + γ AᵀA) d = γ Aᵀ(y − A z), and the system is symmetric.
        def solve(right: Tensor) -> Tensor:
            return _cg(lambda d: torch.add(d, self._normal(d), alpha=gamma), right)

        return z + linear(gamma * self._adjoint(y - self._forward(z)), solve, solve)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((1, 2, 3), keepdim=True)


def _divide(a: Tensor, b: Tensor) -> Tensor:
    """a / b, and 0 where a sample has nothing left to solve."""
    return torch.where(b > 0, a / torch.where(b > 0, b, 1.0), 0.0)


def _cg(matrix: Map, right: Tensor) -> Tensor:
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


def _cgls(forward: Map, adjoint: Map, y: Tensor) -> Tensor:
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


@dataclasses.dataclass(frozen=True)
class Recipe(ABC):
    """Plain values that say how an image was damaged; ``bind`` makes the operator for one size.

    ``name`` is the key in the registry and in ``to_dict``.
    """

    name: ClassVar[str]
    partial: ClassVar[bool] = False
    """Whether the measurement has fewer values than its picture: one channel, or fewer rows."""

    @property
    def stride(self) -> int:
        """Both image sides must be multiples of this; the measurement is smaller by it, if no
        other rule is given by ``seen`` and ``wanted``.
        """
        return 1

    def seen(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the picture of a measurement of an image, padding left out."""
        return -(-height // self.stride), -(-width // self.stride)

    def wanted(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the image, given the picture of its measurement."""
        return height * self.stride, width * self.stride

    def fitted(self, size: tuple[int, int], padded: tuple[int, int], multiple: int = 1) -> Recipe:
        """The recipe for an image of ``size`` (height, width) that is padded at the bottom and
        right to ``padded``. Itself, unless it has to tell the padding from the image.

        ``multiple`` is what the next degradation needs both sides to be multiples of.
        """
        return self

    def read(self, photo: Tensor) -> Tensor:
        """The measurement y of which ``photo`` (N, 3, h, w), in [-1, 1], is a picture.

        Raises ValueError for a measurement that no photo shows.
        """
        return photo

    def bind(
        self,
        shape: tuple[int, ...],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Operator:
        """The operator for images of ``shape`` (C, H, W).

        Raises ValueError for an empty shape or one that the stride does not divide.
        """
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(f"shape is {tuple(shape)}; expected (channels, height, width)")
        channels, height, width = shape
        if height % self.stride or width % self.stride:
            up = [-(-n // self.stride) * self.stride for n in (height, width)]
            raise ValueError(
                f"the image is {height}x{width} (height x width), which {self.stride} does not"
                f" divide; pad it to {up[0]}x{up[1]} or choose another scale"
            )
        return self._bind((channels, height, width), torch.device(device), dtype)

    @abstractmethod
    def _bind(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> Operator: ...

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values, read back by ``recipe_from_dict``."""
        return {"operator": self.name, **dataclasses.asdict(self)}


def positive_integer(value: float, what: str) -> int:
    """``value`` as an int; ValueError names ``what`` when it is not a positive whole number."""
    if isinstance(value, bool) or value != value or value < 1 or value != int(value):
        raise ValueError(f"{what} is {value}; expected a whole number of at least 1")
    return int(value)


def check_boundary(boundary: str) -> None:
    """ValueError unless the boundary is one that the blurs know."""
    if boundary not in ("reflect", "periodic"):
        raise ValueError(f"boundary is {boundary!r}; expected 'reflect' or 'periodic'")
