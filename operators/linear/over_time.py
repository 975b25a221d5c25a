"""Operators that mix the frames of a film, pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..operator import Shape
from .linear_operator import LinearOperator


class OverTime(LinearOperator):
    """Frame m of the measurement is Σ W[m, t] x[t] over the frames t of the film.

    ``matrices``: W, (M, T) each, float64 on the CPU: row k of every picture is mixed by number
    k mod ``len(matrices)``, so that one matrix is for all rows and two are for the two fields of
    video. Longer films are mixed T frames at a time. Pseudo-inverse and prox are closed forms.
    """

    def __init__(
        self,
        shape: Shape,
        matrices: Sequence[Tensor],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__(shape, shape)
        seen, film = matrices[0].shape
        self.cycle = film, seen
        self._exact, self._place = list(matrices), (device, dtype)
        self._matrices = self._placed(self._exact)
        self._transposed = self._placed([w.T for w in self._exact])
        inverses = [torch.linalg.pinv(w) for w in self._exact]
        self._inverses = self._placed(inverses)
        self._projections = self._placed(
            [a @ w for a, w in zip(inverses, self._exact, strict=True)]
        )

    def _placed(self, matrices: Sequence[Tensor]) -> list[Tensor]:
        return [w.to(*self._place) for w in matrices]

    def _mixed(self, x: Tensor, matrices: Sequence[Tensor]) -> Tensor:
        """Frames x (n · T, C, H, W) mixed over time, (n · M, C, H, W)."""
        rows, columns = matrices[0].shape
        films = x.reshape(-1, columns, *x.shape[1:])
        result = x.new_empty(len(films), rows, *x.shape[1:])
        for k, w in enumerate(matrices):
            every = slice(k, None, len(matrices))
            result[..., every, :] = torch.einsum("mt,ntchw->nmchw", w, films[..., every, :])
        return result.flatten(0, 1)

    def _forward(self, x: Tensor) -> Tensor:
        return self._mixed(x, self._matrices)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._mixed(y, self._transposed)

    def _pinv(self, y: Tensor) -> Tensor:
        return self._mixed(y, self._inverses)

    def _projection(self, x: Tensor) -> Tensor:
        return self._mixed(x, self._projections)

    def _prox(self, z: Tensor, y: Tensor, gamma: float) -> Tensor:
        ones = torch.eye(self._exact[0].shape[1], dtype=torch.float64)
        inverse = [torch.linalg.inv(ones + gamma * w.T @ w) for w in self._exact]
        return self._mixed(z + gamma * self._adjoint(y), self._placed(inverse))
