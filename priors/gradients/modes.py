"""How much memory the gradient of a decoder may take: modes, estimates, and the choice.

``full`` lets autograd keep everything; ``checkpointed`` keeps the input of every block and computes
the rest again, with bit-equal gradients; ``strips`` works in strips of rows
(:mod:`.normalised_strips`, :mod:`.strips`), with gradients equal up to rounding; ``tiny`` takes the
gradient of a small decoder in place of the true one. Works alike on diffusers' and ComfyUI's
autoencoders.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from . import normalised_strips, strips
from .checkpointing import checkpointed
from .stages import Stage, stages_of

MODES = ("full", "checkpointed", "strips", "tiny")
"""From the fastest to the last resort."""


def check_mode(memory: str) -> None:
    """ValueError unless ``memory`` is auto or one of ``MODES``."""
    if memory == "tiled":
        raise ValueError("memory 'tiled' is now called 'strips'; choose that instead")
    if memory not in ("auto", *MODES):
        raise ValueError(f"memory is {memory!r}; expected auto or one of {', '.join(MODES)}")


ELEMENTS: dict[str, float] = {"full": 6400.0, "checkpointed": 2200.0, "strips": 510.0}
"""Tensor elements per image pixel at the peak of decoding and its gradient, for SD3's autoencoder
(128 channels at full size), counted by ``benchmarks/memory.py`` and rounded up."""
WIDTH = 128

log = logging.getLogger(__name__)


def free_memory(device: torch.device) -> float | None:
    """Bytes that can be had on ``device``; None where nobody can tell."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(free + held)
    try:
        import psutil
    except ImportError:
        return None
    return float(psutil.virtual_memory().available)


class DecoderGradient:
    """The decoder inside ``autoencoder`` with a memory mode: ``mode`` may be changed at any time.

    Use as a context manager around all passes; everything is left as it was found. A pass that
    needs no gradient is the decoder's own. ``tiny`` is the autoencoder of that mode, whose decoder
    works in strips; the prior must ask ``small`` which of both decodes. ``blocks`` of other
    networks on the gradient's way are checkpointed in every mode but ``full``.
    """

    def __init__(
        self,
        autoencoder: nn.Module,
        mode: str = "full",
        tiny: nn.Module | None = None,
        blocks: Sequence[nn.Module] = (),
    ):
        self.target = _target(autoencoder)
        self.stages, self.segments = stages_of(self.target), strips.segments_of(self.target)
        self.blocks = list(blocks)
        modes = MODES[:3] if self.stages or self.segments else MODES[:2]
        if not (self.stages or isinstance(self.target, nn.Sequential)):
            modes = MODES[:1]
        self._tiny = None if tiny is None else DecoderGradient(tiny, "strips")
        self.modes: tuple[str, ...] = modes if tiny is None else (*modes, "tiny")
        """What this decoder offers."""
        self.mode = self.take(mode)

    def small(self, z: Tensor) -> bool:
        """Whether the tiny autoencoder decodes z: in its mode, where a gradient is wanted."""
        return self.mode == "tiny" and z.requires_grad and torch.is_grad_enabled()

    def take(self, mode: str) -> str:
        """Set ``mode``, or the smallest that this decoder offers."""
        self.mode = mode if mode in self.modes else self.modes[-1]
        return self.mode

    def choose(
        self,
        pixels: int,
        element_size: int,
        free: float,
        more: tuple[float, float] = (0.0, 0.0),
    ) -> str:
        """Take the fastest mode whose estimate for so many image pixels fits ``free`` bytes.

        ``more`` bytes are what the ``blocks`` add in full mode, and in the others.
        """

        def fits(mode: str) -> bool:
            return self.needs(mode, pixels, element_size) + more[mode != "full"] <= free

        self.mode = next(filter(fits, self.modes), self.modes[-1])
        return self.mode

    def needs(self, mode: str, pixels: int, element_size: int) -> float:
        """Estimated bytes of decoding ``pixels`` and the gradient, in this mode."""
        if mode == "tiny" and self._tiny is not None:
            return self._tiny.needs("strips", pixels, element_size)
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
        """While this lasts, gradients take the memory of ``mode``."""
        target, stages, segments = self.target, self.stages, self.segments
        original = target.forward
        steps: Sequence[Any] = stages or (
            list(target) if isinstance(target, nn.Sequential) else [original]
        )

        def forward(z: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            if self.mode == "full" or not (z.requires_grad and torch.is_grad_enabled()):
                return original(z, *args, **kwargs)
            if self.mode != "checkpointed" and stages:
                return normalised_strips.decode(stages, z)
            if self.mode != "checkpointed" and segments:
                return strips.decode(segments, z)
            return _checkpointed(steps, z)

        own = target.__dict__.get("forward")
        with contextlib.ExitStack() as stack:
            stack.enter_context(checkpointed(self.blocks, lambda: self.mode != "full"))
            if self._tiny is not None:
                stack.enter_context(self._tiny())
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
