"""How much memory the gradient of a decoder may take: modes, estimates, and the choice.

``full`` lets autograd keep everything; ``checkpointed`` keeps the input of every block and computes
the rest again, with bit-equal gradients; ``tiled`` works in strips (:mod:`.tiled`), with gradients
equal up to rounding. Works alike on diffusers' and ComfyUI's autoencoders.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from . import tiled
from .stages import Stage, stages_of

MODES = ("full", "checkpointed", "tiled")
"""From the fastest to the smallest."""

ELEMENTS: dict[str, float] = {"full": 6400.0, "checkpointed": 2200.0, "tiled": 510.0}
"""Tensor elements per image pixel at the peak of decoding and its gradient, for SD3's autoencoder
(128 channels at full size), counted by ``benchmarks/memory.py`` and rounded up."""
WIDTH = 128

log = logging.getLogger(__name__)


class Guidance:
    """The decoder inside ``autoencoder`` with a memory mode: ``mode`` may be changed at any time.

    Use as a context manager around all decoding; the decoder is left as it was found. A pass that
    needs no gradient is the decoder's own.
    """

    def __init__(self, autoencoder: nn.Module, mode: str = "full"):
        self.target = _target(autoencoder)
        self.stages = stages_of(self.target)
        modes = MODES if self.stages else MODES[:2]
        if not self.stages and not isinstance(self.target, nn.Sequential):
            modes = MODES[:1]
        self.modes: tuple[str, ...] = modes
        """What this decoder offers."""
        self.mode = self.take(mode)

    def take(self, mode: str) -> str:
        """Set ``mode``, or the smallest that this decoder offers."""
        self.mode = mode if mode in self.modes else self.modes[-1]
        return self.mode

    def choose(self, pixels: int, element_size: int, free: float) -> str:
        """Take the fastest mode whose estimate for so many image pixels fits ``free`` bytes."""
        fitting = (m for m in self.modes if self.needs(m, pixels, element_size) <= free)
        self.mode = next(fitting, self.modes[-1])
        return self.mode

    def needs(self, mode: str, pixels: int, element_size: int) -> float:
        """Estimated bytes of decoding ``pixels`` and the gradient, in this mode."""
        widths = [m.out_channels for m in self.target.modules() if isinstance(m, nn.Conv2d)]
        # The convolution before the last one works at full size.
        width = widths[-2] if len(widths) > 1 else WIDTH
        return ELEMENTS[mode] * max(width, 8) / WIDTH * pixels * element_size

    def less(self) -> bool:
        """Go to the next smaller mode, and say so; False where there is none."""
        at = self.modes.index(self.mode)
        if at + 1 == len(self.modes):
            return False
        log.warning(
            "out of memory: going on with the decoder's gradient %s instead of %s",
            self.modes[at + 1],
            self.mode,
        )
        self.mode = self.modes[at + 1]
        return True

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """While this lasts, the decoder's gradient takes the memory of ``mode``."""
        target, stages = self.target, self.stages
        original = target.forward
        steps: Sequence[Any] = stages or (
            list(target) if isinstance(target, nn.Sequential) else [original]
        )

        def forward(z: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            if self.mode == "full" or not (z.requires_grad and torch.is_grad_enabled()):
                return original(z, *args, **kwargs)
            if self.mode == "tiled" and stages:
                return tiled.decode(stages, z)
            return _checkpointed(steps, z)

        own = target.__dict__.get("forward")
        target.forward = forward  # type: ignore[method-assign]
        try:
            yield
        finally:
            del target.forward
            if own is not None:
                target.forward = own


def _checkpointed(steps: Sequence[Stage | nn.Module], z: Tensor) -> Tensor:
    for step in steps:
        z = checkpoint(step, z, use_reentrant=False, preserve_rng_state=False)  # type: ignore[assignment]
    return z


def _target(autoencoder: Any) -> nn.Module:
    """The module whose forward is the decoder's work."""
    decoder = getattr(autoencoder, "taesd_decoder", None)
    decoder = getattr(autoencoder, "decoder", None) if decoder is None else decoder
    if not isinstance(decoder, nn.Module):
        return autoencoder
    layers = getattr(decoder, "layers", None)
    return layers if isinstance(layers, nn.Sequential) else decoder
