"""The protocol that samplers require of a model, and a base class for it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor

from .error_spectrum import ErrorSpectrum

if TYPE_CHECKING:
    from .tiling import Tile

VelocityErrors = tuple[tuple[float, float], ...]
"""Pairs of noise level, falling from 1, and mean squared error of a model's velocity there."""
SIDE = 1024
"""Side in pixels of the training images of large models."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` is an out-of-memory error of any device."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, RuntimeError) and any(w in str(error).lower() for w in words)


class Passes(dict[str, int]):
    """Numbers of batched calls by network name; ``gradients`` has those of backward passes.

    Recomputation by the memory modes is not counted.
    """

    def __init__(self, *names: str) -> None:
        super().__init__(dict.fromkeys(names, 0))
        self.gradients = dict.fromkeys(names, 0)

    def note(self, name: str, result: Tensor) -> Tensor:
        """Count one call that returned ``result``, and its backward pass once it happens."""
        self[name] = self.get(name, 0) + 1

        def went_back(_: Tensor) -> None:
            self.gradients[name] = self.gradients.get(name, 0) + 1

        if result.requires_grad:
            result.register_hook(went_back)
        return result


def network_passes() -> Passes:
    """Zero counts for transformer, decoder and encoder."""
    return Passes("transformer", "decoder", "encoder")


def draw_latents(
    mean: Tensor, deviation: Tensor | None, generators: Sequence[torch.Generator] | None
) -> Tensor:
    """Samples (N, C, h, w) of N(mean, deviation²), sample k with noise from ``generators[k]``.

    Returns the mean if ``generators`` or ``deviation`` is None. Raises ValueError unless there is
    one generator per sample.
    """
    if generators is None or deviation is None:
        return mean
    if len(generators) != len(mean):
        raise ValueError(f"{len(generators)} generators for {len(mean)} samples; expected one each")
    noise = torch.stack([torch.randn(mean.shape[1:], generator=g) for g in generators])
    return mean + deviation * noise.to(mean)


@runtime_checkable
class FlowPrior(Protocol):
    """A latent rectified-flow model with its autoencoder.

    Time is as in SD3: σ = 1 is noise and σ = 0 is data, ``z_σ = σ ε + (1 − σ) z0``. Images are
    float (N, 3, H, W) in [-1, 1]; latents are (N, ``latent_channels``, H / ``stride``,
    W / ``stride``), scaled as the model expects. ``BasePrior`` implements all but the networks.
    """

    latent_channels: int
    stride: int
    """Image pixels per latent cell along either side."""
    device: torch.device
    dtype: torch.dtype
    passes: Passes
    """Numbers of batched calls of ``transformer``, ``decoder`` and ``encoder``."""
    largest: float
    """Longest image side in pixels that the model's positional embedding covers; may be inf."""
    usual: int
    """Side in pixels of the model's training images."""
    error_spectrum: ErrorSpectrum | None
    """How its decoded estimates err; None where it was not measured."""
    movable: bool
    """Whether flipped and shifted images are as good: not where conditioning has a place."""
    velocity_errors: VelocityErrors
    """Measured by ``benchmarks/velocity_error.py``; empty where it is not known."""

    def denoise(self, z: Tensor, sigma: float) -> Tensor:
        """Posterior mean ``z − σ v`` of the data given ``z`` at noise level ``sigma``.

        Includes classifier-free guidance, if any. Differentiable when ``z`` requires a gradient.
        """
        ...

    def decode(self, z: Tensor) -> Tensor:
        """Images of the latents ``z``, not clamped; differentiable."""
        ...

    def encode(self, x: Tensor, generators: Sequence[torch.Generator] | None = None) -> Tensor:
        """Latents of images ``x``; differentiable.

        A variational autoencoder draws from its posterior with ``generators``, one per sample, and
        returns the mean without. A deterministic autoencoder ignores them.
        """
        ...

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mean and standard deviation of the latents of images ``x``; differentiable.

        The standard deviation is None for a deterministic autoencoder.
        """
        ...

    def within(self, tile: Tile) -> contextlib.AbstractContextManager[None]:
        """Context in which all passes are of ``tile`` of a larger image.

        Position-dependent conditioning, such as the mask of a prompt, is cropped to the tile.
        """
        ...

    def guidance(self, weight: float | None) -> contextlib.AbstractContextManager[None]:
        """Context in which ``weight`` replaces that of classifier-free guidance; None keeps it.

        Without effect on a prior that has no guidance, such as one without a negative prompt.
        """
        ...

    @property
    def memory_mode(self) -> str:
        """Current mode of the decoder's gradient, one of ``gradients.modes.MODES``."""
        ...

    def save_memory(self) -> bool:
        """Switch to the mode that needs less memory, after an out-of-memory error; False if there
        is none."""
        ...


class BasePrior:
    """Base class of priors; a subclass adds the networks.

    It must define ``latent_channels``, ``stride``, ``device``, ``dtype``, ``denoise``, ``decode``
    and ``moments``. Defaults: images of any size, no position-dependent conditioning, no guidance,
    and ``full`` as the only memory mode.
    """

    largest: float = math.inf
    usual: int = SIDE
    error_spectrum: ErrorSpectrum | None = None
    movable: bool = True
    velocity_errors: VelocityErrors = ()

    def __init__(self) -> None:
        self.passes = network_passes()

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mean and standard deviation of the latents of images (N, 3, H, W) in [-1, 1]."""
        raise NotImplementedError

    def encode(self, x: Tensor, generators: Sequence[torch.Generator] | None = None) -> Tensor:
        """Latents of images (N, 3, H, W) in [-1, 1]: drawn from the posterior if there is one CPU
        generator per sample, else its mean. ValueError for another number of generators."""
        return draw_latents(*self.moments(x), generators)

    def within(self, tile: Tile) -> contextlib.AbstractContextManager[None]:
        """A context without effect."""
        return contextlib.nullcontext()

    def guidance(self, weight: float | None) -> contextlib.AbstractContextManager[None]:
        """A context without effect: there is no guidance."""
        return contextlib.nullcontext()

    @property
    def memory_mode(self) -> str:
        """Current mode of the decoder's gradient."""
        return "full"

    def save_memory(self) -> bool:
        """False: no mode needs less memory."""
        return False
