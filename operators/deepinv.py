"""Linear physics of the deepinv library as operators. This module does not import deepinv."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .deepinv_layout import Layout, One, layout_of, tensors_of
from .linear.linear_operator import LinearOperator, linear
from .operator import Shape

TOLERANCE = 1e-3
"""Tolerance of the checks, for float32: of ⟨A x, y⟩ − ⟨x, Aᵀ y⟩, relative to ‖A x‖ ‖y‖, and of the
difference between batched and single-image results, relative to their norm.
"""


class PhysicsOperator(LinearOperator):
    """A deepinv ``LinearPhysics`` as an operator; made and checked by ``from_deepinv``.

    A real measurement (N, C, h, w) keeps its shape; any other is flattened to M real numbers,
    (N, M, 1, 1): complex numbers as interleaved real and imaginary parts, lists of tensors by
    concatenation. ``measurement`` and ``native`` convert between both forms without loss. The inner
    product is real: for complex measurements Aᵀ y is the real part of Aᴴ y, and σ is the standard
    deviation of the noise in the real and in the imaginary part. Autograd uses A and Aᵀ and does
    not differentiate the physics' own code.
    """

    def __init__(self, physics: Any, shape: Shape, layout: Layout, alone: bool = False):
        out_shape, kept = (layout.size, 1, 1), False
        if isinstance(layout, One) and not layout.is_complex and len(layout.shape) == 3:
            (channels, height, width), kept = layout.shape, True
            out_shape = channels, height, width
        super().__init__(shape, out_shape)
        self._physics, self._layout, self._alone = physics, layout, alone
        self._visible = kept and out_shape[0] in (1, 3)

    def measurement(self, seen: Any) -> Tensor:
        """A measurement in the physics' own form, such as ``physics(x)``, as y (N, *out_shape).

        Raises ValueError if its structure, shape or dtype differs from that of this physics.
        """
        what = f"what {_name(self._physics)} measured"
        counts = {t.shape[0] if t.ndim else -1 for t in tensors_of(seen, what)}
        if len(counts) != 1 or layout_of(seen) != self._layout:
            raise ValueError(
                f"{what} is {_form(seen)}; expected {self._layout}: give what this physics measures"
                f" of images (N, {', '.join(map(str, self.in_shape))})"
            )
        return self._layout.flat(seen).reshape(-1, *self.out_shape)

    def native(self, y: Tensor) -> Any:
        """Inverse of ``measurement``: y (N, *out_shape) in the physics' own form."""
        return self._layout.native(self._checked(y, self.out_shape, "measurement").flatten(1))

    def _forward(self, x: Tensor) -> Tensor:
        return linear(x, self._see, self._back)

    def _adjoint(self, y: Tensor) -> Tensor:
        return linear(y, self._back, self._see)

    def _picture(self, y: Tensor) -> Tensor:
        return y if self._visible else self._adjoint(y)

    def _see(self, x: Tensor) -> Tensor:
        return self._each(lambda x: self.measurement(self._physics.A(x)), x)

    def _back(self, y: Tensor) -> Tensor:
        return self._each(lambda y: _real(self._physics.A_adjoint(self.native(y))), y)

    def _each(self, apply: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
        # cat copies, so that an identity does not return its own input.
        return torch.cat([apply(part) for part in (batch.split(1) if self._alone else [batch])])


def _real(x: Any) -> Any:
    return x.real if isinstance(x, Tensor) and x.is_complex() else x


def _name(physics: Any) -> str:
    return type(physics).__name__


def _form(seen: Any) -> str:
    return " and ".join(f"{t.dtype} {tuple(t.shape)}" for t in tensors_of(seen, "a measurement"))


def _state(physics: Any) -> str:
    """Dtypes and devices of the physics' parameters and buffers, for error messages."""
    held: set[str] = set()
    for members in (getattr(physics, kind, None) for kind in ("parameters", "buffers")):
        if callable(members):
            tensors: Any = members()
            held |= {f"{t.dtype} on {t.device}" for t in tensors if t.dtype.is_floating_point}
    return f"; it holds {' and '.join(sorted(held))}" if held else ""


def _asked(physics: Any, doing: str, x: Tensor, call: Callable[[], Any]) -> Any:
    """``call()``; exceptions other than out of memory become a ValueError with likely causes."""
    try:
        return call()
    except (torch.cuda.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        reason = f"{error}".strip().partition("\n")[0] or type(error).__name__
        raise ValueError(
            f"{_name(physics)} cannot {doing} one image {tuple(x.shape[1:])} of {x.dtype} on"
            f" {x.device} ({reason}){_state(physics)}: make it for this size, on this device and in"
            " this dtype, with masks and kernels of batch size 1"
        ) from error


def from_deepinv(
    physics: Any,
    shape: Shape,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> PhysicsOperator:
    """The operator of a deepinv ``LinearPhysics`` for real images of ``shape`` (C, H, W).

    Measurements may be a tensor (N, ...) of any rank, real or complex, or a list of tensors
    (``TensorList``), as of stacked physics and pansharpening; see ``PhysicsOperator``. Only ``A``
    and ``A_adjoint`` are used, without noise; pseudo-inverse and prox are iterative. The physics
    must already be on ``device`` and of ``dtype``, and must not be changed afterwards. Its masks
    and kernels must have batch size 1; if it does not take batches, images are processed singly.

    Raises ValueError for an object without these methods, for a physics on another device, of
    another dtype or for another image size, for masks or kernels of another batch size, and if
    ``A_adjoint`` is not the adjoint of ``A``.
    """
    if not (hasattr(physics, "A") and hasattr(physics, "A_adjoint")):
        raise ValueError(
            f"{_name(physics)} has no A and A_adjoint; expected a LinearPhysics of deepinv"
        )
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"shape is {tuple(shape)}; expected (channels, height, width)")
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, *shape, generator=generator).to(device, dtype)
    with torch.no_grad():
        seen = _asked(physics, "measure", x, lambda: physics.A(x[:1]))
        _check_measurement(physics, seen, x)
        operator = PhysicsOperator(physics, shape, layout_of(seen))
        y = torch.randn(2, *operator.out_shape, generator=generator).to(x)
        _check_adjoint(operator, physics, x[:1], y[:1])
        if not _takes_batches(operator, physics, x, y):
            operator = PhysicsOperator(physics, shape, layout_of(seen), alone=True)
    return operator


def _check_measurement(physics: Any, seen: Any, x: Tensor) -> None:
    """ValueError unless ``seen`` is one measurement on the device and of the dtype of ``x``."""
    tensors = tensors_of(seen, f"a measurement of {_name(physics)}")
    if not sum(t.numel() for t in tensors):
        raise ValueError(f"{_name(physics)} measures nothing of an image {tuple(x.shape[1:])}")
    for tensor in tensors:
        if tensor.ndim == 0 or len(tensor) != 1:
            raise ValueError(
                f"{_name(physics)} measures {_form(seen)} of one image; expected a batch size of 1:"
                " give masks and kernels of batch size 1, or make an operator of each"
            )
        if _real(tensor).dtype != x.dtype or tensor.device != x.device:
            raise ValueError(
                f"{_name(physics)} measures {tensor.dtype} on {tensor.device} of an image of"
                f" {x.dtype} on {x.device}{_state(physics)}: move it to the image's device and"
                " dtype, or name its own as device and dtype"
            )


def _check_adjoint(operator: PhysicsOperator, physics: Any, x: Tensor, noise: Tensor) -> None:
    """ValueError unless A_adjoint gives an image like ``x`` and ⟨A x, y⟩ = ⟨x, A_adjoint y⟩."""
    seen = operator.A(x)
    # Random y alone is nearly orthogonal to A x if y is large: a wrong factor would go unnoticed.
    y = seen / seen.norm().clamp(min=torch.finfo(seen.dtype).tiny) + noise / noise.norm()
    native = operator.native(y)
    back = _real(_asked(physics, "apply A_adjoint for", x, lambda: physics.A_adjoint(native)))
    if not isinstance(back, Tensor) or back.shape != x.shape or back.dtype != x.dtype:
        got = _form(back) if isinstance(back, Tensor) else f"a {type(back).__name__}"
        raise ValueError(
            f"A_adjoint of {_name(physics)} gives {got} for one measurement; expected"
            f" {_form(x)}, as A takes it: masks and kernels must be of batch size 1"
        )
    there, here = float((seen * y).sum()), float((x * back).sum())
    if not abs(there - here) <= TOLERANCE * float(seen.norm() * y.norm()):
        raise ValueError(
            f"A_adjoint of {_name(physics)} is not the adjoint of its A: <A x, y> is {there:.4g}"
            f" and <x, A* y> is {here:.4g}; give it one, such as deepinv's"
            f" adjoint_function(A, {tuple(x.shape)}) makes"
        )


def _takes_batches(operator: PhysicsOperator, physics: Any, x: Tensor, y: Tensor) -> bool:
    """Whether A and A_adjoint take batches; ValueError if results differ from single images."""
    for apply, batch in ((operator.A, x), (operator.adjoint, y)):
        alone = torch.cat([apply(batch[:1]), apply(batch[1:])])
        try:
            together = apply(batch)
        except (torch.cuda.OutOfMemoryError, MemoryError):
            raise
        except Exception:
            return False
        if together.shape != alone.shape:
            return False
        if not float((together - alone).norm()) <= TOLERANCE * float(alone.norm()):
            raise ValueError(
                f"{_name(physics)} treats an image in a batch unlike the same image alone; expected"
                " masks and kernels of batch size 1, and nothing that depends on the other images"
            )
    return True
