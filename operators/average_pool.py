"""Super-resolution by average pooling."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import LinearOperator, Recipe, Shape, positive_integer


class _AveragePool(LinearOperator):
    def __init__(self, shape: Shape, scale: int):
        channels, height, width = shape
        super().__init__(shape, (channels, height // scale, width // scale))
        self._scale = scale

    def _blocks(self, x: Tensor) -> Tensor:
        """A view (N, C, h, d, w, d)."""
        return x.unflatten(-1, (-1, self._scale)).unflatten(-3, (-1, self._scale))

    def _replicated(self, y: Tensor) -> Tensor:
        sizes = (-1, -1, -1, self._scale, -1, self._scale)
        return y[..., :, None, :, None].expand(sizes).flatten(-2).flatten(-3, -2)

    def _forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self._scale)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._replicated(y / self._scale**2)

    def _pinv(self, y: Tensor) -> Tensor:
        return self._replicated(y)

    def _prox(self, z: Tensor, y: Tensor, gamma: float) -> Tensor:
        # A Aᵀ = I / d²
        change = (y - self._forward(z)) * (gamma / (self._scale**2 + gamma))
        x = z.clone(memory_format=torch.contiguous_format)
        self._blocks(x).add_(change[..., :, None, :, None])
        return x


@dataclasses.dataclass(frozen=True)
class AveragePool(Recipe):
    """Mean over blocks of ``scale`` x ``scale`` pixels. ValueError for a scale below 1."""

    scale: int = 4
    name: ClassVar[str] = "sr_avgpool"

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", positive_integer(self.scale, "the scale of sr_avgpool"))

    @property
    def stride(self) -> int:
        return self.scale

    def _bind(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> LinearOperator:
        return _AveragePool(shape, self.scale)
