"""Refinement of a classical restoration by a few low noise levels, without gradients."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..operators import LinearOperator, Measurement
from ..operators.cut_off import CutOff
from ..priors.base import FlowPrior
from .checks import at_least, of_kind
from .discrepancy import towards
from .fill import filled
from .memory import decoded, encoded
from .method import Callback, Sample, Step
from .noise import randn_like
from .pixel_step import PixelStep
from .resolution import LEAST, directness, resolution
from .schedule import noise_levels
from .settings import MethodSettings
from .variation import regularised
from .views import consensus, views

MOST_VIEWS = 4
UNEVEN = 0.2
"""Relative spread of the resolution from which on pixels count as missing."""
DIRECT = 1.5
"""How much stronger total variation is where A shows every value as it is, and noise is white."""
SOFTER = (0.45, 0.7, 1.0)
"""Shares of that strength among which the measurement chooses, in rising order: textures ask for
less than flat areas."""
MUCH = 0.05
"""Share of a pixel that a measurement determines, from which on noise levels are ``eased``."""
SMOOTH = 0.03
"""Weight of the smooth surface in the classical start, where hardly any pixel is known."""


@dataclass(frozen=True)
class VariationFinish:
    """Settings of the classical start and of the final correction of ``refine``.

    With the noise level σₙ, the share f of a pixel that the measurement determines
    (``resolution``), averaged over the image, and d, how directly it is measured
    (``directness``), total variation has the strength
    λ = ``strength`` σₙ ((1 − d⁶) √f (1 − f / 6) + 1.5 d⁶). The final image may differ from the
    model's by τ = min(1, ``freedom`` / (1 − f)²), pixel by pixel.

    strength, freedom: as above; a ``freedom`` of 0 keeps the model's image.
    iterations: of the solver, for start and end each.

    Raises ValueError for values out of range.
    """

    strength: float = 0.8
    freedom: float = 0.12
    iterations: int = 60

    def __post_init__(self) -> None:
        at_least(0, strength=self.strength, freedom=self.freedom)
        at_least(1, iterations=self.iterations)


@dataclass(frozen=True, kw_only=True)
class RefineSettings(MethodSettings):
    """Settings of ``refine``.

    data_step: a ``PixelStep``. finish: a ``VariationFinish``.
    denoise: the first noise level, above 0 to 1. The higher, the more is invented; 1 starts from
        noise alone.
    last: the last noise level; below it a latent model errs as much as its autoencoder.
    views: flips and shifts in which the image is seen, 1 to 4; their mean is what the measurement
        is compared with.
    pairs: pairs of opposite noises per noise level and view, over which the denoised latents are
        averaged.
    eased: factor of all noise levels where the measurement determines more than 5 % of every pixel
        alike, as with a blur that keeps sharp edges, or with a Bayer mosaic: a small model knows
        less there than total variation.

    Raises ValueError for values out of range, and for a data step or finish of another kind.
    """

    data_step: PixelStep = field(default_factory=PixelStep)
    finish: VariationFinish = field(default_factory=VariationFinish)
    denoise: float = 0.3
    last: float = 0.1
    views: int = 2
    pairs: int = 2
    eased: float = 1.0

    def __post_init__(self) -> None:
        of_kind(PixelStep, "data step of refine", self.data_step)
        of_kind(VariationFinish, "finish of refine", self.finish)
        at_least(1, views=self.views, pairs=self.pairs)
        if self.views > MOST_VIEWS:
            raise ValueError(f"views is {self.views}; expected 1 to {MOST_VIEWS}")
        if not 0 < self.denoise <= 1:
            raise ValueError(f"denoise is {self.denoise}; expected a number above 0 and up to 1")
        if not 0 < self.last <= 1:
            raise ValueError(f"last is {self.last}; expected a number above 0 and up to 1")
        if not 0 < self.eased <= 1:
            raise ValueError(f"eased is {self.eased}; expected a number above 0 and up to 1")


def refine_levels(settings: RefineSettings, steps: int) -> Tensor:
    """Noise levels (steps + 1,), evenly spaced from ``denoise`` to ``last``, and 0.

    A single one is ``denoise``; with a ``denoise`` below ``last``, they go on to half of it.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}; expected at least 1")
    end = min(settings.last, settings.denoise if steps == 1 else settings.denoise / 2)
    levels = torch.linspace(settings.denoise, end, steps, dtype=torch.float64)
    return torch.cat([levels, levels.new_zeros(1)])


def suited(settings: MethodSettings, prior: FlowPrior) -> MethodSettings:
    """Settings with the noise levels that suit ``prior``, where it says so
    (``ErrorSpectrum.refine``, ``eased``); those of other methods stay as they are."""
    spectrum = prior.error_spectrum
    if spectrum is None or spectrum.refine is None or not isinstance(settings, RefineSettings):
        return settings
    first, last = spectrum.refine
    return dataclasses.replace(settings, denoise=first, last=last, eased=spectrum.eased)


