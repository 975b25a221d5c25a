"""Noise like a given tensor, from explicit generators."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..operators.randomness import standard_normal


def randn_like(z: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Standard normal noise of the shape of ``z``, sample k from ``generators[k]`` (CPU)."""
    return standard_normal(z.shape, generators).to(z)
