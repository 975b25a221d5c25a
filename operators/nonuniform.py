"""Blur that differs from place to place."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from .blurs import disk
from .linear.convolution import convolution
from .linear.linear_operator import LinearOperator
from .motion import motion_kernel
from .operator import Shape
from .recipe import Recipe, check_boundary, positive_integer

__all__ = ["NonuniformBlur"]

KINDS = ("defocus", "motion")


class Blended(LinearOperator):
    """A x = Σ mₖ · (hₖ ∗ x), with maps mₖ (K, H, W) that sum to 1 at every pixel.

    Every convolution is done only as far around its map as its kernel reaches.
    """

    def __init__(
        self,
        shape: Shape,
        kernels: Sequence[Tensor],
        maps: Tensor,
        boundary: str,
        device: torch.device,
        dtype: torch.dtype,
    ):
        super().__init__(shape, shape)
        self._parts: list[tuple[slice, slice, Tensor, LinearOperator]] = []
        for kernel, each in zip(kernels, maps, strict=True):
            if not bool(each.any()):
                continue
            # Beyond the border of the image the parts mirror as the whole does; wrapping needs all.
            rows = _around(each.amax(1), kernel.shape[0], boundary)
            columns = _around(each.amax(0), kernel.shape[1], boundary)
            part = each[rows, columns].to(device, dtype)
            size = (shape[0], part.shape[0], part.shape[1])
            blur = convolution(size, kernel, boundary, device, dtype)
            self._parts.append((rows, columns, part, blur))

    def _forward(self, x: Tensor) -> Tensor:
        y = torch.zeros_like(x)
        for rows, columns, part, blur in self._parts:
            y[..., rows, columns] += part * blur.A(x[..., rows, columns])
        return y

    def _adjoint(self, y: Tensor) -> Tensor:
        x = torch.zeros_like(y)
        for rows, columns, part, blur in self._parts:
            x[..., rows, columns] += blur.adjoint(part * y[..., rows, columns])
        return x


def _around(weights: Tensor, reach: int, boundary: str) -> slice:
    """Where ``weights`` (n,) are not 0, and ``reach`` further on either side."""
    if boundary == "periodic":
        return slice(0, len(weights))
    where = weights.nonzero()
    return slice(max(0, int(where.min()) - reach), min(len(weights), int(where.max()) + reach + 1))


def hats(place: Tensor, count: int) -> Tensor:
    """Weights (count, *place.shape) of ``count`` nodes for places from 0 to 1; they sum to 1.

    Every node's weight falls to 0 at its neighbours, along half a cosine.
    """
    nodes = torch.arange(count, dtype=place.dtype).view(-1, *[1] * place.ndim)
    distance = (place * max(1, count - 1) - nodes).abs().clamp(max=1)
    weights = (1 + torch.cos(torch.pi * distance)) / 2
    return weights / weights.sum(0)


@dataclasses.dataclass(frozen=True)
class NonuniformBlur(Recipe):
    """A few kernels, blended smoothly from place to place.

    kind ``defocus``: ``count`` disks from the centre (sharp) to the corners (``size`` pixels wide),
    as of a simple lens. kind ``motion``: ``count`` x ``count`` shaken kernels of ``size`` taps on a
    grid over the image, drawn from ``seed``. ValueError for other kinds, or numbers below 1.
    """

    kind: str = "defocus"
    size: int = 25
    count: int = 4
    seed: int = 0
    boundary: str = "symmetric"
    name: ClassVar[str] = "deblur_nonuniform"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"the kind is {self.kind!r}; expected 'defocus' or 'motion'")
        size = positive_integer(self.size, "the kernel size of deblur_nonuniform")
        count = positive_integer(self.count, "the count of deblur_nonuniform")
        check_boundary(self.boundary)
        object.__setattr__(self, "size", size)
        object.__setattr__(self, "count", count)

    def kernels(self) -> list[Tensor]:
        """The kernels, float64, each with sum 1."""
        if self.kind == "motion":
            return [motion_kernel(self.size, seed=self.seed + k) for k in range(self.count**2)]
        # A single kernel is the corners'.
        radii = torch.linspace((self.size - 1) / 2, 0, self.count).flip(0)
        return [disk(float(radius)) for radius in radii]

    def maps(self, height: int, width: int) -> Tensor:
        """The weights of the kernels, float64 (K, height, width), with sum 1 at every pixel."""
        y, x = ((torch.arange(n, dtype=torch.float64) + 0.5) / n for n in (height, width))
        if self.kind == "motion":
            rows, columns = hats(y, self.count), hats(x, self.count)
            return (rows[:, None, :, None] * columns[None, :, None, :]).flatten(0, 1)
        # 0 at the centre, 1 at the corners, half the diagonal away.
        away = torch.hypot(height * (y[:, None] - 0.5), width * (x - 0.5))
        return hats(away / (0.5 * torch.tensor([height, width]).double().norm()), self.count)

    def _bind(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> LinearOperator:
        maps = self.maps(*shape[1:])
        return Blended(shape, self.kernels(), maps, self.boundary, device, dtype)