@dataclass(frozen=True)
class Start:
    """Where ``refine`` begins.

    image: restorations (N, C, H, W) by total variation.
    strength: of it, (N, 1, 1, 1). typical: the same before a share of it was chosen.
    known: the resolution (1 or N, C, H, W).
    lost: values that were cut off, None without such.
    measurement: the one given; but where values were cut off, it has the value of that end, without
        noise, which says nothing about the image there and would draw it towards the end.
    """

    image: Tensor
    strength: Tensor
    typical: Tensor
    known: Tensor
    measurement: Measurement
    lost: CutOff | None

    @property
    def much_known(self) -> bool:
        """Whether the measurement determines much of every pixel, and of all alike."""
        known = self.known.mean(1)
        alike = float(known.std()) <= UNEVEN * float(known.mean())
        linear = isinstance(self.measurement.operator, LinearOperator)
        return linear and alike and float(known.mean()) > MUCH

    def kept(self, corrected: Tensor, image: Tensor) -> Tensor:
        """``corrected``, but ``image`` within its bounds where the values were cut off: what is
        wrong with the surroundings tells nothing about them."""
        if self.lost is None:
            return corrected
        return torch.where(self.lost.where, self.lost.within(image), corrected)


@torch.no_grad()
def classical(measurement: Measurement, finish: VariationFinish) -> Start:
    """The classical restorations. Values that were cut off are drawn to the mean of what they may
    have been."""
    known = resolution(measurement)
    f, direct = known.mean(), directness(measurement) ** 6
    strength = (1 - direct) * f.sqrt() * (1 - f / 6) + DIRECT * direct
    typical = finish.strength * measurement.misfit_level * strength
    operator, y = measurement.operator, measurement.y
    weight: Tensor | float = 0.0
    if isinstance(operator, LinearOperator):
        begin = operator.prox(y.new_zeros(measurement.count, *operator.in_shape), y, 100.0)
        if float(known.std()) > UNEVEN * float(known.mean()):
            # Pixels are missing. Single ones among many would be spikes that have no variation to
            # speak of, so that these stay near the smooth surface.
            part = known / known.max()
            begin = filled(begin, part)
            weight = SMOOTH * (1 - part.mean()) ** 8 * (1 - part)
    else:
        begin = operator.picture(y)
    strength = typical.expand(measurement.count, 1, 1, 1)
    if operator.cycle:
        strength = strength * _certainty(known)
    whole = isinstance(weight, float)
    if (whole or direct > 0.5) and isinstance(operator, LinearOperator) and typical > 0:
        strength = strength * _share(
            measurement, strength, typical, begin, weight, finish.iterations // 2
        )
    image = regularised(measurement, strength, begin, weight, finish.iterations, typical)
    lost = operator.cut_off(image, measurement.noise_level)
    if lost is not None:
        measurement = dataclasses.replace(measurement, y=torch.where(lost.where, lost.end, y))
        begin = torch.where(lost.where, lost.centre, image)
        known = torch.where(lost.where, LEAST, known)
        share = measurement.misfit_level / lost.variance.sqrt()
        weight = torch.where(lost.where, share.square(), 0.0)
        # Both terms there are those of a value with the deviation of what is possible.
        softer = torch.where(lost.where, share, 1.0).mean(1, keepdim=True)
        image = regularised(
            measurement, strength * softer, begin, weight, finish.iterations, typical
        )
    return Start(image, strength, typical, known, measurement, lost)


def _certainty(known: Tensor) -> Tensor:
    """How much weight a pixel's measurement has, (N, 1, H, W) relative to the largest.

    Pixels of a film are known differently well, as those that were seen several times. With a
    weight w, the noise is σₙ / w and the data term is multiplied by w², so that the strength of
    total variation that suits the noise there is w times that of the rest.
    """
    share = known.clamp(max=1 - LEAST).mean(1, keepdim=True)
    weight = (share / (1 - share)).sqrt()
    return (weight / weight.max()).clamp(min=UNEVEN)


