"""Gradient checkpointing of networks: block inputs are kept, the rest is recomputed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

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


def _own(value: Any) -> Any:
    """A copy of a tensor, so that a block may change its input in place."""
    return value.clone() if isinstance(value, Tensor) and value.requires_grad else value


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
            return checkpoint(run, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)

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
