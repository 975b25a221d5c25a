"""Memory modes of the gradient of a decoder, their estimates, and the choice between them.

``full`` is plain autograd; ``checkpointed`` keeps the input of every block and recomputes the rest,
with bit-equal gradients; ``strips`` works in strips of rows (:mod:`.normalised_strips`,
:mod:`.strips`), with gradients equal up to rounding; ``tiny`` uses a smaller decoder, whose
gradient is an approximation. For diffusers' and ComfyUI's autoencoders.

Passes of decoder and encoder without gradient are plain in the modes ``full`` and ``checkpointed``.
In the others they work in strips too, where the topology is known, and are equal up to rounding.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from . import normalised_strips, strips
from .checkpointing import checkpoint, checkpointed
from .stages import Stage, encoder_stages_of, stages_of

MODES = ("full", "checkpointed", "strips", "tiny")
"""From the fastest to the one with the least memory."""


def check_mode(memory: str) -> None:
    """ValueError unless ``memory`` is auto or one of ``MODES``."""
    if memory == "tiled":
        raise ValueError("memory 'tiled' is now called 'strips'; choose that instead")
    if memory not in ("auto", *MODES):
        raise ValueError(f"memory is {memory!r}; expected auto or one of {', '.join(MODES)}")


ELEMENTS: dict[str, float] = {"full": 6400.0, "checkpointed": 2200.0, "strips": 510.0}
"""Tensor elements per image pixel at the memory peak of decoding with gradient, for SD3's
autoencoder (128 channels at full size); measured by ``benchmarks/memory.py`` and rounded up."""
WIDTH = 128

log = logging.getLogger(__name__)


def free_memory(device: torch.device) -> float | None:
    """Free memory of ``device`` in bytes; None if unknown."""
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
    """Memory mode of the decoder in ``autoencoder``; ``mode`` may be changed at any time.

    Calling it gives a context for all passes, which restores the modules on exit. ``tiny`` is the
    autoencoder of that mode, whose decoder works in strips; the prior must call ``small`` to know
    which of both decodes. ``blocks`` are those of other networks in the graph, checkpointed in
    every mode but ``full``.
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
        self._encoder: Any = getattr(autoencoder, "encoder", None)
        self._encoder_stages = encoder_stages_of(self._encoder)
        self.blocks = list(blocks)
        modes = MODES[:3] if self.stages or self.segments else MODES[:2]
        if not (self.stages or isinstance(self.target, nn.Sequential)):
            modes = MODES[:1]
        self._tiny = None if tiny is None else DecoderGradient(tiny, "strips")
        self.modes: tuple[str, ...] = modes if tiny is None else (*modes, "tiny")
        """The modes that this decoder supports."""
        self.mode = self.take(mode)

    def small(self, z: Tensor) -> bool:
        """Whether the tiny autoencoder is to decode z: in mode tiny, if z requires a gradient."""
        return self.mode == "tiny" and z.requires_grad and torch.is_grad_enabled()

    def take(self, mode: str) -> str:
        """Set ``mode``, or the supported mode with the least memory, and return it."""
        self.mode = mode if mode in self.modes else self.modes[-1]
        return self.mode

    def choose(
        self,
        pixels: int,
        element_size: int,
        free: float,
        more: tuple[float, float] = (0.0, 0.0),
    ) -> str:
        """Set the fastest mode whose estimate for ``pixels`` image pixels fits ``free`` bytes.

        ``more``: additional bytes for ``blocks``, in mode full and in the other modes.
        """

        def fits(mode: str) -> bool:
            return self.needs(mode, pixels, element_size) + more[mode != "full"] <= free

        self.mode = next(filter(fits, self.modes), self.modes[-1])
        return self.mode

    def needs(self, mode: str, pixels: int, element_size: int) -> float:
        """Estimated bytes for decoding ``pixels`` image pixels with gradient in ``mode``."""
        if mode == "tiny" and self._tiny is not None:
            return self._tiny.needs("strips", pixels, element_size)
        if not any(weight.ndim > 1 for weight in self.target.parameters()):
            return 0.0  # The identity of a model in pixels.
        widths = [m.out_channels for m in self.target.modules() if isinstance(m, nn.Conv2d)]
        # The input of the last convolution has full size.
        width = widths[-2] if len(widths) > 1 else WIDTH
        return ELEMENTS[mode] * max(width, 8) / WIDTH * pixels * element_size

    def less(self) -> bool:
        """Switch to the next mode with less memory and log it; False if there is none."""
        at = self.modes.index(self.mode)
        if at + 1 == len(self.modes):
            return False
        log.warning(
            "out of memory: going on with the autoencoder in mode %s instead of %s",
            self.modes[at + 1],
            self.mode,
        )
        self.mode = self.modes[at + 1]
        return True

    @property
    def _in_strips(self) -> bool:
        return self.mode not in MODES[:2]

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """Context in which decoder and encoder work in ``mode``."""
        target, stages, segments = self.target, self.stages, self.segments
        original = target.forward
        steps: Sequence[Any] = stages or (
            list(target) if isinstance(target, nn.Sequential) else [original]
        )

        def decode(z: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            if not (z.requires_grad and torch.is_grad_enabled()):
                if self._in_strips and stages:
                    return normalised_strips.run(stages, z)
                return original(z, *args, **kwargs)
            if self.mode == "full":
                return original(z, *args, **kwargs)
            if self._in_strips and stages:
                return normalised_strips.decode(stages, z)
            if self._in_strips and segments:
                return strips.decode(segments, z)
            return _checkpointed(steps, z)

        with contextlib.ExitStack() as stack:
            stack.enter_context(checkpointed(self.blocks, lambda: self.mode != "full"))
            if self._tiny is not None:
                stack.enter_context(self._tiny())
            if self._encoder_stages:
                stack.enter_context(_replaced(self._encoder, self._encode()))
            stack.enter_context(_replaced(target, decode))
            yield

    def _encode(self) -> Callable[..., Tensor]:
        """The encoder's forward pass in ``mode``."""
        original, stages = self._encoder.forward, self._encoder_stages

        def encode(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            plain = x.requires_grad and torch.is_grad_enabled()
            if plain or not (self._in_strips and stages):
                return original(x, *args, **kwargs)
            return normalised_strips.run(stages, x)

        return encode


@contextlib.contextmanager
def _replaced(module: Any, forward: Callable[..., Tensor]) -> Iterator[None]:
    """Context in which ``module`` has another forward pass."""
    own = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if own is not None:
            module.forward = own


def _checkpointed(steps: Sequence[Stage | nn.Module], z: Tensor) -> Tensor:
    for step in steps:
        z = checkpoint(step, z)
    return z


def _target(autoencoder: Any) -> nn.Module:
    """The module whose forward pass is the decoder."""
    decoder = getattr(autoencoder, "taesd_decoder", None)
    decoder = getattr(autoencoder, "decoder", None) if decoder is None else decoder
    if not isinstance(decoder, nn.Module):
        return autoencoder
    layers = getattr(decoder, "layers", None)
    return layers if isinstance(layers, nn.Sequential) else decoder
