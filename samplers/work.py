"""The cost of a run: passes through the networks and applications of the operator."""

from __future__ import annotations

import dataclasses

from torch import Tensor

from ..operators import LinearOperator, Measurement, Operator
from ..operators.rounding_error import RoundingError
from ..priors.base import FlowPrior, Passes


class _Counted(Operator):
    """An operator that counts its applications and their backward passes."""

    def __init__(self, inner: Operator, passes: Passes):
        super().__init__(inner.in_shape, inner.out_shape)
        self._inner, self._passes = inner, passes
        self.cycle, self.once = inner.cycle, inner.once

    def A(self, x: Tensor) -> Tensor:
        return self._passes.note("A", self._inner.A(x))

    @property
    def rounds(self) -> bool:
        return self._inner.rounds

    @property
    def rounding_error(self) -> RoundingError | None:
        return self._inner.rounding_error

    def _misfit(self, x: Tensor, y: Tensor) -> Tensor:
        return self._passes.note("A", self._inner.misfit(x, y))

    def picture(self, y: Tensor) -> Tensor:
        return self._inner.picture(y)

    @property
    def measured(self) -> Tensor | None:
        return self._inner.measured

    def _forward(self, x: Tensor) -> Tensor:
        return self.A(x)


class _CountedLinear(_Counted, LinearOperator):
    linear = True
    _inner: LinearOperator

    @property
    def iterative(self) -> bool:
        return self._inner.iterative

    def adjoint(self, y: Tensor) -> Tensor:
        return self._passes.note("adjoint", self._inner.adjoint(y))

    def normal(self, x: Tensor) -> Tensor:
        return self._passes.note("normal", self._inner.normal(x))

    def pinv(self, y: Tensor) -> Tensor:
        return self._passes.note("pinv", self._inner.pinv(y))

    def projection(self, x: Tensor) -> Tensor:
        return self._passes.note("projection", self._inner.projection(x))

    def prox(self, z: Tensor, y: Tensor, gamma: float) -> Tensor:
        return self._passes.note("prox", self._inner.prox(z, y, gamma))

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.adjoint(y)


class Work:
    """Counts calls of ``prior`` from now on, and of the operator of ``self.measurement``, a copy.

    Pass that copy to the sampler and to ``data_consistency``; ``counted`` returns the counts.
    """

    def __init__(self, prior: FlowPrior, measurement: Measurement):
        self._passes, self._applied = prior.passes, Passes()
        self._before = {**prior.passes}, {**prior.passes.gradients}
        kind = _CountedLinear if measurement.operator.linear else _Counted
        operator = kind(measurement.operator, self._applied)
        self.measurement = dataclasses.replace(measurement, operator=operator)

    def counted(self) -> dict[str, int]:
        """Numbers of calls by name, such as ``decoder``, and of backward passes, by
        ``decoder gradient``.

        Names are transformer, decoder, encoder, and the operator's A, adjoint, normal, pinv,
        projection and prox. A call is one batch. Zero counts are left out.
        """
        result = {}
        for passes, before in ((self._passes, self._before), (self._applied, ({}, {}))):
            for name in passes:
                result[name] = passes[name] - before[0].get(name, 0)
                back = passes.gradients.get(name, 0) - before[1].get(name, 0)
                result[f"{name} gradient"] = back
        return {name: count for name, count in result.items() if count}
