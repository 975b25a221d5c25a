"""Convolution with any kernel, by FFT, and its exact adjoint at both kinds of border."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .base import LinearOperator, Map, Shape
from .separable import CUTOFF, Matrix, Pair, banded, mirrored


def fast_length(n: int) -> int:
    """Smallest number from ``n`` on without prime factors above 7, of which an FFT is fast."""
    while True:
        rest = n
        for factor in (2, 3, 5, 7):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return n
        n += 1


def _upto(n: int) -> Tensor:
    return torch.arange(n, dtype=torch.float64)


class _Fourier:
    """What periodic convolution is diagonal in: x (N, C, H, W) to its half spectrum and back."""

    def __init__(self, height: int, width: int):
        self.size = (height, width)

    def response(self, kernel: Tensor) -> Tensor:
        """Eigenvalues of the convolution with ``kernel``, centred at (kh // 2, kw // 2)."""
        canvas = torch.zeros(self.size, dtype=torch.float64)
        rows, columns = (
            (torch.arange(k) - k // 2) % n for k, n in zip(kernel.shape, self.size, strict=True)
        )
        where = (rows[:, None].expand(kernel.shape), columns.expand(kernel.shape))
        return torch.fft.rfft2(canvas.index_put_(where, kernel, accumulate=True))

    def there(self, x: Tensor) -> Tensor:
        return torch.fft.rfft2(x)

    def back(self, spectrum: Tensor) -> Tensor:
        return torch.fft.irfft2(spectrum, s=self.size)


class _Cosine:
    """What convolution with a kernel that is even along both axes is diagonal in, when the image is
    mirrored (half-sample): the cosine transform of type II (Makhoul 1980: by a real FFT).

    An axis of n coefficients X is kept as the pairs (X[k], −X[n − k]), k = 0 … n // 2.
    """

    def __init__(self, height: int, width: int, device: torch.device, dtype: torch.dtype):
        self.size = (height, width)
        # The even pixels, then the odd ones backwards.
        orders = [torch.cat([_upto(n)[::2], _upto(n)[1::2].flip(0)]).long() for n in self.size]
        self._order = [order.to(device) for order in orders]
        self._place = [order.argsort().to(device) for order in orders]
        complex_type = torch.complex128 if dtype == torch.float64 else torch.complex64
        turns = [torch.exp(_upto(n // 2 + 1) * (-0.5j * math.pi / n)) for n in self.size]
        self._turn = [t.to(device, complex_type) for t in (turns[0][:, None], turns[1])]

    def response(self, kernel: Tensor) -> Tensor:
        """Eigenvalues of the convolution with ``kernel``, of odd sizes, centred."""
        waves, pairs = [], []
        for n, k in zip(self.size, kernel.shape, strict=True):
            waves.append(torch.cos(math.pi / n * _upto(n)[:, None] * (_upto(k) - k // 2)))
            half = torch.arange(n // 2 + 1)
            pairs.append(torch.stack([half, -half % n], 1))
        values = waves[0] @ kernel @ waves[1].mT
        return values[pairs[0][:, None], pairs[1].view(1, -1, 1)]

    def there(self, x: Tensor) -> Tensor:
        x = x.index_select(-1, self._order[1]).index_select(-2, self._order[0])
        x = torch.view_as_real(torch.fft.rfft(x) * self._turn[1]).flatten(-2)
        return torch.view_as_real(torch.fft.rfft(x, dim=-2) * self._turn[0])

    def back(self, spectrum: Tensor) -> Tensor:
        height, width = self.size
        x = torch.view_as_complex(spectrum) * self._turn[0].conj()
        x = torch.fft.irfft(x, height, dim=-2).contiguous()
        x = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
        x = torch.fft.irfft(x * self._turn[1].conj(), width)
        return x.index_select(-2, self._place[0]).index_select(-1, self._place[1])


class Convolution(LinearOperator):
    """A x = h ∗ x per channel, for a kernel (kh, kw) whose centre is the tap (kh // 2, kw // 2).

    ``reflect`` mirrors the image at its border (half-sample) as far as the kernel reaches;
    ``periodic`` wraps it. With ``periodic``, or with a kernel of odd sizes that is even along both
    axes, pseudo-inverse and prox are closed forms.
    """

    def __init__(
        self, shape: Shape, kernel: Tensor, boundary: str, device: torch.device, dtype: torch.dtype
    ):
        super().__init__(shape, shape)
        _, height, width = shape
        kernel = kernel.double().cpu()
        kh, kw = kernel.shape
        even = kh % 2 == kw % 2 == 1 and all(
            torch.allclose(kernel, kernel.flip(axis), rtol=1e-14, atol=0) for axis in (0, 1)
        )
        self._diagonal = _Fourier(height, width)
        response = self._diagonal.response(kernel)
        if boundary == "reflect" and even:
            self._diagonal = _Cosine(height, width, device, dtype)
            response = self._diagonal.response(kernel)
        single = torch.float64 if dtype == torch.float64 else torch.float32
        power = response.abs().square()
        self._cutoff = CUTOFF.get(dtype, 1e-3) ** 2 * float(power.max())
        self._regular = bool((power > self._cutoff).all())
        self._power = power.to(device, single)
        self._response = response.to(
            device, single.to_complex() if response.is_complex() else single
        )
        self._exact = boundary == "periodic" or even
        if self._exact:
            return
        # Output i reads inputs i + c − k for taps k: kernel // 2 after it, the rest before it.
        before = (kh - 1 - kh // 2, kw - 1 - kw // 2)
        self._index = [
            mirrored(torch.arange(n + k - 1) - b, n, boundary).to(device)
            for n, k, b in zip((height, width), (kh, kw), before, strict=True)
        ]
        self._size = tuple(fast_length(len(index)) for index in self._index)
        canvas = torch.zeros(self._size, dtype=torch.float64)
        # Position j of the extended image is kh − 1 ahead of output j: shift the kernel back.
        canvas[:kh, :kw] = kernel
        canvas = canvas.roll((1 - kh, 1 - kw), (0, 1))
        self._extended = torch.fft.rfft2(canvas).to(device, self._response.dtype)

    def _forward(self, x: Tensor) -> Tensor:
        if self._exact:
            return self._diagonal.back(self._diagonal.there(x).mul_(self._response))
        _, height, width = self.in_shape
        x = x.index_select(-1, self._index[1]).index_select(-2, self._index[0])
        spectrum = torch.fft.rfft2(x, s=self._size).mul_(self._extended)
        return torch.fft.irfft2(spectrum, s=self._size)[..., :height, :width]

    def _adjoint(self, y: Tensor) -> Tensor:
        if self._exact:
            return self._diagonal.back(self._diagonal.there(y).mul_(self._response.conj()))
        _, height, width = self.in_shape
        rows, columns = self._index
        spectrum = torch.fft.rfft2(y, s=self._size).mul_(self._extended.conj())
        x = torch.fft.irfft2(spectrum, s=self._size)[..., : len(rows), : len(columns)]
        x = x.new_zeros(*x.shape[:-2], height, len(columns)).index_add(-2, rows, x)
        return x.new_zeros(*x.shape[:-1], width).index_add(-1, columns, x)

    def _normal(self, x: Tensor) -> Tensor:
        if not self._exact:
            return super()._normal(x)
        return self._diagonal.back(self._diagonal.there(x).mul_(self._power))

    def _kept(self) -> Tensor:
        return self._power > self._cutoff

    def _projection(self, x: Tensor) -> Tensor:
        if not self._exact:
            return super()._projection(x)
        if self._regular:
            return x.clone()
        return self._diagonal.back(self._diagonal.there(x).mul_(self._kept()))

    def _pinv(self, y: Tensor) -> Tensor:
        if not self._exact:
            return super()._pinv(y)
        inverse = torch.where(self._kept(), self._response.conj() / self._power, 0.0)
        return self._diagonal.back(self._diagonal.there(y).mul_(inverse))

    def _prox(self, z: Tensor, y: Tensor, gamma: float) -> Tensor:
        if not self._exact:
            return super()._prox(z, y, gamma)
        spectrum = self._diagonal.there(z)
        change = self._diagonal.there(y) - spectrum * self._response
        shrunk = self._response.conj() * (gamma / (1 + gamma * self._power))
        return self._diagonal.back(spectrum + change.mul_(shrunk))

    def _preconditioner(self, gamma: float) -> Map | None:
        # The same with a periodic border.
        weight = 1 / (1 + gamma * self._power)
        return lambda r: self._diagonal.back(self._diagonal.there(r).mul_(weight))


class SeparableConvolution(Convolution):
    """Convolution with the kernel ``rows`` ⊗ ``columns``: A and its adjoint by two products with
    banded matrices, the rest as in ``Convolution``.
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
        # Row i of a matrix holds the taps backwards.
        matrices = [
            banded(taps.flip(0), torch.arange(n) - (len(taps) - 1 - len(taps) // 2), n, boundary)
            for taps, n in zip((rows, columns), shape[1:], strict=True)
        ]
        self._across, self._back = (
            Pair(*(Matrix(m, device, dtype) for m in pair))
            for pair in (matrices, [m.mT for m in matrices])
        )

    def _forward(self, x: Tensor) -> Tensor:
        return self._across(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._back(y)
