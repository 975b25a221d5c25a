"""Noise from explicit generators."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def randn_like(z: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Standard normal noise of the shape of ``z``, sample k from ``generators[k]`` (CPU)."""
    if len(generators) != len(z):
        raise ValueError(f"{len(generators)} generators for {len(z)} samples; expected one each")
    drawn = [torch.randn(z.shape[1:], generator=g, dtype=torch.float32) for g in generators]
    return torch.stack(drawn).to(z)
