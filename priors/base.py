"""What a sampler needs to know of a model, and nothing more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory has run out, on whatever device."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, RuntimeError) and any(w in str(error).lower() for w in words)


class Passes(dict[str, int]):
    """Batched calls so far, by the name of what was called; ``gradients`` of those that went back.

    The gradient of a part that is computed again on its way, as the memory modes do, counts once.
    """

    def __init__(self, *names: str) -> None:
        super().__init__(dict.fromkeys(names, 0))
        self.gradients = dict.fromkeys(names, 0)

    def note(self, name: str, result: Tensor) -> Tensor:
        """Count one call that gave ``result``, and its gradient once that is taken."""
        self[name] = self.get(name, 0) + 1

        def went_back(_: Tensor) -> None:
            self.gradients[name] = self.gradients.get(name, 0) + 1

        if result.requires_grad:
            result.register_hook(went_back)
        return result


def network_passes() -> Passes:
    """The counts of a prior that has not been asked yet."""
    return Passes("transformer", "decoder", "encoder")


class FlowPrior(Protocol):
    """A latent rectified-flow model with its autoencoder.

    Time runs as in SD3: σ = 1 is noise and σ = 0 is data, ``z_σ = σ ε + (1 − σ) z0``. Images are
    float (N, 3, H, W) in [-1, 1]; latents are (N, ``latent_channels``, H / ``stride``,
    W / ``stride``) in the model's own scaled space.
    """

    latent_channels: int
    stride: int
    device: torch.device
    dtype: torch.dtype
    passes: Passes
    """Batched calls so far of ``transformer``, ``decoder`` and ``encoder``."""

    def denoise(self, z: Tensor, sigma: float) -> Tensor:
        """Posterior mean ``z − σ v`` of the data given ``z`` at noise level ``sigma``.

        DecoderGradient happens inside. Differentiable when ``z`` requires a gradient.
        """
        ...

    def decode(self, z: Tensor) -> Tensor:
        """Images of the latents ``z``, not clamped; differentiable."""
        ...

    def encode(self, x: Tensor, generators: Sequence[torch.Generator] | None = None) -> Tensor:
        """Latents of images ``x``; differentiable.

        With ``generators``, one per sample, a variational autoencoder draws from its posterior;
        without, it takes the mean. A deterministic autoencoder ignores them.
        """
        ...

    def save_memory(self) -> bool:
        """Memory has run out: use less for gradients from now on. False where that cannot be."""
        ...
