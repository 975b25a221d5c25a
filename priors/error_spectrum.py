"""How a model errs: the power spectrum of the error of its decoded estimates, by noise level."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

BINS = 16
"""Bands of spatial frequency, of equal width, up to the highest of an image's diagonal."""
HIGHEST = math.sqrt(0.5)
"""The highest spatial frequency, in cycles per pixel, that of a chequerboard."""


def radial_frequency(height: int, width: int) -> Tensor:
    """Frequencies of the coefficients of ``Cosine``, in cycles per pixel: (H, W // 2 + 1, 2)."""
    columns = torch.arange(width // 2 + 1)
    pairs = torch.stack([columns, -columns % width], -1) / (2 * width)
    rows = torch.arange(height)[:, None, None] / (2 * height)
    return torch.hypot(rows, pairs)


def _pair(levels: Sequence[float]) -> tuple[float, float]:
    first, last = levels
    return float(first), float(last)


@dataclass(frozen=True)
class ErrorSpectrum:
    """Variance per pixel of the error of D(denoise(z_σ)) in bands of frequency, at noise levels.

    sigmas: noise levels, rising. variance: for every noise level, the spectral density in ``BINS``
    bands, for images in [-1, 1]: the variance per pixel that white noise of this density has.

    refine: first and last noise level of ``refine`` that suit the model; None: not measured.
    eased: factor of these where the measurement tells much (``RefineSettings.eased``).

    ``benchmarks/error_spectrum.py`` measures one, ``benchmarks/refine_levels.py`` the levels.
    Raises ValueError for numbers that are not above 0, for noise levels that do not rise (those of
    ``refine``: fall), and for another number of bands.
    """

    sigmas: Sequence[float]
    variance: Sequence[Sequence[float]]
    refine: tuple[float, float] | None = None
    eased: float = 1.0

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.sigmas, self.sigmas[1:], strict=False))
        if not self.sigmas or not rising or len(self.variance) != len(self.sigmas):
            raise ValueError(
                f"the noise levels of an error spectrum are {list(self.sigmas)}; expected rising"
                " numbers, and as many spectra"
            )
        for row in self.variance:
            if len(row) != BINS or not all(0 < v < math.inf for v in row):
                raise ValueError(
                    f"a row of an error spectrum is {list(row)}; expected {BINS} numbers above 0"
                )
        if self.refine is not None and not 0 < self.refine[1] <= self.refine[0] <= 1:
            raise ValueError(
                f"the levels of refine are {list(self.refine)}; expected the first and the last,"
                " falling, between 0 and 1"
            )
        if not 0 < self.eased <= 1:
            raise ValueError(f"eased is {self.eased}; expected a number above 0 and up to 1")

    @classmethod
    def load(cls, file: Path) -> ErrorSpectrum:
        """Read a JSON file with ``sigmas``, ``variance``, maybe ``refine`` and ``eased``.

        ValueError for another content.
        """
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            return cls(
                tuple(map(float, values["sigmas"])),
                tuple(tuple(map(float, row)) for row in values["variance"]),
                None if (levels := values.get("refine")) is None else _pair(levels),
                float(values.get("eased", 1.0)),
            )
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{file.name} holds no error spectrum ({error}); measure one by python -m"
                " comfyui_flowdps.benchmarks.error_spectrum"
            ) from error

    @classmethod
    def beside(cls, weights: Path) -> ErrorSpectrum | None:
        """That of the model in the file ``weights``: NAME.spectrum.json, or None without one."""
        file = weights.with_suffix(".spectrum.json")
        return cls.load(file) if file.is_file() else None

    def save(self, file: Path) -> None:
        """Write what ``load`` reads."""
        rounded = [[float(f"{v:.4g}") for v in row] for row in self.variance]
        values = {"sigmas": list(self.sigmas), "variance": rounded}
        if self.refine is not None:
            values["refine"] = list(self.refine)
        if self.eased != 1:
            values["eased"] = self.eased
        file.write_text(json.dumps(values) + "\n", encoding="utf-8")

    def at(self, sigma: float) -> Tensor:
        """Densities in the bands at noise level ``sigma``, float64 (BINS,).

        Interpolated between the logarithms; those of the nearest level outside their range.
        """
        rows = torch.tensor(self.variance, dtype=torch.float64).log()
        levels = list(self.sigmas)
        upper = next((k for k, s in enumerate(levels) if s >= sigma), len(levels) - 1)
        lower = max(upper - 1, 0) if levels[upper] > sigma else upper
        if lower == upper:
            return rows[upper].exp()
        part = (sigma - levels[lower]) / (levels[upper] - levels[lower])
        return torch.lerp(rows[lower], rows[upper], part).exp()

    def density(self, sigma: float, height: int, width: int) -> Tensor:
        """Densities at the coefficients of ``Cosine`` for images of ``height`` x ``width``.

        Float64 (H, W // 2 + 1, 2), interpolated between the bands' logarithms.
        """
        bands = self.at(sigma).log()
        place = (radial_frequency(height, width).double() / HIGHEST * BINS - 0.5).clamp(0, BINS - 1)
        below = place.floor().long().clamp(max=BINS - 2)
        part = place - below
        return torch.lerp(bands[below], bands[below + 1], part).exp()
