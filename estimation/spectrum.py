"""How well a kernel explains the spectrum of a photo."""

from __future__ import annotations

import itertools
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


def _window_taps(kept: Tensor, n: int) -> list[tuple[float, Tensor]]:
    """What a Hann window mixes at the frequencies ``kept`` of a half plane (n, n // 2 + 1): the
    weights of the nine frequencies around each, and where they are in the flattened half plane,
    which has one of every two opposite ones."""
    width = n // 2 + 1
    taps = []
    for down, right in itertools.product((-1, 0, 1), repeat=2):
        row, column = kept // width + down, kept % width + right
        beyond = (column < 0) | (column >= width)
        row, column = torch.where(beyond, -row, row), torch.where(beyond, -column, column)
        weight = math.prod(2 / 3 if step == 0 else 1 / 6 for step in (down, right))
        taps.append((weight, row % n * width + column % n))
    return taps


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
        # How a Hann window shows the power, next to a steep law.
        law = ((f.square() + (0.5 / n) ** 2) ** (-POWER / 2)).flatten()
        self._taps = [
            (weight * law[place] / law[self._kept], place)
            for weight, place in _window_taps(self._kept, n)
        ]
        angle, logarithm = self._at(torch.atan2(fy.expand_as(fx), fx)), self._at(f).log()
        turns = [part(k * angle) for k in (2, 4) for part in (torch.cos, torch.sin)]
        self._basis = torch.stack([torch.ones_like(angle), -logarithm, *turns], -1)
        self._products = (self._basis[:, :, None] * self._basis[:, None]).flatten(1)
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
        planes = responses.flatten(1)
        seen = torch.full((len(planes), self.count), 1e-12, dtype=torch.float64)
        for weight, place in self._taps:
            seen += weight * planes[:, place]
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
            matrix = (weight @ self._products).unflatten(1, self._precision.shape * 2)
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
