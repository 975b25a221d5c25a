"""The exact gradient of a purely convolutional decoder, such as TAESD's, in strips of rows.

Without normalisation, a strip of rows depends on the rest of the image only through a margin. The
layers are split into segments at the upsamplings; only the input of every segment and its gradient
are stored at full size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..prune import SkipBlock

STRIP_BYTES = 4 << 20
"""Bytes of one activation of a strip; about ten of them are alive at once."""
_POINTWISE = (nn.ReLU, nn.SiLU, nn.Identity)


def _radius(layer: nn.Module) -> int | None:
    """Radius of a layer's receptive field in rows of its input; None if unknown."""
    if isinstance(layer, nn.Conv2d):
        size, padding = layer.kernel_size[0], layer.padding
        same = padding in ("same", (size // 2, layer.kernel_size[1] // 2))
        plain = layer.stride == (1, 1) and layer.dilation == (1, 1) and size % 2 == 1
        return size // 2 if same and plain and layer.padding_mode == "zeros" else None
    if isinstance(layer, nn.Sequential):
        found = [_radius(each) for each in layer]
        return None if None in found else sum(r for r in found if r is not None)
    # TAESD's block: relu(conv(x) + skip(x)). Newer variants pool over the image and are excluded.
    body = getattr(layer, "conv", None)
    known = isinstance(layer, SkipBlock) or (hasattr(layer, "skip") and hasattr(layer, "fuse"))
    if known and isinstance(body, nn.Sequential) and getattr(layer, "pool", None) is None:
        return _radius(body)
    pointwise = isinstance(layer, _POINTWISE) or type(layer).__name__ == "Clamp"
    return 0 if pointwise else None


@dataclass(frozen=True)
class Segment:
    """Layers with at most one upsampling, by ``scale``; ``margin`` is in rows of their input."""

    layers: nn.Sequential
    scale: int
    margin: int

    def strips(self, x: Tensor, strip_bytes: int) -> Iterator[tuple[int, int, int, int]]:
        """(first, end) row of every strip of the input x, then the same with its margin."""
        width = max(m.out_channels for m in self.layers.modules() if isinstance(m, nn.Conv2d))
        row = len(x) * width * x.shape[3] * self.scale**2 * x.element_size()
        height, rows = x.shape[2], max(1, self.margin, strip_bytes // row)
        for a in range(0, height, rows):
            b = min(height, a + rows)
            yield a, b, max(0, a - self.margin), min(height, b + self.margin)

    def run(self, x: Tensor, a: int, b: int, low: int) -> Tensor:
        """Output rows of the input rows a to b; x begins at row ``low``."""
        s = self.scale
        return self.layers(x)[:, :, (a - low) * s : (b - low) * s]

    def forward(self, x: Tensor, strip_bytes: int) -> Tensor:
        """The output for the whole input x (N, C, h, w)."""
        parts = [
            self.run(x[:, :, low:high], a, b, low)
            for a, b, low, high in self.strips(x, strip_bytes)
        ]
        return torch.cat(parts, 2)

    def backward(self, x: Tensor, g: Tensor, strip_bytes: int) -> Tensor:
        """Gradient with respect to the input x, given the gradient g of the output."""
        sink = torch.zeros_like(x)
        for a, b, low, high in self.strips(x, strip_bytes):
            with torch.enable_grad():
                part = x[:, :, low:high].detach().requires_grad_()
                y = self.run(part, a, b, low)
                (gradient,) = torch.autograd.grad(y, part, g[:, :, a * self.scale : b * self.scale])
            sink[:, :, low:high] += gradient
        return sink


def segments_of(decoder: nn.Module) -> list[Segment] | None:
    """The segments of a decoder if it is a Sequential of supported layers, else None."""
    if not isinstance(decoder, nn.Sequential):
        return None
    groups: list[tuple[int, list[nn.Module]]] = [(1, [])]
    for layer in decoder:
        if isinstance(layer, nn.Upsample):
            scale = layer.scale_factor
            if layer.mode != "nearest" or not isinstance(scale, int | float) or scale % 1:
                return None
            groups.append((int(scale), [layer]))
        else:
            groups[-1][1].append(layer)
    segments = []
    for scale, layers in groups:
        found = [_radius(layer) for layer in layers if not isinstance(layer, nn.Upsample)]
        if None in found:
            return None
        margin = math.ceil(sum(r for r in found if r is not None) / scale)
        segments.append(Segment(nn.Sequential(*layers), scale, margin))
    return segments


class _Decode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, segments: Sequence[Segment], strip_bytes: int) -> Tensor:  # type: ignore[override]
        ctx.segments, ctx.strip_bytes, ctx.starts = segments, strip_bytes, []
        x = z.detach()
        for segment in segments:
            ctx.starts.append(x)
            x = segment.forward(x, strip_bytes)
        return x

    @staticmethod
    def backward(ctx: Any, g: Tensor):  # type: ignore[override]
        starts, ctx.starts = ctx.starts, []
        for segment in reversed(ctx.segments):
            g = segment.backward(starts.pop(), g, ctx.strip_bytes)
        return g, None, None


def decode(segments: Sequence[Segment], z: Tensor, strip_bytes: int = STRIP_BYTES) -> Tensor:
    """Images of the latents z (N, C, h, w); once differentiable, exact up to rounding.

    Weights must not require gradients.
    """
    return _Decode.apply(z, segments, strip_bytes)  # type: ignore[return-value]
