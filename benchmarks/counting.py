"""Counters of tensor bytes, as storages are made and freed, and of floating-point operations."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry


class Counter(TorchDispatchMode):
    """Bytes of the storages made while it is active: the current number and the peak.

    Storages of ``known`` tensors, such as weights, are not counted.
    """

    def __init__(self, known: Iterable[torch.Tensor] = ()) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.kept = [tensor.untyped_storage() for tensor in known]
        self.known = {id(storage): 0 for storage in self.kept}

    def _drop(self, key: int) -> None:
        self.live -= self.known.pop(key, 0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and id(leaf.untyped_storage()) not in self.known:
                storage = leaf.untyped_storage()
                self.known[id(storage)] = storage.nbytes()
                self.live += storage.nbytes()
                weakref.finalize(storage, self._drop, id(storage))
        self.peak = max(self.peak, self.live)
        return result


class Operations(TorchDispatchMode):
    """Floating-point operations of products and convolutions while it is active.

    torch's own counter does not count gradients that are computed inside of others.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=result)
        return result
