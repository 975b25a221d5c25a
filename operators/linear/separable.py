"""Operators that act on rows and columns apart, with closed forms from two small SVDs."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from ..operator import Shape
from .linear_operator import LinearOperator

CUTOFF = {torch.float32: 1e-5, torch.float64: 1e-11}
"""Singular values below this part of the largest count as zero in the pseudo-inverse."""
BLOCK = 64
"""Rows of a matrix that are multiplied at a time."""


def mirrored(index: Tensor, size: int, boundary: str) -> Tensor:
    """Where an index outside 0..size-1 reads: half-sample reflection (…1 0 | 0 1…) or periodic."""
    if boundary == "periodic":
        return index % size
    index = index % (2 * size)
    return torch.where(index < size, index, 2 * size - 1 - index)


def banded(taps: Tensor, first: Tensor, size: int, boundary: str) -> Tensor:
    """Matrix (rows, size), float64: row i holds ``taps`` from column ``first[i]`` on, wrapped."""
    rows = len(first)
    columns = first[:, None] + torch.arange(len(taps))
    matrix = torch.zeros(rows, size, dtype=torch.float64)
    return matrix.scatter_add_(
        1, mirrored(columns, size, boundary), taps.double().expand(rows, -1).contiguous()
    )


class Matrix:
    """A matrix (m, n), multiplied in blocks of rows without the columns where a block is zero.

    Entries below the square of the rounding error count as zero, since a far tail of subnormal
    numbers is slow. ``part`` is how much of m n multiplications is left.
    """

    def __init__(self, matrix: Tensor, device: torch.device, dtype: torch.dtype):
        self.shape = matrix.shape
        smallest, largest = (float(end) for end in matrix.aminmax())
        negligible = torch.finfo(dtype).eps ** 2 * max(-smallest, largest)
        matrix = torch.where(matrix.abs() > negligible, matrix, 0.0)
        blocks = [[(slice(0, matrix.shape[1]), matrix)]]
        self.part = 1.0
        if int(matrix.count_nonzero()) < matrix.numel() / 2:
            banded = [
                [(columns, rows[:, columns]) for columns in _used(rows)]
                for rows in matrix.split(BLOCK)
            ]
            part = sum(piece.numel() for block in banded for _, piece in block) / matrix.numel()
            if part < 0.5:
                self.part, blocks = part, banded
        self._blocks = [
            [(columns, piece.to(device, dtype)) for columns, piece in block] for block in blocks
        ]

    def left(self, x: Tensor) -> Tensor:
        """M x: (N, C, n, k) to (N, C, m, k)."""
        planes = x.flatten(0, 1)

        def product(columns: slice, piece: Tensor) -> Tensor:
            # matmul would copy x transposed.
            return torch.bmm(piece.expand(len(planes), -1, -1), planes[:, columns])

        return self._joined(planes, product, -2).unflatten(0, x.shape[:2])

    def right(self, x: Tensor) -> Tensor:
        """x Mᵀ: (N, C, k, n) to (N, C, k, m)."""
        return self._joined(x, lambda columns, piece: x[..., columns] @ piece.mT, -1)

    def _joined(self, x: Tensor, product: Callable[[slice, Tensor], Tensor], dim: int) -> Tensor:
        parts = (
            functools.reduce(torch.add, (product(*piece) for piece in block))
            for block in self._blocks
        )
        if len(self._blocks) == 1:
            return next(parts)
        if torch.is_grad_enabled() and x.requires_grad:
            return torch.cat(list(parts), dim)
        shape = list(x.shape)
        shape[dim] = self.shape[0]
        result = x.new_empty(shape)
        for target, part in zip(result.split(BLOCK, dim), parts, strict=True):
            target.copy_(part)
        return result


def _used(rows: Tensor) -> list[slice]:
    """The columns that are not all zero, as one run, or two around the widest gap."""
    used = rows.any(0).nonzero().flatten()
    if len(used) < 2:
        used = used.repeat(2) if len(used) else used.new_zeros(2)
    gap = int(used.diff().argmax()) + 1
    runs = (used[:gap], used[gap:]) if used[gap] - used[gap - 1] > BLOCK else (used,)
    return [slice(int(run[0]), int(run[-1]) + 1) for run in runs]


class Pair:
    """x to H x Wᵀ, in the order of fewer multiplications, which are ``count`` for one channel."""

    def __init__(self, rows: Matrix, columns: Matrix):
        self.rows, self.columns = rows, columns
        (h, height), (w, width) = rows.shape, columns.shape
        left, right = rows.part * h * height, columns.part * w * width
        self.rows_first = left * width + right * h <= right * height + left * w
        self.count = min(left * width + right * h, right * height + left * w)

    def __call__(self, x: Tensor) -> Tensor:
        if self.rows_first:
            return self.columns.right(self.rows.left(x))
        return self.rows.left(self.columns.right(x))


class Separable(LinearOperator):
    """A x = H x Wᵀ for every channel, with ``rows`` H (h, H) and ``columns`` W (w, W) in float64.

    The pseudo-inverse drops singular values (of the whole operator) below 1e-11 of the largest in
    float64, 1e-5 in float32.
    """

    def __init__(
        self, channels: int, rows: Tensor, columns: Tensor, device: torch.device, dtype: torch.dtype
    ):
        in_shape: Shape = (channels, rows.shape[1], columns.shape[1])
        super().__init__(in_shape, (channels, rows.shape[0], columns.shape[0]))

        # For each axis the matrix and its singular values; once where the axes are alike.
        axes = [(rows, *torch.linalg.svd(rows, full_matrices=False))]
        same = rows.shape == columns.shape and torch.equal(rows, columns)
        axes.append(axes[0] if same else (columns, *torch.linalg.svd(columns, full_matrices=False)))

        def pair(of_axis: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> Pair:
            first = Matrix(of_axis(*axes[0]), device, dtype)
            return Pair(first, first if same else Matrix(of_axis(*axes[1]), device, dtype))

        values = axes[0][2][:, None] * axes[1][2]
        kept = values > CUTOFF.get(dtype, 1e-3) * values.max()
        self._values = values.to(device, dtype)
        # y in left singular vectors, x in right ones, and x from them.
        self._of_y = pair(lambda a, u, s, vt: u.mT)
        self._of_x = pair(lambda a, u, s, vt: vt)
        self._to_x = pair(lambda a, u, s, vt: vt.mT)
        self._across, self._back = pair(lambda a, *_: a), pair(lambda a, *_: a.mT)
        self._both = None
        if min(h - n for h, n in zip(self.out_shape[1:], in_shape[1:], strict=True)) >= 0:
            both = pair(lambda a, *_: a.mT @ a)
            self._both = both if both.count < self._across.count + self._back.count else None
        # Where something is dropped, the filters of singular values; elsewhere the inverse itself.
        self._inverse = torch.where(kept, 1 / torch.where(kept, values, 1.0), 0.0).to(device, dtype)
        self._kept = kept.to(device, dtype)
        self._inverse_pair = self._seen = None
        self._injective = False
        if bool(kept.all()):
            self._inverse_pair = pair(lambda a, u, s, vt: (vt.mT / s) @ u.mT)
            _, height, width = in_shape
            self._injective = values.shape == (height, width)
            if height * width * (height + width) < self._of_x.count + self._to_x.count:
                self._seen = pair(lambda a, u, s, vt: vt.mT @ vt)

    def _forward(self, x: Tensor) -> Tensor:
        return self._across(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._back(y)

    def _normal(self, x: Tensor) -> Tensor:
        return self._both(x) if self._both else self._back(self._across(x))

    def _pinv(self, y: Tensor) -> Tensor:
        if self._inverse_pair:
            return self._inverse_pair(y)
        return self._to_x(self._inverse * self._of_y(y))

    def _projection(self, x: Tensor) -> Tensor:
        if self._injective:
            return x.clone()
        if self._seen:
            return self._seen(x)
        return self._to_x(self._kept * self._of_x(x))

    def _prox(self, z: Tensor, y: Tensor, gamma: float) -> Tensor:
        # x = z + γ Aᵀ (I + γ A Aᵀ)⁻¹ (y − A z), diagonal in the singular vectors.
        shrunk = gamma * self._values / (1 + gamma * self._values.square())
        return self._to_x(shrunk * self._of_y(y - self._forward(z))).add_(z)
