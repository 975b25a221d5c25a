"""Images corrected towards a measurement in pixels, without a pass through any network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..operators import LinearOperator, Measurement, Operator
from ..operators.linear.preconditioner import Spectrum
from ..operators.linear.solvers import cg
from ..operators.linear.transforms import Cosine
from ..operators.rounding_error import RoundingError
from .data_loss import squared_norm
from .model_error import ColouredError, WhiteError

LARGEST = 1000.0
"""Largest density of a coloured C in units of σₙ². What is less certain is taken from the
measurement all the same, and larger ratios would make the few steps of the solver sensitive to
rounding."""
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

    The clean image is modelled as x plus a stationary Gaussian error of covariance C. Its posterior
    mean, argmin over u of ‖A u − y‖² / 2σₙ² + ½ (u − x)ᵀ C⁻¹ (u − x), is

        x + C Aᵀ (A C Aᵀ + σₙ² I)⁻¹ (y − A x)

    by ``CG_STEPS`` steps of conjugate gradients, or by one prox of the operator where C is white.
    Where A is not linear, the minimum is searched by gradient descent over u = x + C^½ w; but where
    it rounds and its ``rounding_error`` is known, the same formula holds with the covariance of
    that error in place of σₙ² I. Noise beyond the rounding is added to it.
    """

    def __init__(
        self, measurement: Measurement, error: WhiteError | ColouredError, weight: float = 1.0
    ):
        """``weight``: factor of the data term, above 0."""
        self.measurement, self.error = measurement, error
        self.variance, self.weight = measurement.misfit_level**2 / weight, weight
        self._cosine: Cosine | None = None

    def __call__(self, x: Tensor, sigma: float, factor: float = 1.0) -> tuple[Tensor, Tensor]:
        """Corrected images of x (N, C, H, W), the model's estimate at noise level ``sigma``, and
        the loss (N,) at x.

        ``factor`` multiplies the weight of the data term.
        """
        variance = self.variance / factor
        operator, y = self.measurement.operator, self.measurement.y.to(x)
        misfit = operator.misfit(x, y)
        loss = self._loss(misfit)
        if (rounding := operator.rounding_error) is not None:
            return self._rounded(rounding, x, y, misfit, sigma, factor), loss
        if isinstance(self.error, WhiteError):
            size = self.error.variance(sigma, squared_norm(misfit).sqrt(), self.measurement)
            if isinstance(operator, LinearOperator):
                return _nearest(operator, x, y, size / variance), loss
            deviation = size.sqrt().view(-1, 1, 1, 1)
            return self._descent(operator, x, y, lambda u: deviation * u, variance), loss
        if isinstance(operator, LinearOperator):
            covariance = self._power(self.error, x, sigma, 1.0)
            return x + self._gain(operator, covariance, -misfit, variance), loss
        return self._descent(operator, x, y, self._power(self.error, x, sigma, 0.5), variance), loss

    def loss(self, x: Tensor) -> Tensor:
        """Half the squared misfit of images x over its variance, (N,)."""
        return self._loss(self.measurement.operator.misfit(x, self.measurement.y.to(x)))

    def _loss(self, misfit: Tensor) -> Tensor:
        return squared_norm(misfit) / (2 * self.measurement.misfit_level**2)

    def _power(self, error: ColouredError, x: Tensor, sigma: float, power: float) -> Map:
        """Multiplication of images like x with C to the given ``power``."""
        height, width = x.shape[-2:]
        if self._cosine is None:
            self._cosine = Cosine(height, width, x.device, x.dtype)
        density = error.density(sigma, height, width)
        density = density.clamp(max=LARGEST * self.variance) ** power
        return Spectrum(self._cosine, density.to(x.device, x.dtype))

    def _rounded(
        self,
        rounding: RoundingError,
        x: Tensor,
        y: Tensor,
        misfit: Tensor,
        sigma: float,
        factor: float,
    ) -> Tensor:
        """Corrected images where A rounds."""
        grain = max(0.0, self.measurement.noise_level**2 - rounding.level**2)
        seen = (rounding.density.to(x) + grain) / (self.weight * factor)
        if isinstance(self.error, WhiteError):
            size = self.error.variance(sigma, squared_norm(misfit).sqrt(), self.measurement)
            density = size.view(-1, 1, 1, 1, 1)
        else:
            density = self.error.density(sigma, *x.shape[2:]).to(x)[None]
        if (inner := rounding.inner) is None:
            return x + rounding.scaled(y - x, density / (density + seen))
        density = density.clamp(max=LARGEST * rounding.level**2)

        def spread(u: Tensor) -> Tensor:
            return rounding.covariance(u, density, alike=x.shape[1] == y.shape[1])

        def matrix(u: Tensor) -> Tensor:
            return inner.A(spread(inner.adjoint(u))) + rounding.covariance(u, seen)

        residual = y - inner.A(x)
        found = cg(matrix, residual, lambda u: rounding.precision(u, seen), limit=CG_STEPS).x
        return x + spread(inner.adjoint(found))

    @staticmethod
    def _gain(
        operator: LinearOperator, covariance: Map, residual: Tensor, variance: float
    ) -> Tensor:
        """C Aᵀ (A C Aᵀ + ``variance`` I)⁻¹ times the residual y − A x."""

        def matrix(u: Tensor) -> Tensor:
            return operator.A(covariance(operator.adjoint(u))) + variance * u

        seen = operator.cycle[1] if operator.cycle else 1
        return covariance(operator.adjoint(cg(matrix, residual, limit=CG_STEPS, group=seen).x))

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
        """The largest eigenvalue of C for every sample, which a uniform image has."""
        return root(root(torch.ones_like(x))).mean((1, 2, 3), keepdim=True)


def _nearest(operator: LinearOperator, x: Tensor, y: Tensor, gammas: Tensor) -> Tensor:
    """argmin over u of γ ‖A u − y‖² + ‖u − x‖² for images x (N, C, H, W), with one γ for all of
    them, (1,), or one for each, (N,); the frames of a film share their mean."""
    if len(gammas) == 1 or operator.cycle:
        return operator.prox(x, y, float(gammas.mean()))
    rows = zip(x.split(1), y.split(1), gammas.tolist(), strict=True)
    return torch.cat([operator.prox(one, seen, gamma) for one, seen, gamma in rows])
