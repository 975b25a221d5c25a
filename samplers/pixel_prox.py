"""Images corrected towards a measurement in pixels, without a pass through any network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..operators import LinearOperator, Measurement, Operator
from ..operators.linear.preconditioner import Spectrum
from ..operators.linear.solvers import cg
from ..operators.linear.transforms import Cosine
from ..priors.error_spectrum import ErrorSpectrum
from .schedule import posterior_deviation

WHITE = 0.15
"""Standard deviation in pixels, per unit of posterior deviation, of the error of a model whose
spectrum is not known; the error is taken as white."""
LARGEST = 1000.0
"""Largest density of C in units of σₙ². What is less certain is taken from the measurement all the
same, and larger ratios would make the few steps of the solver sensitive to rounding."""
CG_STEPS = 25
DESCENT_STEPS = 40

Map = Callable[[Tensor], Tensor]


def gradient_of_fit(operator: Operator, x: Tensor, y: Tensor) -> Tensor:
    """Gradient of ½ ‖misfit(x, y)‖² with respect to the images x, by the operator's own gradient.

    The misfit is A x − y, or less where A rounds (``Operator.misfit``).
    """
    with torch.enable_grad():
        at = x.detach().requires_grad_()
        misfit = operator.misfit(at, y)
        (gradient,) = torch.autograd.grad(misfit, at, misfit.detach())
    return gradient


class PixelProx:
    """Corrects images for a measurement, given how the model errs.

    The clean image is modelled as x plus a stationary Gaussian error of covariance C, ``trust``
    times that of the model's spectrum at a noise level, or a white one where it has none. Its
    posterior mean, argmin over u of ‖A u − y‖² / 2σₙ² + ½ (u − x)ᵀ C⁻¹ (u − x), is

        x + C Aᵀ (A C Aᵀ + σₙ² I)⁻¹ (y − A x)

    by ``CG_STEPS`` steps of conjugate gradients, or by one prox of the operator where C is white.
    Where A is not linear, the minimum is searched by gradient descent over u = x + C^½ w.
    """

    def __init__(
        self,
        measurement: Measurement,
        spectrum: ErrorSpectrum | None = None,
        trust: float = 1.0,
        weight: float = 1.0,
    ):
        """``weight``: factor of the data term."""
        self.measurement, self.spectrum, self.trust = measurement, spectrum, trust
        self.variance = measurement.misfit_level**2 / weight
        self._cosine: Cosine | None = None

    def __call__(self, x: Tensor, sigma: float, factor: float = 1.0) -> Tensor:
        """Corrected images of x (N, C, H, W), the model's estimate at noise level ``sigma``.

        ``factor`` multiplies the weight of the data term.
        """
        variance = self.variance / factor
        operator, y = self.measurement.operator, self.measurement.y.to(x)
        if isinstance(operator, LinearOperator):
            if self.spectrum is None:
                return operator.prox(x, y, self._white(sigma) / variance)
            return self._coloured(operator, x, y, self._covariance(x, sigma, 1.0), variance)
        root: Map = self._covariance(x, sigma, 0.5)
        return self._descent(operator, x, y, root, variance)

    def loss(self, x: Tensor) -> Tensor:
        """Half the squared misfit of images x over its variance, (N,)."""
        misfit = self.measurement.operator.misfit(x, self.measurement.y.to(x))
        return misfit.square().flatten(1).sum(1) / (2 * self.measurement.misfit_level**2)

    def _white(self, sigma: float) -> float:
        return self.trust * (WHITE * posterior_deviation(sigma)) ** 2

    def _covariance(self, x: Tensor, sigma: float, power: float) -> Map:
        """Multiplication with C to the given ``power``."""
        if self.spectrum is None:
            factor = self._white(sigma) ** power
            return lambda u: factor * u
        height, width = x.shape[-2:]
        if self._cosine is None:
            self._cosine = Cosine(height, width, x.device, x.dtype)
        density = self.trust * self.spectrum.density(sigma, height, width)
        density = density.clamp(max=LARGEST * self.variance) ** power
        return Spectrum(self._cosine, density.to(x.device, x.dtype))

    def _coloured(
        self, operator: LinearOperator, x: Tensor, y: Tensor, covariance: Map, variance: float
    ) -> Tensor:
        def matrix(u: Tensor) -> Tensor:
            return operator.A(covariance(operator.adjoint(u))) + variance * u

        found = cg(matrix, y - operator.A(x), limit=CG_STEPS)
        return x + covariance(operator.adjoint(found.x))

    def _descent(
        self, operator: Operator, x: Tensor, y: Tensor, root: Map, variance: float
    ) -> Tensor:
        """Gradient descent over w with the step sizes of Barzilai and Borwein (1988)."""
        w = torch.zeros_like(x)
        before: tuple[Tensor, Tensor] | None = None
        best, least = x, torch.full((len(x), 1, 1, 1), torch.inf).to(x)
        step = torch.zeros_like(least)
        for _ in range(DESCENT_STEPS):
            u = x + root(w)
            fit = operator.misfit(u, y).square().flatten(1).sum(1).view(-1, 1, 1, 1)
            value = fit / variance + w.square().sum((1, 2, 3), keepdim=True)
            best, least = torch.where(value < least, u, best), torch.minimum(value, least)
            slope = root(gradient_of_fit(operator, u, y)) / variance + w
            if before is None:
                # ‖A‖ ≤ 1 and the largest eigenvalue of C bound the curvature.
                step = 1 / (1 + self._largest(x, root) / variance).expand_as(least)
            else:
                moved, bent = w - before[0], slope - before[1]
                up = (moved * moved).sum((1, 2, 3), keepdim=True)
                down = (moved * bent).sum((1, 2, 3), keepdim=True)
                step = torch.where(down > 0, up / torch.where(down > 0, down, 1.0), step)
            before = w, slope
            w = w - step * slope
        return best

    @staticmethod
    def _largest(x: Tensor, root: Map) -> Tensor:
        """The largest eigenvalue of C, which a uniform image has."""
        ones = torch.ones_like(x[:1])
        return (root(root(ones)).mean() / ones.mean()).view(1, 1, 1, 1)
