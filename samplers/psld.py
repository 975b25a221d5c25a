"""PSLD: Posterior Sampling with Latent Diffusion (Rout et al., NeurIPS 2023), for flows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from ..operators import Measurement
from ..priors.base import FlowPrior
from .data_step import DataLoss, Descent, norm, saving_memory, squared_norm
from .method import Callback, Step
from .settings import Settings

GLUE = 0.1
"""Weight of the gluing term, as published."""


def psld_loss(loss: DataLoss, z0: Tensor, generators: Sequence[torch.Generator] | None) -> Tensor:
    """‖A x − y‖ + 0.1 ‖z0 − E(B y + x − B A x)‖ of x = D(z0), (N,): measurement and gluing terms.

    With the squared loss the first term is the negative log-likelihood and the second is squared.
    """
    prior, measurement = loss.prior, loss.measurement
    x = prior.decode(z0)
    seen = measurement.operator.A(x)
    loss.stop.update(seen)
    glued = prior.encode(loss.projected + x - loss.project(seen), generators)
    if loss.kind != "squared":
        return norm(seen - measurement.y) + GLUE * norm(z0 - glued)
    fit = squared_norm(seen - measurement.y) / (2 * loss.variance)
    return fit + GLUE * squared_norm(z0 - glued)


def _gradient(
    loss: DataLoss,
    z: Tensor,
    sigma: float,
    generators: Sequence[torch.Generator],
) -> tuple[Tensor, Tensor, Tensor]:
    """Denoised latents, loss (N,) and its gradient with respect to the noisy latents ``z``."""
    states = [g.get_state() for g in generators]
    try:
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            z0 = loss.prior.denoise(z, sigma)
            value = psld_loss(loss, z0, generators)
            (gradient,) = torch.autograd.grad(value.sum(), z)
    except BaseException:
        # A second attempt draws the same noise.
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
        raise
    return z0.detach(), value.detach(), gradient


@torch.no_grad()
def psld(
    prior: FlowPrior,
    z: Tensor,
    sigmas: Tensor,
    measurement: Measurement,
    settings: Settings,
    generators: Sequence[torch.Generator],
    callback: Callback | None = None,
) -> Tensor:
    """Latents (N, C, h, w), from noise ``z`` at ``sigmas[0]``: Euler steps, each moved along the
    gradient with respect to the noisy latents, through decoder, encoder and network.
    """
    operator = measurement.operator
    if not operator.linear and operator.in_shape != operator.out_shape:
        raise ValueError(
            f"psld needs a linear operator, or one that keeps the image's shape; this one turns"
            f" {operator.in_shape} into {operator.out_shape}: choose flowdps or flowchef"
        )
    loss = DataLoss(prior, measurement, settings.loss, settings.stop)
    descent = Descent(settings)
    total = len(sigmas) - 1
    for i, (s, s_next) in enumerate(zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True)):
        if settings.step_size:
            z0, value, gradient = saving_memory(prior, partial(_gradient, loss, z, s, generators))
            move = loss.stop.limit(descent.move(gradient, s), value, gradient)
        else:
            z0, value = prior.denoise(z, s), z.new_zeros(len(z))
            move = torch.zeros_like(z)
        z1 = z0 + (z - z0) / s
        z = (1 - s_next) * z0 + s_next * z1 + move
        if callback:
            callback(Step(i, total, s, z0, value))
    return z
