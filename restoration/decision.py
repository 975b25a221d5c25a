"""What a diagnosis leads to: how a photo is restored, and what is said of the result."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..estimation.progress import SILENT, Progress
from ..operators import Mask
from ..operators.observation import pad_to
from ..priors.base import FlowPrior
from ..samplers import MethodSettings, RefineSettings, method_named, with_values
from ..samplers.memory import decoded, encoded
from .degradation import Damage
from .diagnosis import Diagnosis, Wish, diagnose
from .pipeline import Request

ROUND_TRIP = 256
"""Side in pixels of the part on which the model's autoencoder is tried."""
KEEPS = 27.0
"""Least PSNR in dB of that part after encoding and decoding, for a model made for such photos."""


def done(title: str, settings: MethodSettings, steps: int) -> str:
    """A sentence on a restoration by the method called ``title``."""
    start = ""
    if isinstance(settings, RefineSettings):
        most = "at most " * (settings.eased < 1)
        start = f", beginning with {most}{settings.denoise:.0%} of noise"
    return f"It is restored by {title} in {steps} step{'s' * (steps > 1)}{start}."


def strangeness(
    x: Tensor, noise_level: float, stride: int, round_trip: Callable[[Tensor], Tensor]
) -> list[str]:
    """A warning if the model's autoencoder cannot keep such a photo, apart from its noise.

    x: photos (N, 3, H, W) in [-1, 1]. round_trip: encodes and decodes images whose sides
    ``stride`` divides.
    """
    top, left = (max(0, n - ROUND_TRIP) // 2 for n in x.shape[2:])
    part = x[:1, :, top : top + ROUND_TRIP, left : left + ROUND_TRIP]
    part = pad_to(part, *(-(-n // stride) * stride for n in part.shape[2:]))
    off = (round_trip(part) - part).square().mean()
    kept = 10 * math.log10(4 / max(float(off) - noise_level**2, 1e-12))
    if kept >= KEEPS:
        return []
    return [
        f"this model keeps such a photo only roughly ({kept:.0f} dB after encoding and decoding):"
        " it is made for other pictures, and details may look painted. Choose a larger model."
    ]


@dataclass(frozen=True)
class Decision:
    """How photos are restored whose damage nobody states: each as it needs.

    wish: what is said of them. damage: mask and noise level, where these are given.
    steps: number of noise levels; None: the wish's for Refine, else the method's.
    """

    wish: Wish
    damage: Damage
    steps: int | None = None

    @torch.no_grad()
    def of(
        self, x: Tensor, request: Request, prior: FlowPrior, progress: Progress = SILENT
    ) -> tuple[Diagnosis, Request]:
        """What is wrong with the photo x (1, 3, H, W) in [-1, 1], and the request that repairs it.

        Method, preset and seed are those of ``request``; its noise levels give way to the wish's
        where ``request.suited`` lets them. ``progress`` may stop it. ValueError for a photo that is
        too small.
        """
        mask, level = self.damage.mask, self.damage.noise
        painted = None
        if isinstance(mask, Mask):
            painted = 1 - mask.from_photo(torch.ones(1, 1, *x.shape[2:]))[0, 0]
        found = diagnose(x, self.wish, painted, progress)
        if level is not None:
            found.noise_level, found.healthy = level, found.healthy and not level
            found.found.append(f"Its noise level is {level:g}, as you say.")
        settings, steps = request.settings, request.steps
        if request.suited and isinstance(settings, RefineSettings):
            plan, levels = self.wish.plan(prior.error_spectrum)
            settings = with_values(settings, denoise=plan.denoise, last=plan.last, eased=plan.eased)
            steps = len(levels) - 1 if self.steps is None else self.steps
        request = dataclasses.replace(
            request,
            recipe=found.recipe,
            noise=found.noise_level,
            settings=settings,
            steps=steps,
            suited=False,
        )
        if not found.healthy:
            found.found.append(done(method_named(request.method).title, settings, steps))
        return found, request

    @torch.no_grad()
    def try_model(self, x: Tensor, found: Diagnosis, prior: FlowPrior) -> None:
        """Add a warning to what was found in x if the model is not made for such a photo.

        Unlike ``of``, this runs the model.
        """

        def round_trip(part: Tensor) -> Tensor:
            return decoded(prior, encoded(prior, part.to(prior.device))).to(part)

        if not found.healthy:
            found.warnings += strangeness(x, found.noise_level, prior.stride, round_trip)
