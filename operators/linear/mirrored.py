"""Convolution of a mirrored image with any kernel, by FFT, and its exact adjoint."""

from __future__ import annotations

import torch
from torch import Tensor

from ..operator import Shape
from .linear_operator import LinearOperator
from .preconditioner import Spectrum, spectrum_of_kernels
from .solvers import Map
from .transforms import fast_length, in_parts


def extend(x: Tensor, before: int, after: int, dim: int) -> Tensor:
    """``x`` with ``before`` and ``after`` elements of its half-sample reflection along ``dim``."""
    n = x.shape[dim]
    b, a = min(before, n), min(after, n)
    ends = x.narrow(dim, 0, b).flip(dim), x.narrow(dim, n - a, a).flip(dim)
    x = torch.cat([ends[0], x, ends[1]], dim)
    return x if (b, a) == (before, after) else extend(x, before - b, after - a, dim)


def fold(y: Tensor, before: int, after: int, dim: int) -> Tensor:
    """The transpose of ``extend``."""
    n = y.shape[dim] - before - after
    b, a = min(before, n), min(after, n)
    if (b, a) != (before, after):
        y = fold(y, before - b, after - a, dim)
    x = y.narrow(dim, b, n).clone()
    x.narrow(dim, 0, b).add_(y.narrow(dim, 0, b).flip(dim))
    x.narrow(dim, n - a, a).add_(y.narrow(dim, b + n, a).flip(dim))
    return x


class MirroredConvolution(LinearOperator):
    """A x = h ∗ x per channel, for a kernel (kh, kw) whose centre is the tap (kh // 2, kw // 2),
    of the image mirrored at its border (half-sample) as far as the kernel reaches. Pseudo-inverse
    and prox are iterative, preconditioned by the nearest even kernel.
    """

    def __init__(self, shape: Shape, kernel: Tensor, device: torch.device, dtype: torch.dtype):
        super().__init__(shape, shape)
        _, height, width = shape
        kh, kw = kernel.shape
        # Output i reads inputs i + c − k for taps k: kernel // 2 after it, the rest before it.
        self._reach = [(k - 1 - k // 2, k // 2) for k in (kh, kw)]
        self._size = tuple(fast_length(n + k - 1) for n, k in ((height, kh), (width, kw)))
        canvas = torch.zeros(self._size, dtype=torch.float64)
        # Position j of the extended image is kh − 1 ahead of output j: shift the kernel back.
        canvas[:kh, :kw] = kernel.double().cpu()
        response = torch.fft.rfft2(canvas.roll((1 - kh, 1 - kw), (0, 1)))
        half = torch.complex128 if dtype == torch.float64 else torch.complex64
        self._response = response.to(device, half)
        self._kernel = kernel
        self._spectrum: Spectrum | None = None

    def _forward(self, x: Tensor) -> Tensor:
        return in_parts(lambda x: self._there(x).contiguous(), x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return in_parts(self._back, y)

    def _normal(self, x: Tensor) -> Tensor:
        return in_parts(lambda x: self._back(self._there(x)), x)

    def _preconditioner(self, shift: float, like: Tensor) -> Map:
        if self._spectrum is None:
            size = self.in_shape[1:]
            self._spectrum = spectrum_of_kernels(
                [self._kernel], [1.0], size, like.device, like.dtype
            )
        return self._spectrum.inverse(shift)

    def _there(self, x: Tensor) -> Tensor:
        _, height, width = self.in_shape
        # Extended up to the length of the FFT; what the kernel does not reach does not matter.
        for dim in (-1, -2):
            before = self._reach[dim][0]
            x = extend(x, before, self._size[dim] - x.shape[dim] - before, dim)
        spectrum = torch.fft.rfft2(x).mul_(self._response)
        return torch.fft.irfft2(spectrum, s=self._size)[..., :height, :width]

    def _back(self, y: Tensor) -> Tensor:
        _, height, width = self.in_shape
        spectrum = torch.fft.rfft2(y, s=self._size).mul_(self._response.conj())
        x = torch.fft.irfft2(spectrum, s=self._size)
        for dim, n in ((-2, height), (-1, width)):
            before, after = self._reach[dim]
            x = fold(x.narrow(dim, 0, n + before + after), before, after, dim)
        return x
