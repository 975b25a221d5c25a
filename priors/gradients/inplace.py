"""Gradients through networks that overwrite their own activations.

Many networks of a host add in place (``x += gate * attention``), which saves memory where no
gradient is needed. Autograd may have saved the value that is overwritten: it then refuses the
gradient, or, where a checkpointed block is recomputed, returns a wrong one. Within
:func:`overwriting`, a saved value is copied just before it is overwritten. Values that nobody
overwrites are not copied.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from weakref import WeakSet

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode


class Saved:
    """A value that autograd has saved."""

    __slots__ = ("__weakref__", "value")

    def __init__(self, value: Tensor):
        self.value = value


class Enough(Exception):
    """Raised once as many values are saved as were asked for."""


@functools.cache
def _written(operation: Any) -> tuple[tuple[int, str], ...]:
    """Places and names of the arguments that an operation of torch writes to."""
    schema = getattr(operation, "_schema", None)
    return tuple(
        (place, argument.name)
        for place, argument in enumerate(schema.arguments if schema else ())
        if argument.alias_info is not None and argument.alias_info.is_write
    )


class _CopyOnWrite(TorchDispatchMode):
    """Sees every operation of torch, and copies saved values before one writes to them."""

    def __init__(self, found: list[Saved] | None, enough: int | None):
        super().__init__()
        self._found, self._enough = found, enough
        self._by_memory: dict[int, WeakSet[Saved]] = {}

    def save(self, value: Tensor) -> Saved:
        """Remember a value as long as the result is alive."""
        # Detached, since a value that knew its graph would keep all of it alive.
        value = value.detach()
        saved = Saved(value)
        if self._found is not None:
            self._found.append(saved)
            if len(self._found) == self._enough:
                raise Enough
        if type(value) in (Tensor, nn.Parameter) and value.numel():
            memory = value.untyped_storage().data_ptr()
            self._by_memory.setdefault(memory, WeakSet()).add(saved)
        return saved

    def _before_write(self, target: Any) -> None:
        if isinstance(target, list | tuple):
            for each in target:
                self._before_write(each)
        elif type(target) in (Tensor, nn.Parameter) and target.numel():
            self._copy(target.untyped_storage().data_ptr())

    def _copy(self, memory: int) -> None:
        """Give the values saved in this memory their own; equal views of it share a copy."""
        copies: dict[tuple[Any, ...], Tensor] = {}
        for saved in self._by_memory.pop(memory, ()):
            value = saved.value
            view = (value.dtype, value.storage_offset(), value.shape, value.stride())
            if view not in copies:
                copies[view] = value.clone()
            saved.value = copies[view]

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = kwargs or {}
        for place, name in _written(func):
            self._before_write(args[place] if place < len(args) else named.get(name))
        return func(*args, **named)


@contextlib.contextmanager
def overwriting(found: list[Saved] | None = None, enough: int | None = None) -> Iterator[None]:
    """Context for the forward pass of a network that may overwrite its activations, and whose
    gradient will be taken.

    What autograd saves is appended to ``found``, if that is given; with the ``enough``-th value the
    pass ends by the exception :class:`Enough`.
    """
    memory = _CopyOnWrite(found, enough)
    with saved_tensors_hooks(memory.save, lambda saved: saved.value), memory:
        yield
