"""Operators that multiply every value by a weight of its own, as masks do."""

from __future__ import annotations

import torch
from torch import Tensor

from ..operator import Shape
from .linear_operator import LinearOperator


class Diagonal(LinearOperator):
    """Every value times a weight: ``weights`` (H, W) of every pixel, or of the frames of one film,
    (T, 1, H, W) or (T, 1, 1, 1). A weight of 0 measures nothing."""

    def __init__(self, shape: Shape, weights: Tensor):
        super().__init__(shape, shape)
        self._weights = weights
        if weights.ndim == 4:
            self.cycle, self.once = (len(weights), len(weights)), True
        known = weights > 0
        self._inverse = torch.where(known, 1 / torch.where(known, weights, 1.0), 0.0)

    @property
    def measured(self) -> Tensor:
        frames = 1 if self.cycle is None else self.cycle[1]
        return (self._weights > 0).expand(frames, *self.out_shape)

    def _forward(self, x: Tensor) -> Tensor:
        return self._weights * x

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._weights * y

    def _pinv(self, y: Tensor) -> Tensor:
        return self._inverse * y

    def _prox(self, z: Tensor, y: Tensor, gamma: float) -> Tensor:
        m = self._weights
        return (z + gamma * m * y) / (1 + gamma * m.square())
