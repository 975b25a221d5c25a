"""A measurement: what was seen, and through which operator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .linear.linear_operator import LinearOperator
from .operator import Operator

SMALLEST_NOISE = 0.005
"""Noise level that a noise-free measurement is treated as having (8-bit rounding is 0.002)."""


def floored(noise_level: float) -> float:
    """The noise level to divide by."""
    return max(noise_level, SMALLEST_NOISE)


def masked_rms(residual: Tensor, measured: Tensor | None) -> Tensor:
    """Root mean square of every sample of ``residual`` (N, C, h, w), (N,), where ``measured``."""
    squared = residual.square()
    if measured is None:
        return squared.flatten(1).mean(1).sqrt()
    measured = measured.to(squared).expand_as(squared)
    return ((squared * measured).flatten(1).sum(1) / measured.flatten(1).sum(1).clamp(min=1)).sqrt()


@dataclass(frozen=True)
class Measurement:
    """``y`` (N, *operator.out_shape) = A x + noise of standard deviation ``noise_level``, on the
    scale of images in [-1, 1]; ``simulated`` from a clean image, or observed.

    Raises ValueError for a noise level that is negative or not finite, or a ``y`` of another shape.
    """

    y: Tensor
    operator: Operator
    noise_level: float
    simulated: bool = True

    def __post_init__(self) -> None:
        if not (math.isfinite(self.noise_level) and self.noise_level >= 0):
            raise ValueError(
                f"the noise level is {self.noise_level}; expected a number of at least 0, such as"
                " 0.03"
            )
        if tuple(self.y.shape[1:]) != tuple(self.operator.out_shape):
            raise ValueError(
                f"the measurement has shape {tuple(self.y.shape)}; its operator gives"
                f" (N, {', '.join(map(str, self.operator.out_shape))})"
            )

    @property
    def floored_noise_level(self) -> float:
        """The noise level, and ``SMALLEST_NOISE`` where it is less: for dividing by."""
        return floored(self.noise_level)

    def residual_rms(self, seen: Tensor) -> Tensor:
        """Root mean square of ``seen`` − y, where something was measured, of every sample: (N,)."""
        return masked_rms(seen - self.y.to(seen), self.operator.measured)

    @property
    def linear(self) -> LinearOperator:
        """The operator; ValueError where it is not linear."""
        if not isinstance(self.operator, LinearOperator):
            raise ValueError(
                "this needs a linear operator, with adjoint and prox; the measurement's is not"
                " linear: choose another method"
            )
        return self.operator


def simulate(
    x: Tensor,
    operator: Operator,
    noise_level: float,
    generators: Sequence[torch.Generator],
) -> Measurement:
    """Degrade images ``x`` (N, C, H, W); sample k draws noise from ``generators[k]`` (CPU)."""
    if len(generators) != len(x):
        raise ValueError(f"{len(generators)} generators for {len(x)} images; expected one each")
    clean = operator.A(x)
    noise = torch.stack([torch.randn(clean.shape[1:], generator=g) for g in generators])
    noise = noise_level * noise.to(clean)
    if (measured := operator.measured) is not None:
        noise = noise * measured
    return Measurement(clean + noise, operator, noise_level, True)
