"""Operators that only lose: A Aᵀ is a multiple of the identity, so that everything is closed."""

from __future__ import annotations

from torch import Tensor

from .linear_operator import LinearOperator


class CoIsometry(LinearOperator):
    """An operator with A Aᵀ = ``gain`` I, such as a choice of the image's values."""

    gain: float = 1.0

    def _pinv(self, y: Tensor) -> Tensor:
        return self._adjoint(y) / self.gain if self.gain != 1 else self._adjoint(y)

    def _prox(self, z: Tensor, y: Tensor, gamma: float) -> Tensor:
        return z + gamma / (1 + gamma * self.gain) * self._adjoint(y - self._forward(z))