def _share(
    measurement: Measurement,
    strength: Tensor,
    typical: Tensor,
    begin: Tensor,
    weight: Tensor | float,
    iterations: int,
) -> Tensor:
    """The share of the strength that suits every sample, or film, (N, 1, 1, 1), one of ``SOFTER``.

    It is that with the least of Stein's unbiased estimate of the risk to what is measured,
    ‖A x̂(y) − y‖² + 2 σₙ² div A x̂(y), the divergence by one random direction (Ramani, Blu and
    Unser 2008, Monte-Carlo SURE). The shares are tried in their order, as long as the risk falls.
    """
    operator, y, level = measurement.operator, measurement.y, measurement.misfit_level
    generator = torch.Generator().manual_seed(0)
    signs = (2 * torch.randint(0, 2, (1, *y.shape[1:]), generator=generator) - 1).to(y)
    if (seen := measurement.measured) is not None:
        signs = signs * seen
    step = 0.3 * level
    moved = dataclasses.replace(measurement, y=y + step * signs)
    risks, falling = [], torch.ones(measurement.count, dtype=torch.bool, device=y.device)
    for share in SOFTER:
        a, b = (
            operator.A(regularised(m, share * strength, begin, weight, iterations, typical))
            for m in (measurement, moved)
        )
        missed = a - y if seen is None else (a - y) * seen
        divergence = (signs * (b - a)).flatten(1).sum(1) / step
        risk = missed.square().flatten(1).sum(1) + 2 * level**2 * divergence
        # One share for all frames of a film, which would flicker.
        risk = risk if operator.cycle is None else risk.sum().expand(measurement.count)
        if risks:
            # A sample whose risk has risen is done, whatever others of its batch still try.
            falling &= risk < risks[-1]
            risk = torch.where(falling, risk, torch.inf)
            if not falling.any():
                break
        risks.append(risk)
    least = torch.stack(risks).argmin(0)
    return y.new_tensor(SOFTER)[least].view(-1, 1, 1, 1)


@torch.no_grad()
def refine(
    prior: FlowPrior,
    z: Tensor,
    sigmas: Tensor,
    measurement: Measurement,
    settings: RefineSettings,
    generators: Sequence[torch.Generator],
    callback: Callback | None = None,
) -> Sample:
    """Restorations from a classical one at the noise levels ``sigmas``, or at lower ones if they
    are ``eased``; ``z`` is not used but for its precision.

    At every noise level σ, in every view: noise is added to the latents and removed by the model,
    averaged over opposite noises. The decoded images are averaged over the views, corrected
    towards the measurement in pixels (``PixelProx``), and the latents of every view move by the
    difference of two encodings, in which the autoencoder's own error cancels. The last mean is
    corrected by total variation (``VariationFinish``), or once more in pixels where A rounds and
    its ``rounding_error`` is known. Encodings are means. The images of the
    result are final; its latents decode to nearly the same. Its start is the classical image.
    """
    step, finish = settings.data_step, settings.finish
    start = classical(measurement, finish)
    image, measurement = start.image.to(z), start.measurement
    if start.much_known:
        sigmas = settings.eased * sigmas
    seen = views(settings.views if prior.movable else 1, prior.stride)
    latents = [encoded(prior, view.of(image)) for view in seen]
    prox = step.prox(prior, measurement)
    total = len(sigmas) - 1
    mean = image
    for i, s, s_next in noise_levels(sigmas):
        estimates = [_denoised(prior, each, s, settings.pairs, generators) for each in latents]
        images = [decoded(prior, each).to(z) for each in estimates]
        mean = consensus(seen, images)
        latents = estimates
        if s_next > 0 and step.active:
            wanted, loss = prox(mean, s)
            wanted = start.kept(wanted, mean)
            latents = [
                z0 + encoded(prior, view.of(wanted)) - encoded(prior, x)
                for z0, view, x in zip(estimates, seen, images, strict=True)
            ]
        else:
            loss = prox.loss(mean)
        if callback:
            callback(Step(i, total, s, latents[0], loss))
    final = mean
    if finish.freedom and step.active:
        if measurement.operator.rounding_error is None:
            final = start.kept(_varied(mean, start, settings), mean)
        else:
            final, _ = prox(mean, float(sigmas[-2]))
        if step.stop:
            final = towards(mean, final, step.stop, measurement)
    return Sample(latents[0] + encoded(prior, final) - encoded(prior, mean), final, image)


def _denoised(
    prior: FlowPrior, z: Tensor, sigma: float, pairs: int, generators: Sequence[torch.Generator]
) -> Tensor:
    """The mean estimate of the clean latents, over pairs of opposite noises added to z."""
    total = torch.zeros_like(z)
    for _ in range(pairs):
        noise = randn_like(z, generators)
        for sign in (1, -1):
            total = total + prior.denoise((1 - sigma) * z + sign * sigma * noise, sigma)
    return total / (2 * pairs)


def _varied(mean: Tensor, start: Start, settings: RefineSettings) -> Tensor:
    """The model's images with what the measurement knows better, by total variation."""
    finish, measurement = settings.finish, start.measurement
    freedom = (finish.freedom / (1 - start.known).square().clamp(min=1e-6)).clamp(max=1)
    weight = measurement.misfit_level**2 / freedom.square() / settings.data_step.data_weight
    return regularised(measurement, start.strength, mean, weight, finish.iterations, start.typical)
