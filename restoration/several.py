"""Several restorations of one photo: their mean, their spread, and the most consistent of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

GREY_LEVEL = 2 / 255
"""One grey level of 255, for images in [-1, 1]."""
WHITE = 0.25
"""The spread that is white in a map of it: an eighth of the range of [-1, 1]."""
PER_ROW = 4
"""Pictures in a row of a contact sheet."""


@dataclass(frozen=True)
class Several:
    """K independent samples of the restoration of one photo.

    images: (K, 3, H, W) in [-1, 1]. ratios: residual over noise of every one, as
        ``Measurement.residual_ratio`` gives it.
    factor: what the standard deviation is multiplied by to give ``spread``; 1 is the standard
        deviation itself. With ``Method.calibration``, the rms spread is the rms error of the mean
        that was measured on other pictures.

    Raises ValueError unless there are two samples or more, with one ratio each.
    """

    images: Tensor
    ratios: Sequence[float]
    factor: float = 1.0

    def __post_init__(self) -> None:
        if len(self.images) < 2:
            raise ValueError(
                "there is 1 sample; expected at least 2, as a single one has no spread: raise"
                " samples"
            )
        if len(self.ratios) != len(self.images):
            raise ValueError(
                f"there are {len(self.ratios)} ratios for {len(self.images)} samples; expected one"
                " each"
            )
        if not (math.isfinite(self.factor) and self.factor > 0):
            raise ValueError(f"the factor is {self.factor}; expected a number above 0, such as 1")

    @property
    def mean(self) -> Tensor:
        """The mean image (1, 3, H, W).

        ``PixelCorrection`` is affine in the image while no ``stop`` ends it early, so that the mean
        of corrected images is the corrected mean, up to clamping. ``VariationFinish`` is not
        affine; each sample has been through it, and the mean has not.
        """
        return self.images.mean(0, keepdim=True)

    @property
    def spread(self) -> Tensor:
        """The spread (1, 1, H, W) on the scale of the images: ``factor`` times the root mean square
        over the colours of the samples' standard deviation, with K − 1 in the denominator.
        """
        return self.factor * self.images.var(0, keepdim=True).mean(1, keepdim=True).sqrt()

    @property
    def rms_spread(self) -> float:
        """Root mean square of the spread over the pixels."""
        return float(self.spread.square().mean().sqrt())

    @property
    def map(self) -> Tensor:
        """The spread as a grey picture (1, 1, H, W) from 0, where all samples agree, to 1, where it
        is ``WHITE`` or more.
        """
        return (self.spread / WHITE).clamp(0, 1)

    @property
    def best(self) -> int:
        """Index of the sample whose residual ratio is nearest to 1 in log, the first among equals.

        The residual of the true picture is the noise, whose ratio is 1. A smaller one is no better:
        there the noise was fitted. In log, half the noise is as far from it as twice the noise.
        """
        distances = [abs(math.log(max(ratio, 1e-12))) for ratio in self.ratios]
        return distances.index(min(distances))

    @property
    def pictures(self) -> list[tuple[str, Tensor]]:
        """Captions and pictures of a contact sheet: mean, map of the spread, and all samples."""
        samples = [
            (f"sample {k + 1}" + ", fits best" * (k == self.best), self.images[k : k + 1])
            for k in range(len(self.images))
        ]
        grey = 2 * self.map - 1
        white = f"spread, white: {WHITE / GREY_LEVEL:.0f} of 255"
        return [("mean", self.mean), (white, grey), *samples]

    @property
    def report(self) -> str:
        """Spread and residuals in one line, with a warning where the samples hardly differ."""
        low, high = min(self.ratios), max(self.ratios)
        text = (
            f"{len(self.images)} samples; spread {self.rms_spread / GREY_LEVEL:.2f} of 255 grey"
            f" levels; residual {low:.2f} to {high:.2f} times the noise; sample {self.best + 1}"
            " fits best"
        )
        if self.rms_spread / self.factor < GREY_LEVEL / 2:
            text += (
                "; the samples hardly differ, which does not mean that they are right: use FlowDPS"
                " to see where the model guessed"
            )
        return text
