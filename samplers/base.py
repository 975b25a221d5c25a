"""What the methods share: settings, the data loss, steps along its gradient, and noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeVar

import torch
from torch import Tensor

from ..operators import LinearOperator, Measurement, Operator
from ..priors.base import FlowPrior, is_out_of_memory
from .discrepancy import Rest, towards


@dataclass(frozen=True)
class Settings:
    """How a method pulls towards the measurement.

    loss: ``norm`` is ‖B(y) − B(A x)‖, as published, with B = A⁺ where A changes the size and Aᵀ
        elsewhere; ``residual`` is the same with B = I elsewhere; ``squared`` is the negative
        log-likelihood ‖A x − y‖² / 2σₙ².
    rule: ``gradient`` moves by ``step_size`` times the gradient; ``adam`` by ``step_size`` (in
        latent standard deviations) times its Adam direction.
    inner_steps: gradient evaluations per noise level (FlowDPS).
    early_steps: the same at noise levels above ``early_sigma``, where what is gained is soon lost
        in new noise; no more than ``inner_steps``, which None stands for.
    anchor: with ``squared``, the weight of ‖z − z0‖² / 2r² that keeps the data step near the
        denoised latent, where r = σ / √(σ² + (1 − σ)²) is the spread of a unit Gaussian given its
        noisy version; 0 is none.
    decay: power of r that multiplies the Adam step: 0 is one size at every noise level.
    weight: part of the data step that is kept, ``sigma`` as published or ``one`` (FlowDPS).
    renew: how much of the noise is renewed at every level (FlowDPS): 1 as published, 0 none.
    polish: standard deviation of what the autoencoder cannot show, for images in [-1, 1]; the
        decoded image is corrected by the measurement with it (``finish``), 0 is not at all.
    stop: ratio of residual to noise at which a sample is pulled no further, 1 being what the noise
        explains; the last move is shortened (``Rest``). 0 is never.
    """

    step_size: float
    loss: Literal["norm", "residual", "squared"] = "norm"
    rule: Literal["gradient", "adam"] = "gradient"
    inner_steps: int = 3
    early_steps: int | None = None
    early_sigma: float = 0.7
    anchor: float = 0.0
    decay: float = 0.0
    weight: Literal["sigma", "one"] = "sigma"
    renew: float = 1.0
    polish: float = 0.0
    stop: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.renew <= 1:
            raise ValueError(f"renew is {self.renew}; expected a number from 0 to 1")
        if not (math.isfinite(self.polish) and self.polish >= 0):
            raise ValueError(f"polish is {self.polish}; expected a number of at least 0")
        if not (math.isfinite(self.stop) and self.stop >= 0):
            raise ValueError(f"stop is {self.stop}; expected a number of at least 0, such as 1")
        if not (math.isfinite(self.step_size) and self.step_size >= 0):
            raise ValueError(f"step size is {self.step_size}; expected a number of at least 0")
        for name in ("inner_steps", "early_steps"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 0")

    def steps_at(self, sigma: float) -> int:
        """Gradient evaluations at a noise level."""
        steps = self.inner_steps
        if self.early_steps is not None and sigma > self.early_sigma:
            steps = min(steps, self.early_steps)
        return steps if self.step_size else 0


@dataclass(frozen=True)
class Step:
    """What a callback sees after step ``i`` of ``total``.

    ``denoised`` (N, C, h, w) is the estimate of the clean latents at noise level ``sigma``,
    ``loss`` (N,) the data loss of every sample.
    """

    i: int
    total: int
    sigma: float
    denoised: Tensor
    loss: Tensor


Callback = Callable[[Step], None]


def spread(sigma: float) -> float:
    """Standard deviation of a unit Gaussian given its noisy version at ``sigma``."""
    return sigma / math.hypot(sigma, 1 - sigma)


def per_sample(values: Tensor) -> Tensor:
    """Squared Euclidean norm of every sample: (N, ...) to (N,)."""
    return values.flatten(1).square().sum(1)


def norm(values: Tensor) -> Tensor:
    """Euclidean norm of every sample, with gradient 0 at 0."""
    squared = per_sample(values)
    zero = squared == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, squared).sqrt())


Map = Callable[[Tensor], Tensor]


def back_projection(operator: Operator, kind: str) -> tuple[Map, Map]:
    """B of the loss ``kind``, and B A as one operator.

    A⁺ for super-resolution (A changes the size), Aᵀ for deblurring, and the identity for what is
    not linear and, in the loss ``residual``, for deblurring.
    """
    same = operator.in_shape == operator.out_shape
    if not isinstance(operator, LinearOperator) or (same and kind == "residual"):
        return lambda y: y, operator.A
    if same:
        return operator.adjoint, operator.normal
    return operator.pinv, operator.projection


class DataLoss:
    """Data loss of images or latents, (N,) per sample; what does not change is computed once.

    ``rest`` knows the residual of the images at which the loss was asked for last.
    """

    def __init__(self, prior: FlowPrior, measurement: Measurement, kind: str, stop: float = 0.0):
        self.rest = Rest(stop, measurement, 2 if kind == "squared" else 1)
        self.prior, self.measurement, self.kind = prior, measurement, kind
        self.project, self._projected_A = back_projection(measurement.operator, kind)
        self.variance = measurement.level**2

    @cached_property
    def projected(self) -> Tensor:
        """B y, computed once."""
        return self.project(self.measurement.y)

    def of_images(self, x: Tensor) -> Tensor:
        """Loss of images (N, 3, H, W)."""
        if self.kind != "squared":
            if self.rest.stop:
                self.rest.look(self.measurement.operator.A(x.detach()))
            return norm(self.projected - self._projected_A(x))
        seen = self.measurement.operator.A(x)
        self.rest.look(seen)
        return per_sample(seen - self.measurement.y) / (2 * self.variance)

    def __call__(self, z: Tensor) -> Tensor:
        """Loss of latents (N, C, h, w)."""
        return self.of_images(self.prior.decode(z))

    def gradient(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Loss (N,) and its gradient at the latents ``z``."""

        def once() -> tuple[Tensor, Tensor]:
            with torch.enable_grad():
                at = z.detach().requires_grad_()
                loss = self(at)
                (gradient,) = torch.autograd.grad(loss.sum(), at)
            return loss.detach(), gradient

        return saving_memory(self.prior, once)


