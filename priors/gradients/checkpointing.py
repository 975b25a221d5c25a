"""Gradient checkpointing of networks: block inputs are kept, the rest is recomputed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from .inplace import Enough, Saved, overwriting
from .stages import is_residual


def transformer_blocks(network: nn.Module) -> list[nn.Module]:
    """The repeated blocks of a network: the members of its outermost module lists."""
    found: list[nn.Module] = []

    def walk(module: nn.Module) -> None:
        for child in module.children():
            if isinstance(child, nn.ModuleList) and len(child) > 1:
                found.extend(child)
            else:
                walk(child)

    walk(network)
    return found


def encoder_blocks(encoder: nn.Module) -> list[nn.Module]:
    """The blocks of an autoencoder's encoder: its residual blocks, or the layers of TAESD."""
    layers = getattr(encoder, "layers", encoder)
    if isinstance(layers, nn.Sequential):
        return [layer for layer in layers if any(True for _ in layer.parameters())]
    return [module for module in encoder.modules() if is_residual(module)]


class _Keep(torch.autograd.Function):
    """Saves tensors in the way autograd saves those of any operation."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(*tensors)
        return anchor.new_empty(0)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> Any:
        raise AssertionError("nothing depends on the result")


class _Pass:
    """One call of a function: its arguments are kept, and nothing of what it computes."""

    def __init__(self, function: Callable[..., Any], args: Sequence[Any], named: dict[str, Any]):
        values = [*args, *named.values()]
        # Tensors inside of lists and dicts are not looked for.
        self.places = [place for place, value in enumerate(values) if isinstance(value, Tensor)]
        tensors = [values[place] for place in self.places]
        self.rest = [None if isinstance(value, Tensor) else value for value in values]
        self.function, self.names = function, tuple(named)
        self.kept: Any = _Keep.apply(torch.empty(0, requires_grad=True), *tensors)
        self.count = 0
        self.values: dict[int, Tensor] = {}

    def run(self, tensors: Sequence[Tensor]) -> Any:
        """The function's result, for arguments that are tensors replaced by ``tensors``."""
        values = list(self.rest)
        for place, tensor in zip(self.places, tensors, strict=True):
            values[place] = tensor
        first = len(values) - len(self.names)
        return self.function(*values[:first], **dict(zip(self.names, values[first:], strict=True)))

    def forget(self, _: Tensor) -> int:
        """Called when autograd saves a value: give it a number instead."""
        self.count += 1
        return self.count - 1

    def recall(self, number: int) -> Tensor:
        """Called when autograd needs a value."""
        if number not in self.values:
            self._compute_again()
        return self.values.pop(number)

    def _compute_again(self) -> None:
        kept = [t.detach().requires_grad_(t.requires_grad) for t in self.kept.grad_fn.saved_tensors]
        found: list[Saved] = []
        with contextlib.suppress(Enough), torch.enable_grad(), overwriting(found, self.count):
            self.run(kept)
        if len(found) < self.count:
            raise RuntimeError(
                f"a block saved {self.count} values for its gradient and {len(found)} when it was"
                " computed again: set memory to full"
            )
        self.values = {number: saved.value for number, saved in enumerate(found)}


def checkpoint(function: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """``function(*args, **named)``, which is computed again in the backward pass.

    Unlike torch's, it is right for functions that overwrite their own values. The function must
    leave its arguments as they are, give the same result again and draw no random numbers.
    """
    tensors = [value for value in (*args, *named.values()) if isinstance(value, Tensor)]
    one = _Pass(function, args, named)
    with saved_tensors_hooks(one.forget, one.recall):
        return one.run(tensors)


def _own(value: Any) -> Any:
    """A copy of a tensor, so that a block may change its input in place."""
    return value.clone() if isinstance(value, Tensor) else value


@contextlib.contextmanager
def checkpointed(blocks: Sequence[nn.Module], active: Callable[[], bool]) -> Iterator[None]:
    """Context in which ``blocks`` are checkpointed while ``active()`` is true.

    Gradients are bit-equal to those without. The blocks are restored on exit.
    """
    undo: list[Callable[[], None]] = []

    def wrap(block: nn.Module) -> None:
        original = block.forward

        def run(*args: Any, **kwargs: Any) -> Any:
            return original(*map(_own, args), **{k: _own(v) for k, v in kwargs.items()})

        def forward(*args: Any, **kwargs: Any) -> Any:
            if not (torch.is_grad_enabled() and active()):
                return original(*args, **kwargs)
            return checkpoint(run, *args, **kwargs)

        own = block.__dict__.get("forward")
        undo.append(
            (lambda: block.__dict__.pop("forward", None))
            if own is None
            else (lambda: block.__dict__.__setitem__("forward", own))
        )
        block.__dict__["forward"] = forward

    try:
        for block in blocks:
            wrap(block)
        yield
    finally:
        for step in reversed(undo):
            step()
