"""What convolutions are diagonal in, large images a part at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

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


class Fourier:
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


def frequencies(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Of the coefficients of ``Cosine``, in cycles per pixel: vertical ones (H, 1, 1), horizontal
    ones (W // 2 + 1, 2)."""
    columns = torch.arange(width // 2 + 1)
    pairs = torch.stack([columns, -columns % width], -1)
    return torch.arange(height)[:, None, None] / (2 * height), pairs / (2 * width)


class Cosine:
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
