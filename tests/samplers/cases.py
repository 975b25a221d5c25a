"""A case for every method: its published update written out, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from comfyui_flowdps.operators import LinearOperator, Measurement
from comfyui_flowdps.priors.base import FlowPrior
from torch import Tensor


class Hand:
    """What an update needs that is written out with autograd only.

    ``kept`` is for what a method keeps beside its latents from step to step; None at the first.
    """

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
        self.noise_level = measurement.noise_level
        self.kept: Tensor | None = None

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


def matrix(operator: LinearOperator) -> Tensor:
    """The operator as a dense matrix."""
    size = math.prod(operator.in_shape)
    basis = torch.eye(size, dtype=torch.float64).view(size, *operator.in_shape)
    return operator.A(basis).flatten(1).T


def argmin(hand: Hand, x: Tensor, deviation: Tensor) -> Tensor:
    """argmin over u of ‖A u − y‖² / 2σₙ² + ‖u − x‖² / 2ν² by the dense matrix; ν (N,)."""
    a, rows = matrix(hand.operator), []
    eye = torch.eye(a.shape[1], dtype=torch.float64)
    for one, y, v in zip(x.flatten(1), hand.y.flatten(1), deviation, strict=True):
        left = a.T @ a / hand.noise_level**2 + eye / v**2
        rows.append(torch.linalg.solve(left, a.T @ y / hand.noise_level**2 + one / v**2))
    return torch.stack(rows).view_as(x)


def first(hand: Hand) -> Tensor:
    """The encoding of argmin ‖A x − y‖² + σₙ² ‖x‖²."""
    zero = torch.zeros(len(hand.y), *hand.operator.in_shape, dtype=torch.float64)
    return hand.prior.encode(argmin(hand, zero, torch.ones(len(hand.y)).double()))


SD3 = ((1.0, 0.646), (0.98, 0.388), (0.949, 0.305), (0.899, 0.258), (0.848, 0.238), (0.798, 0.233))
SD3 += ((0.747, 0.232), (0.697, 0.237), (0.646, 0.246), (0.596, 0.257), (0.545, 0.273))
SD3 += ((0.495, 0.293), (0.444, 0.317), (0.394, 0.348), (0.343, 0.386), (0.293, 0.433))
SD3 += ((0.242, 0.493), (0.192, 0.569), (0.141, 0.668), (0.091, 0.798), (0.040, 0.950), (0, 1.086))
"""The errors of SD3's velocity that FLAIR's paper measured."""


def flair_weight(t: float) -> float:
    """w(t) = max(0, r(t) − r(0)) / 2 with r = 1 / E, scaled so that 100 of them add up to 100."""
    levels, errors = zip(*reversed(SD3), strict=True)
    at = np.append(np.linspace(1, 0, 100), t)
    certainty = 1 / np.interp(at, levels, errors)
    certainty = 100 * certainty / certainty[:100].sum()
    return max(0.0, float(certainty[-1] - certainty[99]) / 2)


def flair(hand: Hand, mean: Tensor, t: float, _: float) -> Tensor:
    if hand.kept is None:
        mean, hand.kept = first(hand), hand.drawn(mean)
    a, w = 1 - t, flair_weight(t)
    noise = a * hand.kept + math.sqrt(1 - a**2) * hand.drawn(mean)
    z = (1 - t) * mean + t * noise
    v = (z - hand.prior.denoise(z, t)) / t
    hand.kept = z + (1 - t) * v
    mean = mean - w * (v - (noise - mean))

    def squares(u: Tensor) -> Tensor:
        return (hand.operator.A(hand.prior.decode(u)) - hand.y).flatten(1).square()

    for _ in range(15):
        far = squares(mean).mean(1) > 1e-4
        step = hand.step_size * w * hand.slope(lambda u: squares(u).sum(1), mean)
        mean = mean - step * far.view(-1, 1, 1, 1)
    return mean


def latino(hand: Hand, clean: Tensor, s: float, s2: float) -> Tensor:
    clean = first(hand) if hand.kept is None else clean
    hand.kept = clean
    z = (1 - s) * clean + s * hand.drawn(clean)
    x = hand.prior.decode(hand.prior.denoise(z, s)).clamp(-1, 1)
    misfit = length(hand.operator.A(x) - hand.y)
    if hand.operator.in_shape == hand.operator.out_shape:
        c = 5e-4 if s > 0.54 else 2e-4
    else:
        c = 0.3 if s > 0.45 else 0.2
    gamma = c * misfit * s**2 / ((1 - s) ** 2 + s**2)
    return hand.prior.encode(argmin(hand, x, gamma.sqrt()).clamp(-1, 1))


@dataclass(frozen=True)
class Case:
    """What the tests know of a method, and which of their laws are not its own.

    update: its step from noise level s to s2 with the preset ``published``, written out.
    work: what 28 noise levels of super-resolution take with that preset, as ``Work`` counts.
    distance: distance of the mean of 256 samples to the posterior mean, as a part of the distance
        from the prior mean to it, which ``tuned`` stays below on a linear-Gaussian problem.
    small: values of ``published`` that suit pictures of a few pixels.
    """

    update: Callable[[Hand, Tensor, float, float], Tensor]
    work: dict[str, int]
    distance: float
    small: Mapping[str, float] = field(default_factory=lambda: {"step_size": 0.05})


def both_ways(count: int, *names: str) -> dict[str, int]:
    """Calls that a gradient went back through."""
    return {f"{name}{way}": count for name in names for way in ("", " gradient")}


ONE_GRADIENT = {"transformer": 28, "pinv": 1, **both_ways(28, "decoder", "projection")}
# Distances measured with pool and identity: FlowDPS 0.19 and 0.05, FlowChef 0.49 and 0.23, PSLD
# 0.15 and 0.27, FLAIR 0.15 and 0.04, LATINO, which clips, 0.13 and 0.28. None is an exact sampler.
CASES: dict[str, Case] = {
    "flowdps": Case(
        flowdps,
        {"transformer": 28, "pinv": 1, **both_ways(84, "decoder", "projection")},
        distance=0.21,
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
    "flair": Case(
        flair,
        {"transformer": 28, "encoder": 1, "prox": 1, **both_ways(28 * 15, "decoder", "A")},
        distance=0.2,
        small={"step_size": 0.05, "downscaled_step_size": 0.05},
    ),
    "latino": Case(
        latino,
        {"transformer": 28, "decoder": 28, "encoder": 29, "A": 28, "prox": 29},
        distance=0.32,
        small={},
    ),
}
