"""Spatially varying blur."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from .blurs import disk
from .linear.convolution import convolution
from .linear.linear_operator import LinearOperator
from .linear.preconditioner import Spectrum, spectrum_of_kernels
from .linear.solvers import Map
from .motion import motion_kernel
from .operator import Shape
from .recipe import WIDEST, Recipe, check_boundary, check_seed, positive_integer

__all__ = ["NonuniformBlur"]

KINDS = ("defocus", "motion")


class Blended(LinearOperator):
    """A x = Σ mₖ · (hₖ ∗ x), with weight maps mₖ (K, H, W) that sum to 1 at every pixel.

    Every convolution is computed only on the support of its map, enlarged by the kernel's size.
    Pseudo-inverse and prox are iterative.
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
        self._kernels: list[Tensor] = []
        self._spectra: list[Spectrum] = []
        self._parts: list[tuple[slice, slice, Tensor, LinearOperator]] = []
        for kernel, each in zip(kernels, maps, strict=True):
            if not bool(each.any()):
                continue
            # Symmetric extension of a part is that of the image at its border; wrapping around
            # needs the whole image.
            rows = _around(each.amax(1), kernel.shape[0], boundary)
            columns = _around(each.amax(0), kernel.shape[1], boundary)
            part = each[rows, columns].to(device, dtype)
            size = (shape[0], part.shape[0], part.shape[1])
            blur = convolution(size, kernel, boundary, device, dtype)
            self._kernels.append(kernel)
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

    def _preconditioner(self, shift: float, like: Tensor) -> Map:
        self._spectra = self._spectra or self._local_spectra()
        inverses = [spectrum.inverse(shift) for spectrum in self._spectra]

        def blended(x: Tensor) -> Tensor:
            result = torch.zeros_like(x)
            for (rows, columns, part, _), inverse in zip(self._parts, inverses, strict=True):
                root = part.sqrt()
                result[..., rows, columns] += root * inverse(root * x[..., rows, columns])
            return result

        return blended

    def _local_spectra(self) -> list[Spectrum]:
        """For every map, the spectrum of AᵀA around it, with a share of the kernels it overlaps:
        what one kernel removes, the others let pass.
        """
        spectra = []
        for rows, columns, part, _ in self._parts:
            shares = []
            for other_rows, other_columns, other, _ in self._parts:
                whole = part.new_zeros(self.in_shape[1:])
                whole[other_rows, other_columns] = other
                shares.append(float((part * whole[rows, columns]).sum()))
            used = [(k, s) for k, s in zip(self._kernels, shares, strict=True) if s > 0]
            kernels = [kernel for kernel, _ in used]
            weights = [share / sum(shares) for _, share in used]
            size = (part.shape[0], part.shape[1])
            spectra.append(spectrum_of_kernels(kernels, weights, size, part.device, part.dtype))
        return spectra


def _around(weights: Tensor, reach: int, boundary: str) -> slice:
    """The range in which ``weights`` (n,) are not 0, extended by ``reach`` on either side."""
    if boundary == "periodic":
        return slice(0, len(weights))
    where = weights.nonzero()
    return slice(max(0, int(where.min()) - reach), min(len(weights), int(where.max()) + reach + 1))


def hats(place: Tensor, count: int) -> Tensor:
    """Interpolation weights (count, *place.shape) of ``count`` evenly spaced nodes in [0, 1].

    They sum to 1 at every place; the weight of a node falls to 0 at its neighbours as a raised
    cosine.
    """
    nodes = torch.arange(count, dtype=place.dtype).view(-1, *[1] * place.ndim)
    distance = (place * max(1, count - 1) - nodes).abs().clamp(max=1)
    weights = (1 + torch.cos(torch.pi * distance)) / 2
    return weights / weights.sum(0)


@dataclasses.dataclass(frozen=True)
class NonuniformBlur(Recipe):
    """Spatially varying blur: a smooth blend of several kernels.

    kind ``defocus``: ``count`` disks, from sharp at the centre to ``size`` pixels wide at the
    corners, as of a simple lens. kind ``motion``: a grid of ``count`` x ``count`` motion kernels of
    ``size`` taps, drawn from ``seed``. ValueError for other kinds, or a size or count below 1.
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
        size = positive_integer(self.size, "the kernel size of deblur_nonuniform", WIDEST)
        count = positive_integer(self.count, "the count of deblur_nonuniform", 16)
        check_boundary(self.boundary)
        check_seed(self.seed)
        object.__setattr__(self, "size", size)
        object.__setattr__(self, "count", count)

    def kernels(self) -> list[Tensor]:
        """The kernels, float64, each with sum 1."""
        if self.kind == "motion":
            return [motion_kernel(self.size, seed=self.seed + k) for k in range(self.count**2)]
        # A single kernel is that of the corners.
        radii = torch.linspace((self.size - 1) / 2, 0, self.count).flip(0)
        return [disk(float(radius)) for radius in radii]

    def maps(self, height: int, width: int) -> Tensor:
        """The weights of the kernels, float64 (K, height, width), with sum 1 at every pixel."""
        y, x = ((torch.arange(n, dtype=torch.float64) + 0.5) / n for n in (height, width))
        if self.kind == "motion":
            rows, columns = hats(y, self.count), hats(x, self.count)
            return (rows[:, None, :, None] * columns[None, :, None, :]).flatten(0, 1)
        # Distance from the centre over half the diagonal: 0 at the centre, 1 at the corners.
        away = torch.hypot(height * (y[:, None] - 0.5), width * (x - 0.5))
        return hats(away / (0.5 * torch.tensor([height, width]).double().norm()), self.count)

    def _bind(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> LinearOperator:
        maps = self.maps(*shape[1:])
        return Blended(shape, self.kernels(), maps, self.boundary, device, dtype)
