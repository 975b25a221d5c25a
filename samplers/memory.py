"""Passes that are repeated with less memory after an out-of-memory error."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from ..priors.base import FlowPrior, is_out_of_memory

Result = TypeVar("Result")


def saving_memory(prior: FlowPrior, work: Callable[[], Result]) -> Result:
    """The result of ``work()``, retried after an out-of-memory error if ``prior.save_memory()``."""
    while True:
        try:
            return work()
        except (RuntimeError, MemoryError) as error:
            if not (is_out_of_memory(error) and prior.save_memory()):
                raise
        # Outside the handler, whose exception keeps the failed pass alive.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def decoded(prior: FlowPrior, z: Tensor) -> Tensor:
    """Images of the latents z, in less memory where it runs out."""
    return saving_memory(prior, lambda: prior.decode(z))


def encoded(prior: FlowPrior, x: Tensor) -> Tensor:
    """Mean latents of images x, in less memory where it runs out."""
    return saving_memory(prior, lambda: prior.encode(x))
