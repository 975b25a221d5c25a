"""Convolution with any kernel, by FFT, and its exact adjoint at both kinds of border."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import LinearOperator, Shape
from .separable import CUTOFF, mirrored


class Convolution(LinearOperator):
    """A x = h ∗ x per channel, for a kernel (kh, kw) whose centre is the tap (kh // 2, kw // 2).

    ``reflect`` mirrors the image at its border (half-sample) as far as the kernel reaches;
    ``periodic`` wraps it, and then the pseudo-inverse and prox are closed forms.
    """

    def __init__(
        self, shape: Shape, kernel: Tensor, boundary: str, device: torch.device, dtype: torch.dtype
    ):
        super().__init__(shape, shape)
        _, height, width = shape
        kh, kw = kernel.shape
        self._periodic = boundary == "periodic"
        # Output i reads inputs i + c − k for taps k: kernel // 2 after it, the rest before it.
        before = (kh - 1 - kh // 2, kw - 1 - kw // 2)
        self._index = [
            mirrored(torch.arange(n + k - 1) - b, n, boundary).to(device)
            for n, k, b in zip((height, width), (kh, kw), before, strict=True)
        ]
        extended = (height + kh - 1, width + kw - 1)
        canvas = torch.zeros(shape[1:] if self._periodic else extended, dtype=torch.float64)
        rows = torch.arange(kh)[:, None].expand(kh, kw)
        columns = torch.arange(kw).expand(kh, kw)
        if self._periodic:
            where = ((rows - kh // 2) % height, (columns - kw // 2) % width)
        else:
            # Position j of the extended image is kh − 1 ahead of output j: shift the kernel back.
            where = ((rows - (kh - 1)) % extended[0], (columns - (kw - 1)) % extended[1])
        canvas.index_put_(where, kernel.double().cpu(), accumulate=True)
        complex_type = torch.complex128 if dtype == torch.float64 else torch.complex64
        self._response = torch.fft.rfft2(canvas).to(device, complex_type)
        magnitude = self._response.abs()
        kept = magnitude > CUTOFF.get(dtype, 1e-3) * magnitude.max()
        self._inverse = torch.where(kept, 1 / torch.where(kept, self._response, 1.0), 0.0)

    def _filter(self, x: Tensor, response: Tensor) -> Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(x) * response, s=x.shape[-2:])

    def _forward(self, x: Tensor) -> Tensor:
        if self._periodic:
            return self._filter(x, self._response)
        _, height, width = self.in_shape
        extended = x.index_select(-2, self._index[0]).index_select(-1, self._index[1])
        return self._filter(extended, self._response)[..., :height, :width]

    def _adjoint(self, y: Tensor) -> Tensor:
        if self._periodic:
            return self._filter(y, self._response.conj())
        channels, height, width = self.in_shape
        extended = y.new_zeros(len(y), channels, len(self._index[0]), len(self._index[1]))
        extended[..., :height, :width] = y
        spread = self._filter(extended, self._response.conj())
        folded = torch.zeros_like(spread[..., :width]).index_add(-1, self._index[1], spread)
        return torch.zeros_like(folded[..., :height, :]).index_add(-2, self._index[0], folded)

    def _pinv(self, y: Tensor) -> Tensor:
        return self._filter(y, self._inverse) if self._periodic else super()._pinv(y)

    def _prox(self, z: Tensor, y: Tensor, gamma: float) -> Tensor:
        if not self._periodic:
            return super()._prox(z, y, gamma)
        shrunk = gamma * self._response.conj() / (1 + gamma * self._response.abs().square())
        return z + self._filter(y - self._forward(z), shrunk)
