"""Convolution with any kernel at both kinds of border, in closed form where there is one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..operator import Shape
from .linear_operator import LinearOperator
from .mirrored import MirroredConvolution
from .separable import CUTOFF, Matrix, Pair, banded
from .transforms import Cosine, Fourier, in_parts


def convolution(
    shape: Shape, kernel: Tensor, boundary: str, device: torch.device, dtype: torch.dtype
) -> LinearOperator:
    """A x = h ∗ x per channel, for a kernel (kh, kw) whose centre is the tap (kh // 2, kw // 2).

    ``symmetric`` mirrors the image at its border (half-sample) as far as the kernel reaches;
    ``periodic`` wraps it. With ``periodic``, or with a kernel of odd sizes that is even along both
    axes, pseudo-inverse and prox are closed forms.
    """
    if boundary == "periodic" or _even(kernel):
        return DiagonalConvolution(shape, kernel, boundary, device, dtype)
    return MirroredConvolution(shape, kernel, device, dtype)


def _even(kernel: Tensor) -> bool:
    return all(n % 2 for n in kernel.shape) and all(
        torch.allclose(kernel, kernel.flip(axis), rtol=1e-14, atol=0) for axis in (0, 1)
    )


class DiagonalConvolution(LinearOperator):
    """``convolution`` where a transform diagonalises it: a periodic image, or an even kernel."""

    def __init__(
        self, shape: Shape, kernel: Tensor, boundary: str, device: torch.device, dtype: torch.dtype
    ):
        super().__init__(shape, shape)
        _, height, width = shape
        if boundary == "periodic":
            self._diagonal = Fourier(height, width)
        else:
            self._diagonal = Cosine(height, width, device, dtype)
        response = self._diagonal.response(kernel.double().cpu())
        power = (response * response.conj()).real
        self._cutoff = CUTOFF.get(dtype, 1e-3) ** 2 * float(power.max())
        self._regular = bool((power > self._cutoff).all())
        double = dtype == torch.float64
        real, half = (
            (torch.float64, torch.complex128) if double else (torch.float32, torch.complex64)
        )
        self._response = response.to(device, half if response.is_complex() else real)
        self._power = power.to(device, real)

    def _filtered(self, x: Tensor, factor: Tensor) -> Tensor:
        there, back = self._diagonal.there, self._diagonal.back
        return in_parts(lambda x: back(there(x).mul_(factor)), x)

    def _forward(self, x: Tensor) -> Tensor:
        return self._filtered(x, self._response)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._filtered(y, self._response.conj())

    def _normal(self, x: Tensor) -> Tensor:
        return self._filtered(x, self._power)

    def _kept(self) -> Tensor:
        return self._power > self._cutoff

    def _projection(self, x: Tensor) -> Tensor:
        return x.clone() if self._regular else self._filtered(x, self._kept())

    def _pinv(self, y: Tensor) -> Tensor:
        inverse = torch.where(self._kept(), self._response.conj() / self._power, 0.0)
        return self._filtered(y, inverse)

    def _prox(self, z: Tensor, y: Tensor, gamma: float) -> Tensor:
        z, y = torch.broadcast_tensors(z, y)
        shrunk = self._response.conj() * (gamma / (1 + gamma * self._power))

        def moved(z: Tensor, y: Tensor) -> Tensor:
            spectrum = self._diagonal.there(z)
            change = self._diagonal.there(y) - spectrum * self._response
            return self._diagonal.back(spectrum + change.mul_(shrunk))

        return in_parts(moved, z, y)


class EvenConvolution(DiagonalConvolution):
    """Convolution with ``rows`` ⊗ ``columns``, both of odd length and even about their centres.

    A, which is its own transpose, is two products with banded matrices where this is faster than
    the transform; the rest is as in ``DiagonalConvolution``.
    """

    def __init__(
        self,
        shape: Shape,
        rows: Tensor,
        columns: Tensor,
        boundary: str,
        device: torch.device,
        dtype: torch.dtype,
    ):
        super().__init__(shape, rows[:, None] * columns, boundary, device, dtype)
        alike = shape[1] == shape[2] and torch.equal(rows, columns)

        def pair(*kernels: Tensor) -> Pair:
            made: list[Matrix] = []
            for taps, n in zip(kernels, shape[1:], strict=True):
                if not (made and alike):
                    matrix = banded(taps, torch.arange(n) - len(taps) // 2, n, boundary)
                    made.append(Matrix(matrix, device, dtype))
            return Pair(made[0], made[-1])

        kernels = [rows.double(), columns.double()]
        self._across = pair(*kernels)
        # A square is the convolution with the kernel's autocorrelation, at either border.
        self._square = pair(
            *(F.conv1d(h[None, None], h[None, None], padding=len(h) - 1)[0, 0] for h in kernels)
        )

    def _product(self, pair: Pair) -> bool:
        """Whether ``pair`` beats the transform, which the narrow bands of large images do."""
        limit = 0.25 if isinstance(self._diagonal, Fourier) else 0.5
        return max(pair.rows.part, pair.columns.part) < limit

    def _forward(self, x: Tensor) -> Tensor:
        return self._across(x) if self._product(self._across) else super()._forward(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._forward(y)

    def _normal(self, x: Tensor) -> Tensor:
        return self._square(x) if self._product(self._square) else super()._normal(x)
