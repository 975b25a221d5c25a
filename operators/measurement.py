"""Measurements: values, operator and noise level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .linear.linear_operator import LinearOperator
from .operator import Operator
from .randomness import standard_normal

ROUNDED = 1 / 6
LARGEST_NOISE = 1e4
"""Noise in which nothing of a photo is left, for images in [-1, 1]."""
SMALLEST_NOISE = 0.005
"""Lower limit of noise levels used as divisors; rounding to 8 bits alone has 0.002."""


@dataclass(frozen=True)
class Measurement:
    """``y`` (N, *operator.out_shape) = A x + noise of standard deviation ``noise_level``, on the
    scale of images in [-1, 1]; ``simulated`` from a clean image, or observed.

    ``valid``, bool (1, *out_shape), is False where ``y`` belongs to padding and is to be ignored;
    None: True everywhere. Raises ValueError for a noise level that is negative or not finite, or a
    ``y`` of another shape.
    """

    y: Tensor
    operator: Operator
    noise_level: float
    simulated: bool = True
    valid: Tensor | None = None

    def __post_init__(self) -> None:
        check_noise_level(self.noise_level)
        if tuple(self.y.shape[1:]) != tuple(self.operator.out_shape):
            raise ValueError(
                f"the measurement has shape {tuple(self.y.shape)}; its operator gives"
                f" (N, {', '.join(map(str, self.operator.out_shape))})"
            )

    @property
    def count(self) -> int:
        """The number of images that ``y`` is the measurement of."""
        return self.operator.images_of(len(self.y))

    @property
    def floored_noise_level(self) -> float:
        """The noise level, but at least ``SMALLEST_NOISE``, for use as a divisor."""
        return max(self.noise_level, SMALLEST_NOISE)

    @property
    def misfit_level(self) -> float:
        """Standard deviation of the misfit at the true image, for use as a divisor.

        The floored noise level; but where the operator rounds, most of the noise level stands for
        the rounding, which the misfit leaves out.
        """
        share = ROUNDED if self.operator.rounds else 1.0
        return max(share * self.noise_level, SMALLEST_NOISE)

    @property
    def measured(self) -> Tensor | None:
        """Bool (1, *out_shape), False where ``y`` has no value: in holes of a mask, and padding.

        None: True everywhere.
        """
        measured = self.operator.measured
        if self.valid is None or measured is None:
            return self.valid if measured is None else measured
        return measured & self.valid

    def residual_rms(self, seen: Tensor) -> Tensor:
        """Root mean square of ``seen`` − y over what was measured, for every sample: (N,).

        ``seen`` (N, *out_shape) is A x for some images x.
        """
        squared = (seen - self.y.to(seen)).square()
        if (measured := self.measured) is None:
            return squared.flatten(1).mean(1).sqrt()
        measured = measured.to(squared).expand_as(squared).flatten(1)
        total = (squared.flatten(1) * measured).sum(1)
        return (total / measured.sum(1).clamp(min=1)).sqrt()

    @torch.no_grad()
    def residual_ratio(self, x: Tensor) -> Tensor:
        """Root mean square of A x − y over the noise level, for every sample: (N,).

        x is (N, C, H, W) in [-1, 1]. About 1 is expected from the noise; lower values mean that
        noise was fitted, higher values that the measurement was not. Padding and the holes of masks
        are left out, and the noise level is taken as at least ``SMALLEST_NOISE``.
        """
        return self.residual_rms(self.operator.A(x.to(self.y))) / self.floored_noise_level

    @property
    def linear(self) -> LinearOperator:
        """The operator; ValueError where it is not linear."""
        if not isinstance(self.operator, LinearOperator):
            raise ValueError(
                "this needs a linear operator, with adjoint and prox; the measurement's is not"
                " linear: choose another method"
            )
        return self.operator


def check_noise_level(noise_level: float) -> None:
    """ValueError unless the noise level is a number from 0 to ``LARGEST_NOISE``."""
    if not 0 <= noise_level <= LARGEST_NOISE:
        raise ValueError(
            f"the noise level is {noise_level}; expected a number of at least 0, such as 0.03, and"
            f" at most {LARGEST_NOISE:g}"
        )


def simulate(
    x: Tensor,
    operator: Operator,
    noise_level: float,
    generators: Sequence[torch.Generator],
) -> Measurement:
    """Degrade images ``x`` (N, C, H, W); sample k draws noise from ``generators[k]`` (CPU)."""
    clean = operator.A(x)
    noise = noise_level * standard_normal(clean.shape, generators).to(clean)
    if (measured := operator.measured) is not None:
        noise = noise * measured
    return Measurement(clean + noise, operator, noise_level, True)


def rms(values: Tensor) -> float:
    """Root mean square of all ``values``: one ratio for the samples of a batch."""
    return float(values.square().mean().sqrt())
