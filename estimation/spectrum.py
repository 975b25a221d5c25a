"""How well a kernel explains the spectrum of a photo."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .progress import SILENT, Progress

TILE = 256
"""Side in pixels of the tiles whose spectra are averaged."""
MOST = 6000
"""Largest number of frequencies that are used."""
SMALLEST_NOISE = 0.0015
"""Smallest noise level of a photo, from rounding to 8 bits."""
POWER, SPREAD = 2.8, 0.03
"""Exponent of the power law of sharp pictures, and its prior standard deviation."""
TURN = 0.1
"""Prior standard deviation of the terms that depend on the direction."""
TAILS = 2.0
"""Shape of the gamma distribution by which single frequencies deviate from the power law."""
STEPS = 25


def _smooth(power: Tensor) -> Tensor:
    """Power on a half plane (..., n, n // 2 + 1) as a Hann window shows it, by its three taps."""
    power = 2 / 3 * power + (power.roll(1, -2) + power.roll(-1, -2)) / 6

    def mirrored(column: Tensor) -> Tensor:
        return column.flip(-2).roll(1, -2)

    left = torch.cat([mirrored(power[..., 1:2]), power[..., :-1]], -1)
    right = torch.cat([power[..., 1:], mirrored(power[..., -2:-1])], -1)
    return 2 / 3 * power + (left + right) / 6


class Spectrum:
    """The windowed power spectrum of a grey photo (H, W), and its likelihood for given kernels.

    At the frequency f it is exponentially distributed about exp(a + b·φ(angle)) |f|^−α |K(f)|² + σ²
    (Whittle 1953; natural scenes: Field 1987), where the first part varies by a gamma factor, since
    pictures are not Gaussian fields. a, b and α are fitted for every kernel. ``seen`` is the part
    of the frequencies that stands out of the noise.
    """

    def __init__(self, grey: Tensor, noise_level: float, progress: Progress = SILENT):
        self.side = n = min(*grey.shape, TILE) // 2 * 2
        hann = torch.hann_window(n, periodic=True, dtype=torch.float64)
        window = hann[:, None] * hann
        power, count = torch.zeros(n, n // 2 + 1, dtype=torch.float64), 0
        tops, lefts = ({*range(0, m - n, n // 2), m - n} for m in grey.shape)
        for k, top in enumerate(tops):
            progress(k / len(tops))
            for left in lefts:
                y = grey[top : top + n, left : left + n].double()
                y = (y - (y * window).sum() / window.sum()) * window
                power += torch.fft.rfft2(y).abs().square()
                count += 1
        power /= count * window.square().sum()
        fy = torch.fft.fftfreq(n, dtype=torch.float64)[:, None]
        fx = torch.fft.rfftfreq(n, dtype=torch.float64).expand(n, -1)
        f = torch.hypot(fy, fx)
        kept = ((f > 3 / n) & (f <= 0.5) & (fx > 0)).flatten().nonzero()[:, 0]
        self._kept = kept[:: math.ceil(len(kept) / MOST)]
        self.count = len(self._kept)
        self.variance = max(noise_level, SMALLEST_NOISE) ** 2
        self.power = self._at(power)
        # Where the photo is noise, there is no law to differ from.
        near = torch.nn.functional.avg_pool2d(power[None, None], 5, 1, 2, count_include_pad=False)
        signal = (1 - self.variance / self._at(near[0, 0])).clamp(0.01, 1)
        self.seen = float(signal.mean())
        self._tails = TAILS / signal.square()
        self._law = (f.square() + (0.5 / n) ** 2) ** (-POWER / 2)
        angle, logarithm = self._at(torch.atan2(fy.expand_as(fx), fx)), self._at(f).log()
        turns = [part(k * angle) for k in (2, 4) for part in (torch.cos, torch.sin)]
        self._basis = torch.stack([torch.ones_like(angle), -logarithm, *turns], -1)
        self._mean = torch.tensor([0.0, POWER, 0, 0, 0, 0], dtype=torch.float64)
        self._precision = torch.tensor([0.0, SPREAD**-2, *[TURN**-2] * 4], dtype=torch.float64)

    def _at(self, plane: Tensor) -> Tensor:
        return plane.flatten(-2)[..., self._kept]

    def response(self, kernel: Tensor) -> Tensor:
        """|K|² (n, n // 2 + 1) of a kernel that is no larger than the tile."""
        canvas = torch.zeros(self.side, self.side, dtype=torch.float64)
        canvas[: kernel.shape[0], : kernel.shape[1]] = kernel
        return torch.fft.rfft2(canvas).abs().square()

    def loss(self, responses: Tensor, progress: Progress = SILENT) -> Tensor:
        """Negative log-likelihood per frequency (B,) of kernels with ``responses`` (B, n, n // 2 +
        1), at the best values of everything else, by Levenberg and Marquardt's steps.
        """
        seen = self._at(_smooth(self._law * responses) / self._law).clamp(min=1e-12)
        values = self._mean.repeat(len(seen), 1)
        part = seen * torch.exp(self._basis[:, 1:] @ self._mean[1:])
        above = (self.power.sum() - self.count * self.variance).clamp(min=1e-9 * self.power.sum())
        values[:, 0] = (above / part.sum(1)).log()

        def at(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            picture = seen * torch.exp((values @ self._basis.T).clamp(-60, 60))
            total = picture + self.variance
            ratio = self.power / total
            fit = total.log() + (self._tails + 1) * torch.log1p(ratio / self._tails)
            away = 0.5 * (self._precision * (values - self._mean).square()).sum(1)
            return fit.sum(1) + away, picture / total, ratio

        best, share, ratio = at(values)
        damping = torch.full_like(best, 1e-2)
        for _ in range(STEPS):
            progress()
            slope = share * (1 - (self._tails + 1) * ratio / (self._tails + ratio))
            gradient = slope @ self._basis + self._precision * (values - self._mean)
            weight = share.square() * TAILS / (TAILS + 2) + 1e-6
            matrix = torch.einsum("bi,ij,ik->bjk", weight, self._basis, self._basis)
            matrix = matrix + self._precision.diag()
            matrix = matrix + torch.diag_embed(damping[:, None] * matrix.diagonal(dim1=1, dim2=2))
            moved = values - torch.linalg.solve(matrix, gradient)
            new, new_share, new_ratio = at(moved)
            better = new < best
            gain = float((best - new).max())
            values = torch.where(better[:, None], moved, values)
            share = torch.where(better[:, None], new_share, share)
            ratio = torch.where(better[:, None], new_ratio, ratio)
            best = torch.where(better, new, best)
            damping = torch.where(better, 0.3 * damping, 5 * damping)
            if abs(gain) < 1e-2:
                break
        return best / self.count
