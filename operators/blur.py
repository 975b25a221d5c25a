"""Convolution with any kernel, by FFT, and its exact adjoint at both kinds of border."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import LinearOperator, Shape
from .separable import CUTOFF, Matrix, Pair, banded

AT_ONCE = 2**20
"""Pixels that are transformed at a time: larger images one channel after another."""


def in_parts(function: Callable[..., Tensor], *images: Tensor) -> Tensor:
    """``function(*images)``, which treats every channel alike, on as many channels as are needed
    for ``AT_ONCE`` pixels: in little memory, and faster than on all of a large image.
    """
    n, channels, height, width = images[0].shape
    count = max(1, AT_ONCE // (height * width))
    if n * channels <= count:
        return function(*images)
    planes = [x.reshape(-1, 1, height, width).split(count) for x in images]
    result = images[0].new_empty(n * channels, 1, height, width)
    for i, parts in enumerate(zip(*planes, strict=True)):
        result[i * count : (i + 1) * count] = function(*parts)
    return result.view(n, channels, height, width)


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
    mirrored (half-sample): the cosine transform of type II, by one FFT (Makhoul 1980).

    Of the coefficients X, row i and column k < W // 2 + 1 hold X[i, k] − 1j X[i, W − k].
    """

    def __init__(self, height: int, width: int, device: torch.device, dtype: torch.dtype):
        self.size = (height, width)
        rows, columns = (
            torch.exp(_upto(k) * (-0.5j * math.pi / n))
            for k, n in ((height, height), (width // 2 + 1, width))
        )
        complex_type = torch.complex128 if dtype == torch.float64 else torch.complex64
        # Half of it there and half of it back.
        self._turn = (math.sqrt(0.5) * rows[:, None] * columns).to(device, complex_type)
        self._opposite = (-torch.arange(height) % height).to(device)

    def response(self, kernel: Tensor) -> Tensor:
        """Eigenvalues of the convolution with ``kernel``, of odd sizes, centred, for the real and
        the imaginary part of every coefficient.
        """
        rows, columns = (
            torch.cos(math.pi / n * _upto(n)[:, None] * (_upto(k) - k // 2))
            for n, k in zip(self.size, kernel.shape, strict=True)
        )
        half = torch.arange(self.size[1] // 2 + 1)
        pairs = torch.stack([half, -half % self.size[1]], -1)
        return (rows @ kernel @ columns[pairs.flatten()].mT).unflatten(-1, (-1, 2))

    def there(self, x: Tensor) -> Tensor:
        shuffled = torch.empty_like(x, memory_format=torch.contiguous_format)
        for quarter, pixels, flipped in _quarters(shuffled, x):
            quarter.copy_(pixels.flip(flipped))
        spectrum = torch.fft.rfft2(shuffled).mul_(self._turn)
        result = torch.add(spectrum, spectrum.index_select(-2, self._opposite), alpha=1j)
        result[..., 0, :] = 2 * spectrum[..., 0, :]
        return torch.view_as_real(result)

    def back(self, spectrum: Tensor) -> Tensor:
        spectrum = torch.view_as_complex(spectrum)
        turned = torch.sub(spectrum, spectrum.index_select(-2, self._opposite), alpha=1j)
        turned[..., 0, :] = spectrum[..., 0, :]
        shuffled = torch.fft.irfft2(turned.mul_(self._turn.conj()), s=self.size)
        x = torch.empty_like(shuffled, memory_format=torch.contiguous_format)
        for quarter, pixels, flipped in _quarters(shuffled, x):
            pixels.copy_(quarter.flip(flipped))
        return x


def _quarters(shuffled: Tensor, x: Tensor) -> Iterator[tuple[Tensor, Tensor, list[int]]]:
    """Views of an image whose rows and columns are first the even ones and then the odd ones
    backwards, the views of ``x`` that belong to them, and the axes that run backwards.
    """
    above, left = (n - n // 2 for n in x.shape[-2:])
    for odd_row in (0, 1):
        rows = slice(above, None) if odd_row else slice(above)
        for odd_column in (0, 1):
            columns = slice(left, None) if odd_column else slice(left)
            flipped = [-2] * odd_row + [-1] * odd_column
            yield shuffled[..., rows, columns], x[..., odd_row::2, odd_column::2], flipped


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
        double = dtype == torch.float64
        real, half = (
            (torch.float64, torch.complex128) if double else (torch.float32, torch.complex64)
        )
        self._exact = boundary == "periodic" or even
        if self._exact:
            if boundary == "periodic":
                self._diagonal = _Fourier(height, width)
            else:
                self._diagonal = _Cosine(height, width, device, dtype)
            response = self._diagonal.response(kernel)
            power = (response * response.conj()).real
            self._cutoff = CUTOFF.get(dtype, 1e-3) ** 2 * float(power.max())
            self._regular = bool((power > self._cutoff).all())
            self._response = response.to(device, half if response.is_complex() else real)
            self._power = power.to(device, real)
            return
        # Output i reads inputs i + c − k for taps k: kernel // 2 after it, the rest before it.
        self._reach = [(k - 1 - k // 2, k // 2) for k in (kh, kw)]
        self._size = tuple(fast_length(n + k - 1) for n, k in ((height, kh), (width, kw)))
        canvas = torch.zeros(self._size, dtype=torch.float64)
        # Position j of the extended image is kh − 1 ahead of output j: shift the kernel back.
        canvas[:kh, :kw] = kernel
        self._extended = torch.fft.rfft2(canvas.roll((1 - kh, 1 - kw), (0, 1))).to(device, half)

    def _filtered(self, x: Tensor, factor: Tensor) -> Tensor:
        there, back = self._diagonal.there, self._diagonal.back
        return in_parts(lambda x: back(there(x).mul_(factor)), x)

    def _forward(self, x: Tensor) -> Tensor:
        if self._exact:
            return self._filtered(x, self._response)
        return in_parts(lambda x: self._mirrored(x).contiguous(), x)

    def _adjoint(self, y: Tensor) -> Tensor:
        if self._exact:
            return self._filtered(y, self._response.conj())
        return in_parts(self._mirrored_adjoint, y)

    def _mirrored(self, x: Tensor) -> Tensor:
        _, height, width = self.in_shape
        # Extended up to the length of the FFT; what the kernel does not reach does not matter.
        for dim in (-1, -2):
            before = self._reach[dim][0]
            x = extend(x, before, self._size[dim] - x.shape[dim] - before, dim)
        spectrum = torch.fft.rfft2(x).mul_(self._extended)
        return torch.fft.irfft2(spectrum, s=self._size)[..., :height, :width]

    def _mirrored_adjoint(self, y: Tensor) -> Tensor:
        _, height, width = self.in_shape
        spectrum = torch.fft.rfft2(y, s=self._size).mul_(self._extended.conj())
        x = torch.fft.irfft2(spectrum, s=self._size)
        for dim, n in ((-2, height), (-1, width)):
            before, after = self._reach[dim]
            x = fold(x.narrow(dim, 0, n + before + after), before, after, dim)
        return x

    def _normal(self, x: Tensor) -> Tensor:
        if self._exact:
            return self._filtered(x, self._power)
        return in_parts(lambda x: self._mirrored_adjoint(self._mirrored(x)), x)

    def _kept(self) -> Tensor:
        return self._power > self._cutoff

    def _projection(self, x: Tensor) -> Tensor:
        if not self._exact:
            return super()._projection(x)
        return x.clone() if self._regular else self._filtered(x, self._kept())

    def _pinv(self, y: Tensor) -> Tensor:
        if not self._exact:
            return super()._pinv(y)
        inverse = torch.where(self._kept(), self._response.conj() / self._power, 0.0)
        return self._filtered(y, inverse)

    def _prox(self, z: Tensor, y: Tensor, gamma: float) -> Tensor:
        if not self._exact:
            return super()._prox(z, y, gamma)
        z, y = torch.broadcast_tensors(z, y)
        shrunk = self._response.conj() * (gamma / (1 + gamma * self._power))

        def moved(z: Tensor, y: Tensor) -> Tensor:
            spectrum = self._diagonal.there(z)
            change = self._diagonal.there(y) - spectrum * self._response
            return self._diagonal.back(spectrum + change.mul_(shrunk))

        return in_parts(moved, z, y)


class EvenConvolution(Convolution):
    """Convolution with ``rows`` ⊗ ``columns``, both of odd length and even about their centres.

    A, which is its own transpose, is two products with banded matrices where this is faster than
    the transform; the rest is as in ``Convolution``.
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
        limit = 0.25 if isinstance(self._diagonal, _Fourier) else 0.5
        return max(pair.rows.part, pair.columns.part) < limit

    def _forward(self, x: Tensor) -> Tensor:
        return self._across(x) if self._product(self._across) else super()._forward(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._forward(y)

    def _normal(self, x: Tensor) -> Tensor:
        return self._square(x) if self._product(self._square) else super()._normal(x)
