"""How a method pulls towards the measurement."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


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
    proximal_weight: with ``squared``, the weight of ‖z − z0‖² / 2r² that keeps the data step near
        the denoised latent, where r = σ / √(σ² + (1 − σ)²) is the standard deviation of a unit
        Gaussian given its noisy version; 0 is none.
    decay: power of r that multiplies the Adam step: 0 is one size at every noise level.
    weight: part of the data step that is kept, ``sigma`` as published or ``one`` (FlowDPS).
    renew: how much of the noise is renewed at every level (FlowDPS): 1 as published, 0 none.
    pixel_error_std: standard deviation of what the autoencoder cannot show, for images in [-1, 1];
        the decoded image is corrected by the measurement with it (``data_consistency``), 0 is not
        at all.
    stop: ratio of residual to noise at which a sample is pulled no further, 1 being what the noise
        explains; the last move is shortened (``DiscrepancyStop``). 0 is never.
    """

    step_size: float
    loss: Literal["norm", "residual", "squared"] = "norm"
    rule: Literal["gradient", "adam"] = "gradient"
    inner_steps: int = 3
    early_steps: int | None = None
    early_sigma: float = 0.7
    proximal_weight: float = 0.0
    decay: float = 0.0
    weight: Literal["sigma", "one"] = "sigma"
    renew: float = 1.0
    pixel_error_std: float = 0.0
    stop: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.renew <= 1:
            raise ValueError(f"renew is {self.renew}; expected a number from 0 to 1")
        if not (math.isfinite(self.pixel_error_std) and self.pixel_error_std >= 0):
            raise ValueError(
                f"pixel_error_std is {self.pixel_error_std}; expected a number of at least 0"
            )
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
