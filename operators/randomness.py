"""Random generators from a seed, and noise from generators."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def generator(seed: int, purpose: str, key: str | int) -> torch.Generator:
    """A CPU generator for one sample and one ``purpose``, such as "measurement" or "sampling".

    ``key`` identifies the sample: its file name or its index in the batch. Different seeds,
    purposes and keys give independent streams, so a sample does not depend on the rest of its
    batch.
    """
    # A file name may hold bytes that are no valid UTF-8.
    name = f"{seed}/{purpose}/{key}".encode("utf-8", "surrogateescape")
    digest = hashlib.sha256(name).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def generators(seed: int, purpose: str, keys: Iterable[str | int]) -> list[torch.Generator]:
    """``generator`` for every one of ``keys``."""
    return [generator(seed, purpose, key) for key in keys]


def key_of_draw(key: str | int, k: int) -> str | int:
    """The key of draw ``k`` = 0, 1, ... of the sample ``key``; the first draw has the sample's own.

    No file name contains the slash, so that keys of different files and draws differ.
    """
    return f"{key}/{k}" if k else key


def standard_normal(shape: Sequence[int], generators: Sequence[torch.Generator]) -> Tensor:
    """Noise of ``shape`` (N, ...), float32 on the CPU; sample k is drawn from ``generators[k]``.

    ValueError unless there is one generator per sample.
    """
    if len(generators) != shape[0]:
        raise ValueError(f"{len(generators)} generators for {shape[0]} samples; expected one each")
    return torch.stack([torch.randn(*shape[1:], generator=g) for g in generators])
