"""What a sampler needs to know of a model, and nothing more."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor

from ..operators.randomness import standard_normal

if TYPE_CHECKING:
    from .tiling import Tile

SIDE = 1024
"""Side in pixels of the images that large models were trained for."""


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


def draw_latents(
    mean: Tensor, deviation: Tensor | None, generators: Sequence[torch.Generator] | None
) -> Tensor:
    """Samples (N, C, h, w) of Gaussian posteriors, sample k with noise from ``generators[k]``.

    The mean where there are no generators or where ``deviation`` is None. Raises ValueError unless
    there is one generator per sample.
    """
    if generators is None or deviation is None:
        return mean
    return mean + deviation * standard_normal(mean.shape, generators).to(mean)


@runtime_checkable
class FlowPrior(Protocol):
    """A latent rectified-flow model with its autoencoder.

    Time runs as in SD3: σ = 1 is noise and σ = 0 is data, ``z_σ = σ ε + (1 − σ) z0``. Images are
    float (N, 3, H, W) in [-1, 1]; latents are (N, ``latent_channels``, H / ``stride``,
    W / ``stride``) in the model's own scaled space. Derive from ``BasePrior`` for a prior that
    needs only its networks.
    """

    latent_channels: int
    stride: int
    """Image pixels per latent cell along either side."""
    device: torch.device
    dtype: torch.dtype
    passes: Passes
    """Batched calls so far of ``transformer``, ``decoder`` and ``encoder``."""
    largest: float
    """Longest side of an image in pixels for which the model has positions; may be infinite."""
    usual: int
    """Side in pixels of the square images that the model was trained for."""

    def denoise(self, z: Tensor, sigma: float) -> Tensor:
        """Posterior mean ``z − σ v`` of the data given ``z`` at noise level ``sigma``.

        Classifier-free guidance, if any, happens inside. Differentiable when ``z`` requires a
        gradient.
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

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mean and standard deviation of the latents of images ``x``; differentiable.

        The deviation is None for a deterministic autoencoder.
        """
        ...

    def within(self, tile: Tile) -> contextlib.AbstractContextManager[None]:
        """While this context lasts, every pass is of that tile of a larger image.

        What depends on the place in the image, such as a mask of a prompt, is cut to the tile.
        """
        ...

    @property
    def memory_mode(self) -> str:
        """How the decoder's gradient is computed now, one of ``gradients.modes.MODES``."""
        ...

    def save_memory(self) -> bool:
        """Memory has run out: take the next smaller mode from now on. False if there is none."""
        ...


class BasePrior:
    """What most priors have in common; a subclass adds the networks.

    It gives ``latent_channels``, ``stride``, ``device``, ``dtype``, ``denoise``, ``decode`` and
    ``moments``. Images of any size are taken, no place differs from another, and the gradient of
    the decoder has one mode, ``full``.
    """

    largest: float = math.inf
    usual: int = SIDE

    def __init__(self) -> None:
        self.passes = network_passes()

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mean and standard deviation of the latents of images (N, 3, H, W)."""
        raise NotImplementedError

    def encode(self, x: Tensor, generators: Sequence[torch.Generator] | None = None) -> Tensor:
        """Latents of images (N, 3, H, W) in [-1, 1]: drawn from the posterior with one CPU
        generator per sample, else its mean. ValueError for another number of generators."""
        return draw_latents(*self.moments(x), generators)

    def within(self, tile: Tile) -> contextlib.AbstractContextManager[None]:
        """No place differs from another."""
        return contextlib.nullcontext()

    @property
    def memory_mode(self) -> str:
        """How the decoder's gradient is computed now."""
        return "full"

    def save_memory(self) -> bool:
        """False: there is no smaller mode."""
        return False
