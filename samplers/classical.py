"""Classical restorations to compare with: each a pure function of a measurement."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..operators import Measurement
from ..priors.base import FlowPrior
from .data_loss import DataLoss
from .gradient_step import Descent, GradientStep

RELAXED = 1.9
"""Over-relaxation of the total-variation solver, below 2 (Condat 2013)."""


def upsample_bicubic(measurement: Measurement) -> Tensor:
    """Keys' cubic interpolation (a = −0.5) of y to the image's size, (N, C, H, W)."""
    size = measurement.operator.in_shape[1:]
    # torch takes a = −0.75 unless it may also filter, which it does only where it shrinks.
    return F.interpolate(measurement.y, size=size, mode="bicubic", antialias=True)


def mean_colour(measurement: Measurement) -> Tensor:
    """Images (N, C, H, W) of the one colour that was measured on average."""
    operator, y = measurement.linear, measurement.y
    channels = operator.in_shape[0]
    if y.shape[1] == channels and y.shape[2] > 1 and measurement.operator.measured is None:
        mean = y.mean((2, 3), keepdim=True)
    else:
        ones = y.new_ones(1, *operator.in_shape)
        mean = operator.adjoint(y).sum((2, 3), True) / operator.normal(ones).sum((2, 3), True)
    return mean.expand(len(y), *operator.in_shape).contiguous()


def wiener(measurement: Measurement, strength: float) -> Tensor:
    """argmin ‖A x − y‖² + λ ‖x − m‖² with m the mean colour of y and λ = ``strength``.

    Wiener's filter for a white image spectrum (Tikhonov): one prox of the operator.
    """
    return measurement.linear.prox(mean_colour(measurement), measurement.y, 1 / strength)


def _gradient(x: Tensor) -> tuple[Tensor, Tensor]:
    down = F.pad(x[..., 1:, :] - x[..., :-1, :], (0, 0, 0, 1))
    right = F.pad(x[..., 1:] - x[..., :-1], (0, 1))
    return down, right


def _divergence(p: Tensor, q: Tensor) -> Tensor:
    """Minus the adjoint of ``_gradient``."""
    down = F.pad(p[..., :-1, :], (0, 0, 0, 1)) - F.pad(p[..., :-1, :], (0, 0, 1, 0))
    return down + F.pad(q[..., :-1], (0, 1)) - F.pad(q[..., :-1], (1, 0))


def tv_objective(measurement: Measurement, x: Tensor, strength: float) -> Tensor:
    """½ ‖A x − y‖² + λ TV(x), (N,), with the isotropic total variation that couples the colours."""
    fit = (measurement.operator.A(x) - measurement.y).square().sum((1, 2, 3)) / 2
    p, q = _gradient(x)
    return fit + strength * (p.square() + q.square()).sum(1).sqrt().sum((1, 2))


def total_variation(measurement: Measurement, strength: float, iterations: int = 150) -> Tensor:
    """argmin ½ ‖A x − y‖² + λ TV(x) by the primal-dual method of Chambolle and Pock (2011).

    The data term enters by its exact prox; ``strength`` is λ on the scale of images in [-1, 1].
    """
    operator, y = measurement.linear, measurement.y
    x = operator.prox(mean_colour(measurement), y, 100.0)
    # tau * sigma * 8 ≤ 1 for the norm of the gradient. The dual variable is at most λ long and a
    # picture changes by some tenths: steps in this proportion converge fastest.
    tau = 0.06 / strength
    sigma = 1 / (8 * tau)
    p, q = _gradient(torch.zeros_like(x))
    for _ in range(iterations):
        new = operator.prox(x + tau * _divergence(p, q), y, tau)
        down, right = _gradient(2 * new - x)
        u, v = p + sigma * down, q + sigma * right
        size = ((u.square() + v.square()).sum(1, keepdim=True).sqrt() / strength).clamp(min=1)
        x, p, q = (
            x + RELAXED * (new - x),
            p + RELAXED * (u / size - p),
            q + RELAXED * (v / size - q),
        )
    return x


def latent_fit(
    prior: FlowPrior, measurement: Measurement, passes: int, step_size: float, pull: float
) -> Tensor:
    """The decoder fitted to y by Adam, without the flow: what the autoencoder alone achieves.

    Starts at the encoding of A⁺y (of y, for a blur), takes ``passes`` steps whose size falls to
    zero by a cosine, and is pulled towards zero, the mean of all latents, with weight ``pull``.
    """
    operator, y = measurement.linear, measurement.y
    blurred = operator.in_shape == operator.out_shape
    with torch.no_grad():
        z = prior.encode(y if blurred else operator.pinv(y))
    loss = DataLoss(prior, measurement, "squared")
    descent = Descent(GradientStep(step_size, loss="squared", rule="adam"))
    for k in range(passes):
        _, gradient = loss.gradient(z)
        descent.step_size = step_size * (0.5 + 0.5 * math.cos(math.pi * k / passes))
        z = z + descent.move(gradient + pull * z, 1.0)
    with torch.no_grad():
        return prior.decode(z)
