"""Gaussian noise from explicit generators."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..operators.randomness import standard_normal


def randn_like(z: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Standard normal noise like ``z`` (N, ...); sample k is drawn from ``generators[k]`` (CPU)."""
    return standard_normal(z.shape, generators).to(z)
