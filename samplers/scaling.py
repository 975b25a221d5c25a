"""Gradients through networks in half precision that neither overflow nor vanish."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def power_of_two(values: Tensor) -> Tensor:
    """The largest power of two that is not above the largest absolute value of each sample.

    values (N, ...) gives (N,), in float64 for float64 and in float32 otherwise; a sample of zeros
    gives the smallest normal number.
    """
    largest = values.abs().flatten(1).amax(1)
    largest = largest if largest.dtype == torch.float64 else largest.float()
    largest = largest.clamp(min=torch.finfo(largest.dtype).tiny)
    # The bits of the exponent alone. exp2 and pow need not be exact on every device.
    if largest.dtype == torch.float64:
        return (largest.view(torch.int64) & 0x7FF0000000000000).view(torch.float64)
    return (largest.view(torch.int32) & 0x7F800000).view(torch.float32)


def scaled(network: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """``network(at)``, whose backward pass works with gradients of order one.

    The gradient of the loss with respect to the network's output is divided by a power of two, one
    per sample, so that its largest absolute value lies in [1, 2); the gradient with respect to
    ``at`` is multiplied by the same number. So a network in float16 neither overflows for a steep
    loss nor flushes the gradient of a flat one to zero, while results in float32 and float64 do
    not change by a bit. ``at`` (N, ...) and the output (N, ...) should be in float32 or float64.
    """
    if not (at.requires_grad and torch.is_grad_enabled()):
        return network(at)
    inside = at.view_as(at)
    output = network(inside)
    if not output.requires_grad:
        return output
    factors: list[Tensor] = []

    def enter(gradient: Tensor) -> Tensor:
        factors.append(power_of_two(gradient))
        return (gradient / _per_sample(factors[-1], gradient)).to(gradient.dtype)

    def leave(gradient: Tensor) -> Tensor:
        return (gradient * _per_sample(factors.pop(), gradient)).to(gradient.dtype)

    output.register_hook(enter)
    inside.register_hook(leave)
    return output


def _per_sample(factors: Tensor, like: Tensor) -> Tensor:
    return factors.view(-1, *[1] * (like.ndim - 1))
