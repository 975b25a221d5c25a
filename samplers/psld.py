"""PSLD: Posterior Sampling with Latent Diffusion (Rout et al., NeurIPS 2023), for flows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..operators import Measurement
from ..priors.base import FlowPrior
from .checks import at_least
from .data_loss import DataLoss, norm, squared_norm
from .gradient_step import Descent, GradientStep
from .memory import saving_memory
from .method import Callback, Step
from .scaling import scaled
from .schedule import noise_levels
from .settings import MethodSettings


@dataclass(frozen=True, kw_only=True)
class PSLDSettings(MethodSettings):
    """Settings of PSLD.

    data_step: a ``GradientStep``, whose gradient is taken with respect to the noisy latents,
        through the model. ValueError for another kind.
    gluing: weight of the gluing term, 0.1 as published.
    """

    data_step: GradientStep
    gluing: float = 0.1

    def __post_init__(self) -> None:
        at_least(0, gluing=self.gluing)
        if type(self.data_step) is not GradientStep:
            raise ValueError(
                f"the data step of psld is {type(self.data_step).__name__}; it takes one gradient"
                " per noise level through the model: choose GradientStep"
            )
        if self.data_step.loss == "hybrid":
            raise ValueError(
                "the loss of psld is 'hybrid'; it takes norm, residual or squared: choose one of"
                " these, or flowdps"
            )


def psld_loss(
    loss: DataLoss,
    z0: Tensor,
    generators: Sequence[torch.Generator] | None,
    gluing: float = 0.1,
) -> Tensor:
    """‖A x − y‖ + w ‖z0 − E(B y + x − B A x)‖ with x = D(z0), (N,): measurement and gluing terms.

    D is the decoder, E the encoder, B the back-projection and w ``gluing``. With the loss
    ``squared`` the first term is the negative log-likelihood and the second is squared.
    """
    prior, measurement = loss.prior, loss.measurement
    x = scaled(prior.decode, z0)
    seen = measurement.operator.A(x)
    loss.stop.update(seen)
    fitted = loss.projected + x - loss.project(seen)
    glued = scaled(partial(prior.encode, generators=generators), fitted)
    if loss.kind != "squared":
        return norm(seen - measurement.y) + gluing * norm(z0 - glued)
    fit = squared_norm(seen - measurement.y) / (2 * loss.variance)
    return fit + gluing * squared_norm(z0 - glued)


def _gradient(
    loss: DataLoss,
    z: Tensor,
    sigma: float,
    generators: Sequence[torch.Generator],
    gluing: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Denoised latents, loss (N,) and its gradient with respect to the noisy latents ``z``."""
    states = [g.get_state() for g in generators]
    try:
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            z0 = scaled(partial(loss.prior.denoise, sigma=sigma), z)
            value = psld_loss(loss, z0, generators, gluing)
            (gradient,) = torch.autograd.grad(value.sum(), z)
    except BaseException:
        # So that a second attempt draws the same noise.
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
    settings: PSLDSettings,
    generators: Sequence[torch.Generator],
    callback: Callback | None = None,
) -> Tensor:
    """Latents (N, C, h, w), integrated from noise ``z`` at ``sigmas[0]``: Euler steps, each plus a
    step against the gradient of ``psld_loss`` with respect to the noisy latents.
    """
    operator = measurement.operator
    if not operator.linear and operator.in_shape != operator.out_shape:
        raise ValueError(
            f"psld needs a linear operator, or one that keeps the image's shape; this one turns"
            f" {operator.in_shape} into {operator.out_shape}: choose flowdps or flowchef"
        )
    step = settings.data_step
    loss, descent = DataLoss(prior, measurement, step.loss, step.stop), Descent(step)
    total = len(sigmas) - 1
    for i, s, s_next in noise_levels(sigmas):
        if step.active:
            gradient_at = partial(_gradient, loss, z, s, generators, settings.gluing)
            z0, value, gradient = saving_memory(prior, gradient_at)
            move = loss.stop.limit(descent.move(gradient, s), value, gradient)
        else:
            z0, value = prior.denoise(z, s), z.new_zeros(len(z))
            move = torch.zeros_like(z)
        z1 = z0 + (z - z0) / s
        z = (1 - s_next) * z0 + s_next * z1 + move
        if callback:
            callback(Step(i, total, s, z0, value))
    return z
