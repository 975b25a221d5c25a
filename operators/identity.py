"""The identity operator, the degradation of denoising."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor

from .linear.linear_operator import LinearOperator
from .operator import Shape
from .recipe import Recipe

__all__ = ["Identity"]


class _Identity(LinearOperator):
    def __init__(self, shape: Shape):
        super().__init__(shape, shape)

    def _forward(self, x: Tensor) -> Tensor:
        return x.clone()

    def _adjoint(self, y: Tensor) -> Tensor:
        return y.clone()

    def _pinv(self, y: Tensor) -> Tensor:
        return y.clone()

    def _normal(self, x: Tensor) -> Tensor:
        return x.clone()

    def _projection(self, x: Tensor) -> Tensor:
        return x.clone()

    def _prox(self, z: Tensor, y: Tensor, gamma: float) -> Tensor:
        return (z + gamma * y) / (1 + gamma)


@dataclasses.dataclass(frozen=True)
class Identity(Recipe):
    """A x = x; with measurement noise, the task is denoising."""

    name: ClassVar[str] = "identity"

    def _bind(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> LinearOperator:
        return _Identity(shape)
