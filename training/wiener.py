"""The best linear denoiser of latents: what a flow must beat at every noise level.

Latents are taken as a stationary Gaussian field. Its covariance over a crop of h x w cells is
block-Toeplitz, made of the 16 x 16 covariances between channels at every displacement.
"""

from __future__ import annotations

import torch
from torch import Tensor


def autocovariance(crops: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (C,) and covariances (C, C, 2h-1, 2w-1) of crops (N, C, h, w).

    Entry [a, b, h-1+dy, w-1+dx] is that of channel ``a`` at a cell with channel ``b`` at the cell
    (dy, dx) further, averaged over all pairs of cells of all crops.
    """
    _, channels, h, w = crops.shape
    mean = crops.mean((0, 2, 3))
    shape = (2 * h - 1, 2 * w - 1)
    power = torch.zeros(channels, channels, shape[0], shape[1] // 2 + 1, dtype=torch.complex128)
    for part in (crops - mean[:, None, None]).double().split(256):
        spectrum = torch.fft.rfft2(part, s=shape)
        power += torch.einsum("nayx,nbyx->abyx", spectrum.conj(), spectrum)
    sums = torch.fft.fftshift(torch.fft.irfft2(power, s=shape), dim=(-2, -1))
    rows = h - torch.arange(1 - h, h).abs()
    columns = w - torch.arange(1 - w, w).abs()
    pairs = len(crops) * rows[:, None] * columns[None, :]
    return mean, (sums / pairs).to(crops.dtype)


def covariance(lags: Tensor) -> Tensor:
    """The matrix (C h w, C h w) over a crop, from ``autocovariance``'s (C, C, 2h-1, 2w-1)."""
    channels = lags.shape[0]
    h, w = (lags.shape[2] + 1) // 2, (lags.shape[3] + 1) // 2
    y, x = torch.arange(h), torch.arange(w)
    dy = (y[None, :] - y[:, None] + h - 1)[:, None, :, None].expand(h, w, h, w)
    dx = (x[None, :] - x[:, None] + w - 1)[None, :, None, :].expand(h, w, h, w)
    full = lags[:, :, dy, dx].permute(0, 2, 3, 1, 4, 5)
    return full.reshape(channels * h * w, channels * h * w)


class Wiener:
    """E[z0 | x] for x = (1 - σ) z0 + σ ε, were z0 Gaussian with a given mean and covariance.

    ``mean`` (C,); the covariance (C h w, C h w) by its eigenvalues and eigenvectors.
    """

    def __init__(self, mean: Tensor, values: Tensor, vectors: Tensor):
        self.mean, self.values, self.vectors = mean, values, vectors

    @classmethod
    def of(cls, mean: Tensor, matrix: Tensor) -> Wiener:
        """Negative eigenvalues, which an estimate of a covariance may have, count as zero."""
        values, vectors = torch.linalg.eigh(matrix)
        return cls(mean, values.clamp(min=0), vectors)

    @classmethod
    def fit(cls, crops: Tensor) -> Wiener:
        """From crops (N, C, h, w) of the latents to be denoised."""
        mean, lags = autocovariance(crops)
        return cls.of(mean, covariance(lags))

    def denoise(self, x: Tensor, sigma: float) -> Tensor:
        """Estimate of z0, like ``x`` (N, C, h, w)."""
        keep, mean = 1 - sigma, self.mean[:, None, None]
        gain = keep * self.values / (keep**2 * self.values + sigma**2)
        centred = (x - keep * mean).flatten(1)
        return ((centred @ self.vectors) * gain @ self.vectors.T).view_as(x) + mean
