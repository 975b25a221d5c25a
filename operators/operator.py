"""The interface of all operators, linear or not."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

if TYPE_CHECKING:
    from .cut_off import CutOff
    from .rounding_error import RoundingError

Shape = tuple[int, int, int]
Cycle = tuple[int, int]
"""Frames of a film, and how many frames its measurement has of them."""


def cycle_of(inner: Cycle | None, outer: Cycle | None) -> Cycle | None:
    """The cycle of two operators, one after the other."""
    if inner is None or outer is None:
        return inner or outer
    between = math.lcm(inner[1], outer[0])
    return inner[0] * between // inner[1], outer[1] * between // outer[0]


class Operator(ABC):
    """A map A from images (N, ``in_shape``) to measurements (N, ``out_shape``).

    Immutable; both shapes are (C, H, W). Differentiable; takes any batch size and any value range
    unless a subclass documents one. Raises ValueError for tensors of another shape. ``linear`` is
    True only for a ``LinearOperator``, which adds adjoint, pseudo-inverse and prox.

    Of an operator over time, the batch axis is time: images are the frames of a film, in order, and
    N is a multiple of ``cycle[0]``; the measurement has ``cycle[1]`` frames for as many. Samples of
    other operators, whose ``cycle`` is None, are independent.
    """

    linear: ClassVar[bool] = False
    cycle: Cycle | None = None
    once: bool = False
    """Whether the operator is that of one film, of ``cycle[0]`` frames and no more."""

    def __init__(self, in_shape: Shape, out_shape: Shape):
        self.in_shape, self.out_shape = in_shape, out_shape

    def A(self, x: Tensor) -> Tensor:
        """A x: (N, *in_shape) to (N, *out_shape)."""
        return self._forward(self._checked(x, self.in_shape, "image"))

    def misfit(self, x: Tensor, y: Tensor) -> Tensor:
        """How far images ``x`` are from a measurement ``y``: (N, *out_shape), differentiable.

        A x − y; but an operator that rounds does not tell values apart that it rounds alike, and
        counts only what lies beyond the interval that is rounded to y. Where it is 0, x is
        consistent with y.
        """
        x = self._checked(x, self.in_shape, "image")
        return self._misfit(x, self._checked(y, self.out_shape, "measurement"))

    def picture(self, y: Tensor) -> Tensor:
        """The measurement ``y`` (N, *out_shape), or a residual, as a picture (N, C, h, w): a single
        channel is repeated to three, and values that were not measured are 0.
        """
        return _colours(self._picture(self._checked(y, self.out_shape, "measurement")))

    def images_of(self, count: int) -> int:
        """The number of images whose measurement has ``count`` samples or frames."""
        return count if self.cycle is None else count // self.cycle[1] * self.cycle[0]

    @property
    def measured(self) -> Tensor | None:
        """Bool (1, *out_shape), False where a measurement has no value; None: True everywhere.

        It is (cycle[1], *out_shape) where frames differ in it.
        """
        return None

    @property
    def rounds(self) -> bool:
        """Whether A rounds, so that the misfit is 0 in an interval around A x = y."""
        return False

    @property
    def rounding_error(self) -> RoundingError | None:
        """What rounding adds, as stationary noise; None: nothing, or it is not known as such."""
        return None

    def cut_off(self, y: Tensor, tolerance: float) -> CutOff | None:
        """Which values A cut off to the measurement ``y`` (N, *out_shape), which has no noise but
        up to ``tolerance``; None: it cuts off none."""
        return None

    def __matmul__(self, other: Operator) -> Operator:
        """``(a @ b).A(x)`` is ``a.A(b.A(x))``."""
        return Composition(self, other)

    def _checked(self, tensor: Tensor, shape: Shape, kind: str) -> Tensor:
        if tensor.ndim != 4 or tuple(tensor.shape[1:]) != tuple(shape):
            raise ValueError(
                f"the {kind} has shape {tuple(tensor.shape)}; this operator expects"
                f" (N, {', '.join(map(str, shape))}): bind it to the image's size"
            )
        if self.cycle is not None:
            self._check_frames(len(tensor), self.cycle[kind == "measurement"], kind)
        return tensor

    def _check_frames(self, given: int, cycle: int, kind: str) -> None:
        if not given or given % cycle or (self.once and given != cycle):
            number = f"{cycle}" if self.once else f"a multiple of {cycle}"
            raise ValueError(
                f"the {kind} has {given} frames and this operator over time expects {number}: give"
                " the frames of one shot in order, and leave out those of an incomplete cycle"
            )

    def _picture(self, y: Tensor) -> Tensor:
        return y

    def _misfit(self, x: Tensor, y: Tensor) -> Tensor:
        return self._forward(x) - y

    @abstractmethod
    def _forward(self, x: Tensor) -> Tensor: ...


def _colours(x: Tensor) -> Tensor:
    return x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x


class Composition(Operator):
    """``outer`` after ``inner``; neither needs to be linear."""

    def __init__(self, outer: Operator, inner: Operator):
        if outer.in_shape != inner.out_shape:
            raise ValueError(
                f"cannot compose: the outer operator takes {outer.in_shape}, the inner one gives"
                f" {inner.out_shape}; bind the outer one to the inner one's out_shape"
            )
        super().__init__(inner.in_shape, outer.out_shape)
        self.outer, self.inner = outer, inner
        self.cycle = cycle_of(inner.cycle, outer.cycle)
        self.once = inner.once or outer.once

    def _forward(self, x: Tensor) -> Tensor:
        return self.outer.A(self.inner.A(x))

    def _misfit(self, x: Tensor, y: Tensor) -> Tensor:
        return self.outer.misfit(self.inner.A(x), y)

    def _picture(self, y: Tensor) -> Tensor:
        # An outer operator that keeps the shape, such as a mask, uses the picture of the inner one.
        if self.outer.in_shape != self.outer.out_shape:
            return self.outer.picture(y)
        y = self.outer._picture(y)
        # The frames of a film that both act on are not those of y.
        return y if self.outer.cycle and self.inner.cycle else self.inner.picture(y)

    @property
    def measured(self) -> Tensor | None:
        return self.outer.measured

    @property
    def rounds(self) -> bool:
        return self.outer.rounds or self.inner.rounds

    @property
    def rounding_error(self) -> RoundingError | None:
        error = self.outer.rounding_error
        if error is None or not self.inner.linear:
            return None
        return error.after(self.inner)  # type: ignore[arg-type]
