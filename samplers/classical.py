"""Classical restoration methods, as baselines: pure functions of a measurement."""

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
    # torch has a = −0.5 only with antialias, which filters only when downsampling.
    return F.interpolate(measurement.y, size=size, mode="bicubic", antialias=True)


def mean_colour(measurement: Measurement) -> Tensor:
    """Uniform images (N, C, H, W) of the measurement's mean colour."""
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

    The Wiener filter for a white image spectrum (Tikhonov), computed by one prox of the operator.
    """
    return measurement.linear.prox(mean_colour(measurement), measurement.y, 1 / strength)


def _gradient(x: Tensor) -> tuple[Tensor, Tensor]:
    down = F.pad(x[..., 1:, :] - x[..., :-1, :], (0, 0, 0, 1))
    right = F.pad(x[..., 1:] - x[..., :-1], (0, 1))
    return down, right


def _divergence(p: Tensor, q: Tensor) -> Tensor:
    """Divergence of the field (p, q): the negative adjoint of ``_gradient``."""
    down = F.pad(p[..., :-1, :], (0, 0, 0, 1)) - F.pad(p[..., :-1, :], (0, 0, 1, 0))
    return down + F.pad(q[..., :-1], (0, 1)) - F.pad(q[..., :-1], (1, 0))


def tv_objective(measurement: Measurement, x: Tensor, strength: float) -> Tensor:
    """½ ‖A x − y‖² + λ TV(x), (N,), with isotropic, colour-coupled TV and λ = ``strength``."""
    fit = (measurement.operator.A(x) - measurement.y).square().sum((1, 2, 3)) / 2
    p, q = _gradient(x)
    return fit + strength * (p.square() + q.square()).sum(1).sqrt().sum((1, 2))


def total_variation(measurement: Measurement, strength: float, iterations: int = 150) -> Tensor:
    """argmin ½ ‖A x − y‖² + λ TV(x) by the primal-dual method of Chambolle and Pock (2011).

    The data term is handled by its exact prox; ``strength`` is λ for images in [-1, 1].
    """
    operator, y = measurement.linear, measurement.y
    x = operator.prox(mean_colour(measurement), y, 100.0)
    # tau * sigma * 8 ≤ 1, as ‖gradient‖² ≤ 8. The dual variable has norm at most λ and images
    # change by a few tenths: this ratio of tau to sigma converges fastest.
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
    """Images (N, 3, H, W) of latents fitted to y by Adam, without the flow: a baseline for the
    autoencoder alone.

    Starts from the encoded A⁺y (y if A keeps the shape) and takes ``passes`` steps, with a cosine
    decay of ``step_size`` to zero. ``pull`` is the weight of an L2 penalty on the latents.
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
