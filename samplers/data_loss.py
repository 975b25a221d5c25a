"""The data loss (misfit between latents or images and a measurement) and its gradient."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from ..operators import LinearOperator, Measurement, Operator
from ..priors.base import FlowPrior
from .discrepancy import DiscrepancyStop
from .memory import saving_memory
from .scaling import scaled


def squared_norm(values: Tensor) -> Tensor:
    """Squared Euclidean norm of every sample: (N, ...) to (N,)."""
    return values.flatten(1).square().sum(1)


def norm(values: Tensor) -> Tensor:
    """Euclidean norm of every sample, (N, ...) to (N,), with gradient 0 at 0."""
    squared = squared_norm(values)
    zero = squared == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, squared).sqrt())


Loss = Literal["norm", "residual", "squared", "hybrid"]
LOSSES = ("norm", "residual", "squared", "hybrid")
"""Kinds of data loss; see docs/samplers.md for the equations."""

Map = Callable[[Tensor], Tensor]


def downscales(operator: Operator) -> bool:
    """Whether measurements are smaller pictures of the same channels, as in super-resolution."""
    (channels, height, width), (same, tall, wide) = operator.in_shape, operator.out_shape
    return same == channels and tall < height and wide < width


def regularised_inverse(operator: LinearOperator, y: Tensor, level: float) -> Tensor:
    """Aᵀ (A Aᵀ + ``level`` I)⁻¹ y, which is argmin over x of ‖A x − y‖² + ``level`` ‖x‖²."""
    return operator.prox(y.new_zeros(operator.images_of(len(y)), *operator.in_shape), y, 1 / level)


def back_projection(operator: Operator, kind: str) -> tuple[Map, Map]:
    """The back-projection B of the loss ``kind``, and B A.

    B is A⁺ if A changes the shape (super-resolution) and Aᵀ if it keeps it (deblurring); it is the
    identity if A is nonlinear, or if A keeps the shape and the loss is ``residual``.
    """
    same = operator.in_shape == operator.out_shape
    if not isinstance(operator, LinearOperator) or (same and kind == "residual"):
        return lambda y: y, operator.A
    if same:
        return operator.adjoint, operator.normal
    return operator.pinv, operator.projection


class DataLoss:
    """Data loss of images or latents, one number per sample.

    With the decoder D, the noise level σₙ and the back-projection B of ``back_projection``:
    ``norm`` and ``residual`` are ‖B y − B A D(z)‖, ``squared`` is the negative log-likelihood
    ‖A D(z) − y‖² / 2σₙ². ``hybrid`` (TriPS, 2026) depends on the noise level σ of the latents, too:
    (¼ + ¾ σ²) (σ ‖A⁺(A D(z) − y)‖ + (1 − σ) ‖A D(z) − y‖) with A⁺ regularised by
    max(1e-4, 0.8 σₙ²). ``stop`` records the residual at every evaluation.
    """

    def __init__(self, prior: FlowPrior, measurement: Measurement, kind: str, stop: float = 0.0):
        self.stop = DiscrepancyStop(stop, measurement, 2 if kind == "squared" else 1)
        self.prior, self.measurement, self.kind = prior, measurement, kind
        self.project, self._projected_A = back_projection(measurement.operator, kind)
        self.variance = measurement.floored_noise_level**2

    @cached_property
    def projected(self) -> Tensor:
        """B y, computed once."""
        return self.project(self.measurement.y)

    def of_images(self, x: Tensor, sigma: float = 0.0) -> Tensor:
        """Loss of images (N, 3, H, W); only ``hybrid`` depends on the noise level ``sigma``."""
        if self.kind == "hybrid":
            return self._hybrid(x, sigma)
        if self.kind != "squared":
            if self.stop.ratio_goal:
                self.stop.update(self.measurement.operator.A(x.detach()))
            return norm(self.projected - self._projected_A(x))
        seen = self.measurement.operator.A(x)
        self.stop.update(seen)
        return squared_norm(seen - self.measurement.y) / (2 * self.variance)

    def _hybrid(self, x: Tensor, sigma: float) -> Tensor:
        operator = self.measurement.operator
        seen = operator.A(x)
        self.stop.update(seen)
        residual = seen - self.measurement.y
        loss = norm(residual)
        if sigma and isinstance(operator, LinearOperator):
            level = max(1e-4, 0.8 * self.variance)
            back = norm(regularised_inverse(operator, residual, level))
            loss = sigma * back + (1 - sigma) * loss
        return (0.25 + 0.75 * sigma**2) * loss

    def __call__(self, z: Tensor, sigma: float = 0.0) -> Tensor:
        """Loss of latents (N, C, h, w) at noise level ``sigma``."""
        return self.of_images(scaled(self.prior.decode, z), sigma)

    def gradient(self, z: Tensor, sigma: float = 0.0) -> tuple[Tensor, Tensor]:
        """Loss (N,) and its gradient at the latents ``z`` of noise level ``sigma``."""

        def once() -> tuple[Tensor, Tensor]:
            with torch.enable_grad():
                at = z.detach().requires_grad_()
                loss = self(at, sigma)
                (gradient,) = torch.autograd.grad(loss.sum(), at)
            return loss.detach(), gradient

        return saving_memory(self.prior, once)
