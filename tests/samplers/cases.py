"""A case for every method: its published update written out, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from comfyui_flowdps.operators import Measurement
from comfyui_flowdps.priors.base import FlowPrior
from torch import Tensor


class Hand:
    """What an update needs that is written out with autograd only."""

    def __init__(
        self,
        prior: FlowPrior,
        measurement: Measurement,
        step_size: float,
        generators: Sequence[torch.Generator],
    ):
        self.prior, self.step_size, self.generators = prior, step_size, generators
        self.y, self.operator = measurement.y, measurement.linear
        same = self.operator.in_shape == self.operator.out_shape
        self.back = self.operator.adjoint if same else self.operator.pinv

    def split(self, z: Tensor, s: float) -> tuple[Tensor, Tensor]:
        """The denoised part and the noise part of latents."""
        v = (z - self.prior.denoise(z, s)) / s
        return z - s * v, z + (1 - s) * v

    def drawn(self, like: Tensor) -> Tensor:
        """Fresh noise."""
        drawn = [torch.randn(like.shape[1:], generator=g) for g in self.generators]
        return torch.stack(drawn).to(like)

    def slope(self, function: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
        """The gradient of a loss."""
        at = at.detach().requires_grad_()
        return torch.autograd.grad(function(at).sum(), at)[0]

    def data(self, u: Tensor) -> Tensor:
        """The loss ``norm`` of latents."""
        seen = self.operator.A(self.prior.decode(u))
        return length(self.back(self.y) - self.back(seen))


def length(a: Tensor) -> Tensor:
    """Euclidean norm of every sample."""
    return a.flatten(1).norm(dim=1)


def flowdps(hand: Hand, z: Tensor, s: float, s2: float) -> Tensor:
    z0, z1 = hand.split(z, s)
    zy = z0
    for _ in range(3):
        zy = zy - hand.step_size * hand.slope(hand.data, zy)
    zt = (1 - s) * z0 + s * zy
    noise = hand.drawn(z) if s2 > 0 else torch.zeros_like(z)
    return (1 - s2) * zt + s2 * (math.sqrt(s2) * z1 + math.sqrt(1 - s2) * noise)


def flowchef(hand: Hand, z: Tensor, s: float, s2: float) -> Tensor:
    z0, z1 = hand.split(z, s)
    return (1 - s2) * z0 + s2 * z1 - hand.step_size * hand.slope(hand.data, z0)


def psld(hand: Hand, z: Tensor, s: float, s2: float) -> Tensor:
    def loss(u: Tensor) -> Tensor:
        z0 = hand.prior.denoise(u, s)
        x = hand.prior.decode(z0)
        glue = hand.back(hand.y) + x - hand.back(hand.operator.A(x))
        return length(hand.operator.A(x) - hand.y) + 0.1 * length(z0 - hand.prior.encode(glue))

    z0, z1 = hand.split(z, s)
    return (1 - s2) * z0 + s2 * z1 - hand.step_size * hand.slope(loss, z)


@dataclass(frozen=True)
class Case:
    """What the tests know of a method.

    update: its step from noise level s to s2 with the preset ``published``, written out.
    work: what 28 noise levels of super-resolution take with that preset, as ``Work`` counts.
    distance: distance of the mean of 256 samples to the posterior mean, as a part of the distance
        from the prior mean to it, which ``tuned`` stays below on a linear-Gaussian problem.
    """

    update: Callable[[Hand, Tensor, float, float], Tensor]
    work: dict[str, int]
    distance: float


def both_ways(count: int, *names: str) -> dict[str, int]:
    """Calls that a gradient went back through."""
    return {f"{name}{way}": count for name in names for way in ("", " gradient")}


ONE_GRADIENT = {"transformer": 28, "pinv": 1, **both_ways(28, "decoder", "projection")}
# Distances measured with pool and identity: FlowDPS 0.12 and 0.05, FlowChef 0.49 and 0.23, PSLD
# 0.15 and 0.27. None of the three is an exact sampler.
CASES: dict[str, Case] = {
    "flowdps": Case(
        flowdps,
        {"transformer": 28, "pinv": 1, **both_ways(84, "decoder", "projection")},
        distance=0.15,
    ),
    "flowchef": Case(flowchef, ONE_GRADIENT, distance=0.55),
    "psld": Case(
        psld,
        {
            **both_ways(28, "transformer", "decoder", "encoder", "A"),
            **{"pinv": 29, "pinv gradient": 28},
        },
        distance=0.3,
    ),
}