Result = TypeVar("Result")


def saving_memory(prior: FlowPrior, work: Callable[[], Result]) -> Result:
    """What ``work`` returns; it is done again while memory runs out and the prior can save some."""
    while True:
        try:
            return work()
        except (RuntimeError, MemoryError) as error:
            if not (is_out_of_memory(error) and prior.save_memory()):
                raise
        # Past the handler, which keeps the failed pass alive.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


class Descent:
    """Turns gradients into moves: the gradient itself, or Adam (Kingma and Ba 2015)."""

    def __init__(self, settings: Settings):
        self.adam, self.step_size = settings.rule == "adam", settings.step_size
        self.decay = settings.decay
        self.mean: Tensor | None = None
        self.square: Tensor | None = None
        self.count = 0

    def move(self, gradient: Tensor, sigma: float) -> Tensor:
        """What to add to the latents."""
        if not self.adam:
            return -self.step_size * gradient
        b1, b2 = 0.9, 0.99
        self.count += 1
        if self.mean is None or self.square is None:
            self.mean, self.square = torch.zeros_like(gradient), torch.zeros_like(gradient)
        self.mean = b1 * self.mean + (1 - b1) * gradient
        self.square = b2 * self.square + (1 - b2) * gradient.square()
        mean = self.mean / (1 - b1**self.count)
        square = self.square / (1 - b2**self.count)
        size = self.step_size * spread(sigma) ** self.decay
        return -size * mean / (square.sqrt() + 1e-12)


@torch.no_grad()
def finish(x: Tensor, measurement: Measurement, settings: Settings) -> Tensor:
    """The decoded images x (N, C, H, W), with what the measurement says beyond the autoencoder.

    The clean image is D(z) plus an error of standard deviation τ = ``settings.polish``, so that its
    mean given y is argmin ‖A x − y‖² / 2σₙ² + ‖x − D(z)‖² / 2τ²: one prox of the operator.
    Where the operator is not linear, x is returned as it is. With ``settings.stop`` the correction
    goes no further than to that ratio of residual to noise.
    """
    operator = measurement.operator
    if not (settings.polish and settings.step_size and isinstance(operator, LinearOperator)):
        return x
    gamma = (settings.polish / measurement.level) ** 2
    polished = operator.prox(x, measurement.y.to(x), gamma)
    return towards(x, polished, settings.stop, measurement) if settings.stop else polished


def randn_like(z: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Standard normal noise of the shape of ``z``, sample k from ``generators[k]`` (CPU)."""
    if len(generators) != len(z):
        raise ValueError(f"{len(generators)} generators for {len(z)} samples; expected one each")
    drawn = [torch.randn(z.shape[1:], generator=g, dtype=torch.float32) for g in generators]
    return torch.stack(drawn).to(z)
