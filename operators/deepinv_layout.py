"""Conversion of measurements (real or complex tensors, nested lists) to flat real tensors."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor


def tensors_of(seen: Any, what: str) -> list[Tensor]:
    """All tensors in ``seen``: a tensor, or a nested list, tuple or object with a list ``x``.

    ValueError, with ``what`` as the subject of its message, for anything else.
    """
    if isinstance(seen, Tensor):
        return [seen]
    if not (isinstance(seen, list | tuple) or isinstance(getattr(seen, "x", None), list)):
        raise ValueError(
            f"{what} is of type {type(seen).__name__}; expected a tensor or a list of tensors"
        )
    return [tensor for part in _parts(seen) for tensor in tensors_of(part, what)]


def _parts(seen: Any) -> list[Any]:
    return list(seen if isinstance(seen, list | tuple) else seen.x)


@dataclasses.dataclass(frozen=True)
class One:
    """A tensor (N, *shape), real or complex."""

    shape: tuple[int, ...]
    is_complex: bool

    @property
    def size(self) -> int:
        """Number of real values per measurement."""
        return math.prod(self.shape) * (2 if self.is_complex else 1)

    def __str__(self) -> str:
        numbers = "complex" if self.is_complex else "real"
        return f"{numbers} ({', '.join(map(str, ('N', *self.shape)))})"

    def flat(self, seen: Tensor) -> Tensor:
        """Real tensor (N, size); real and imaginary parts of complex numbers are interleaved."""
        if self.is_complex:
            seen = torch.stack([seen.real, seen.imag], -1)
        return seen.reshape(len(seen), self.size)

    def native(self, flat: Tensor) -> Tensor:
        """Inverse of ``flat``."""
        if not self.is_complex:
            return flat.reshape(len(flat), *self.shape)
        pairs = flat.reshape(len(flat), *self.shape, 2)
        return torch.complex(pairs[..., 0], pairs[..., 1])


@dataclasses.dataclass(frozen=True)
class Several:
    """A list of class ``kind`` of measurements, which are concatenated when flat."""

    kind: type
    parts: tuple[Layout, ...]

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)

    def __str__(self) -> str:
        return f"{self.kind.__name__} of {' and '.join(map(str, self.parts))}"

    def flat(self, seen: Any) -> Tensor:
        pairs = zip(self.parts, _parts(seen), strict=True)
        return torch.cat([part.flat(values) for part, values in pairs], 1)

    def native(self, flat: Tensor) -> Any:
        pieces = flat.split([part.size for part in self.parts], 1)
        pairs = zip(self.parts, pieces, strict=True)
        return self.kind([part.native(piece) for part, piece in pairs])


Layout = One | Several


def layout_of(seen: Any) -> Layout:
    """The layout of a measurement that ``tensors_of`` accepts; axis 0 of every tensor is N."""
    if isinstance(seen, Tensor):
        return One(tuple(seen.shape[1:]), seen.is_complex())
    return Several(type(seen), tuple(layout_of(part) for part in _parts(seen)))
