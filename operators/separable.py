"""Operators that act on rows and columns apart, with closed forms from two small SVDs."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import LinearOperator, Shape

CUTOFF = {torch.float32: 1e-5, torch.float64: 1e-11}
"""Singular values below this part of the largest count as zero in the pseudo-inverse."""


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
        u, s, vt = torch.linalg.svd(rows, full_matrices=False)
        p, t, qt = torch.linalg.svd(columns, full_matrices=False)
        values = s[:, None] * t
        kept = values > CUTOFF.get(dtype, 1e-3) * values.max()
        inverse = torch.where(kept, 1 / torch.where(kept, values, 1.0), 0.0)
        moved = [m.to(device, dtype) for m in (rows, columns, u, vt, p, qt, values, inverse)]
        self._rows, self._columns, self._u, self._vt, self._p, self._qt = moved[:6]
        self._values, self._inverse = moved[6:]

    def _forward(self, x: Tensor) -> Tensor:
        return self._rows @ x @ self._columns.mT

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._rows.mT @ y @ self._columns

    def _spectral(self, y: Tensor, filter_: Tensor) -> Tensor:
        return self._vt.mT @ (filter_ * (self._u.mT @ y @ self._p)) @ self._qt

    def _pinv(self, y: Tensor) -> Tensor:
        return self._spectral(y, self._inverse)

    def _prox(self, z: Tensor, y: Tensor, gamma: float) -> Tensor:
        # x = z + γ Aᵀ (I + γ A Aᵀ)⁻¹ (y − A z), diagonal in the singular vectors.
        shrunk = gamma * self._values / (1 + gamma * self._values.square())
        return z + self._spectral(y - self._forward(z), shrunk)
