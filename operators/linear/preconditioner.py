"""Preconditioners that are diagonal in the cosine basis, and the spectra that they need."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .solvers import Map
from .transforms import Cosine, in_parts

PROBES = 4
"""Images of white noise from which a spectrum is estimated."""
MISFIT = 0.4
"""Largest relative error of a spectrum that is still used."""
POWER_STEPS = 10
"""Steps of the power method."""


class Spectrum:
    """A symmetric map of images (N, C, H, W) as if the cosine transform of type II diagonalised it.

    ``power``, as ``Cosine.response`` has it, holds an eigenvalue, at least 0, for every frequency.
    """

    def __init__(self, cosine: Cosine, power: Tensor):
        self._cosine, self._power = cosine, power

    def __call__(self, x: Tensor) -> Tensor:
        return self._filtered(x, self._power)

    def inverse(self, shift: float) -> Map:
        """Multiplication with 1 / (eigenvalue + ``shift``)."""
        factor = 1 / (self._power + shift)
        return lambda x: self._filtered(x, factor)

    def _filtered(self, x: Tensor, factor: Tensor) -> Tensor:
        there, back = self._cosine.there, self._cosine.back
        return in_parts(lambda x: back(there(x).mul_(factor)), x)


def spectrum_of_kernels(
    kernels: Sequence[Tensor],
    weights: Sequence[float],
    size: tuple[int, int],
    device: torch.device,
    dtype: torch.dtype,
) -> Spectrum:
    """The weighted sum of AᵀA for the convolutions A with ``kernels`` of a mirrored image of
    ``size`` (height, width).

    Each is replaced by that of an even kernel: its autocorrelation, averaged over reflections.
    """
    height, width = (2 * max(k.shape[axis] for k in kernels) - 1 for axis in (0, 1))
    power = torch.zeros(height, width // 2 + 1, dtype=torch.float64)
    for kernel, weight in zip(kernels, weights, strict=True):
        response = torch.fft.rfft2(kernel.double().cpu(), s=(height, width))
        power += weight * response.abs().square()
    correlation = torch.fft.fftshift(torch.fft.irfft2(power, s=(height, width)))
    even = torch.stack([correlation.flip(axes) for axes in ((), (0,), (1,), (0, 1))]).mean(0)
    cosine = Cosine(*size, device, dtype)
    # An average of squared frequency responses: below 0 by rounding errors only.
    return Spectrum(cosine, cosine.response(even).clamp(min=0).to(device, dtype))


def estimated_spectrum(
    gram: Map, root: Map, shape: tuple[int, ...], like: Tensor
) -> Spectrum | None:
    """Of B Bᵀ (``gram``), where B (``root``) maps tensors (N, *``shape``) to images like ``like``.

    None where no spectrum describes B Bᵀ, as for a mask.

    B of white noise has the covariance B Bᵀ, so that the mean square of its cosine coefficients is
    the diagonal of B Bᵀ in the cosine basis: a periodogram, averaged over samples, channels and
    neighbouring frequencies (Bartlett 1948, Daniell 1946).
    """
    height, width = like.shape[-2:]
    cosine = Cosine(height, width, like.device, like.dtype)
    generator = torch.Generator().manual_seed(0)
    probes = []
    for _ in range(PROBES):
        noise = torch.randn(1, *shape, generator=generator).to(like)
        probes.append(cosine.there(root(noise)).square().mean((0, 1)))
    # The transform is not normalised; a frequency of 0 along an axis counts twice.
    power = torch.stack(probes).mean(0) / (height * width / 2)
    power[0] /= 2
    power[:, 0] /= 2
    planes = F.pad(power.movedim(-1, 0)[None], (1, 1, 1, 1), mode="replicate")
    result = Spectrum(cosine, F.avg_pool2d(planes, 3, 1)[0].movedim(0, -1).contiguous())
    x = torch.randn(1, *like.shape[1:], generator=generator).to(like)
    seen = gram(x)
    return result if (result(x) - seen).norm() < MISFIT * seen.norm() else None


def largest_eigenvalue(matrix: Map, like: Tensor) -> float:
    """Of a symmetric positive ``matrix`` of images like ``like``, by the power method, from below.

    The start is a constant and some noise: of a blur, the largest is that of the constants.
    """
    generator = torch.Generator().manual_seed(0)
    x = (1 + 0.1 * torch.randn(like.shape, generator=generator)).to(like)
    value = 0.0
    for _ in range(POWER_STEPS):
        x = matrix(x / x.norm())
        value = float(x.norm())
        if value == 0:
            break
    return value
