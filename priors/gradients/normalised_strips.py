"""A decoder with group normalisation and its exact gradient, in strips of rows, to save memory.

The residual blocks of a decoder consist of convolutions, which are exact on a strip of rows with a
margin, and group normalisations, which need statistics of the whole image: mean and variance in the
forward pass, two sums per group in the backward pass. These are accumulated over all strips before
they are used. Only a block's input and its gradient are stored at full size, each overwritten by
that of the next block; all else has the size of a strip. Inputs of blocks are recomputed from the
start of their level, except those that fit in ``KEPT_BYTES``.

The interface is ``decode``: the decoder's image and, by autograd, its gradient, both up to
rounding; and ``run``, which has no gradient and takes an encoder as well. ``strip_bytes`` bounds
the memory per strip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..device import accumulator
from .stages import Head, Plain, Residual, Stage, Upsample, double

STRIP_BYTES = 8 << 20
"""Bytes of one activation of a strip; about six of them are alive at once."""
KEPT_BYTES = 600 << 20
"""Bytes for activations that are kept rather than recomputed, per level of the decoder."""

Statistics = tuple[Tensor, Tensor]
"""Mean and reciprocal standard deviation of every group, float32 (N, groups, 1)."""


def _strips(height: int, row_bytes: int, strip_bytes: int) -> Iterator[tuple[int, int]]:
    rows = max(4, min(height, strip_bytes // max(1, row_bytes)))
    for start in range(0, height, rows):
        yield start, min(height, start + rows)


def _grouped(x: Tensor, groups: int) -> Tensor:
    return x.float().reshape(len(x), groups, -1)


class _Sums:
    """Sums of two quantities per group over the image, accumulated by strips in float64, or in
    float32 on devices without it."""

    def __init__(self) -> None:
        self.first: Tensor | float = 0.0
        self.second: Tensor | float = 0.0
        self.count = 0

    def add(self, a: Tensor, b: Tensor) -> None:
        """Add the elements of a and b, both (N, groups, elements)."""
        precise = accumulator(a.device)
        self.first = self.first + a.sum(-1, keepdim=True, dtype=precise)
        self.second = self.second + b.sum(-1, keepdim=True, dtype=precise)
        self.count += a.shape[-1]


class _Norm:
    """Group normalisation in strips: statistics are gathered first, then applied; likewise in the
    backward pass."""

    def __init__(self, norm: nn.GroupNorm):
        self.groups, self.eps = norm.num_groups, norm.eps
        self.weight, self.bias = norm.weight, norm.bias
        self.sums = _Sums()
        self.statistics: Statistics | None = None

    def gather(self, x: Tensor) -> None:
        """Add rows of x to the statistics; every row must be added once."""
        g = _grouped(x, self.groups)
        self.sums.add(g, g.square())

    def settle(self) -> None:
        """Compute the statistics from the gathered sums."""
        mean = torch.as_tensor(self.sums.first) / self.sums.count
        variance = (torch.as_tensor(self.sums.second) / self.sums.count - mean**2).clamp(min=0)
        self.statistics = (mean.float(), (variance + self.eps).rsqrt().float())
        self.sums = _Sums()

    def _affine(self, x: Tensor) -> tuple[Tensor, Tensor]:
        weight = self.weight.to(x.device, torch.float32)
        bias = self.bias.to(x.device, torch.float32)
        return weight.view(1, -1, 1, 1), bias.view(1, -1, 1, 1)

    def unit(self, x: Tensor) -> Tensor:
        """(x − mean) / standard deviation, float32."""
        assert self.statistics is not None
        mean, scale = self.statistics
        return ((_grouped(x, self.groups) - mean) * scale).view(x.shape)

    def activated(self, x: Tensor) -> Tensor:
        """silu(norm(x)), in the dtype of x."""
        weight, bias = self._affine(x)
        return F.silu(torch.addcmul(bias, self.unit(x), weight)).to(x.dtype)

    def back(self, x: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        """(unit(x), gradient with respect to it) from the gradient g of activated(x), float32."""
        weight, bias = self._affine(x)
        unit = self.unit(x)
        before = torch.addcmul(bias, unit, weight)
        gate = torch.sigmoid(before)
        return unit, g.float() * (gate * (1 + before * (1 - gate))) * weight

    def gather_back(self, unit: Tensor, g: Tensor) -> None:
        """Add rows to the sums of the backward pass; every row must be added once."""
        u, g = _grouped(unit, self.groups), _grouped(g, self.groups)
        self.sums.add(g, g * u)

    def scaled(self, g: Tensor) -> Tensor:
        """The term of ``finish_back`` that does not depend on the sums."""
        assert self.statistics is not None
        return (_grouped(g, self.groups) * self.statistics[1]).view(g.shape)

    def common(self, unit: Tensor, sums: _Sums) -> Tensor:
        """The term that ``finish_back`` subtracts from ``scaled``."""
        assert self.statistics is not None
        first, second = (
            torch.as_tensor(s / sums.count, dtype=torch.float32) for s in (sums.first, sums.second)
        )
        u = _grouped(unit, self.groups)
        return ((first + u * second) * self.statistics[1]).view(unit.shape)

    def finish_back(self, unit: Tensor, g: Tensor, sums: _Sums) -> Tensor:
        """Gradient with respect to x, float32."""
        return self.scaled(g) - self.common(unit, sums)


class _Weight(TorchFunctionMode):
    """Records the weight of a convolution call, which hosts may cast and patch on the fly."""

    seen: Tensor | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.conv2d and len(args) > 1:
            self.seen = args[1]
        return func(*args, **(kwargs or {}))


def _pull(function: Callable[[Tensor], Tensor], x: Tensor, g: Tensor) -> Tensor:
    """Vector-Jacobian product of ``function`` at x."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (result,) = torch.autograd.grad(function(x), x, g)
    return result


def _adjoint(conv: Any, g: Tensor) -> Tensor:
    """The adjoint of the linear part of ``conv``, which keeps height and width, applied to g."""
    size, channels = conv.kernel_size[0], conv.in_channels
    with _Weight() as weight:
        conv(g.new_zeros(1, channels, size, size))
    if weight.seen is None:
        return _pull(conv, g.new_zeros(len(g), channels, *g.shape[2:]), g)
    return F.conv_transpose2d(g, weight.seen.to(g), padding=size // 2)


def _near(x: Tensor, low: int, a: int, b: int) -> Tensor:
    """Rows a to b of an image; x holds its rows from ``low`` on."""
    return x[:, :, a - low : b - low]


class _Rolling:
    """A tensor (N, C, H, W) overwritten from the top, with access to the previous values near the
    last row written."""

    def __init__(self, tensor: Tensor, margin: int = 2):
        self.tensor, self.margin, self.done = tensor, margin, 0
        self.saved = tensor[:, :, :0]

    def rows(self, a: int, b: int) -> Tensor:
        """Previous values of rows a to b; a must be at most ``margin`` rows above the unwritten."""
        if a >= self.done:
            return self.tensor[:, :, a:b]
        top = self.saved[:, :, self.saved.shape[2] - (self.done - a) :]
        return torch.cat([top, self.tensor[:, :, self.done : b]], 2)

    def write(self, b: int, values: Tensor) -> None:
        """Overwrite the rows from the first unwritten one to b."""
        saved = self.rows(max(0, b - self.margin), b).clone()
        self.tensor[:, :, self.done : b] = values
        self.saved, self.done = saved, b


@dataclass
class _Source:
    """A block's input by rows: the tensor ``stored``, upsampled by 2 and convolved by ``up`` if
    that is given. ``owned``: the block may overwrite ``stored``.
    """

    stored: Tensor
    up: nn.Module | None = None
    owned: bool = False

    def __post_init__(self) -> None:
        self.rolling = _Rolling(self.stored)

    @property
    def height(self) -> int:
        return self.stored.shape[2] * (1 if self.up is None else 2)

    @property
    def width(self) -> int:
        return self.stored.shape[3] * (1 if self.up is None else 2)

    def _window(self, a: int, b: int) -> tuple[int, int]:
        # Output rows a..b depend on upsampled rows a − 1..b + 1.
        return max(0, (a - 1) // 2), min(self.stored.shape[2], (b + 2) // 2)

    def rows(self, a: int, b: int) -> Tensor:
        """Input rows a to b."""
        if self.up is None:
            return self.rolling.rows(a, b)
        low, high = self._window(a, b)
        return self.up(double(self.stored[:, :, low:high]))[:, :, a - 2 * low : b - 2 * low]

    def add_gradient(self, sink: Tensor, a: int, b: int, g: Tensor) -> None:
        """Backpropagate g, the gradient of input rows a to b, and add it to ``sink``, which has the
        shape of ``stored``."""
        assert self.up is not None
        # Output rows a..b depend on upsampled rows a − 1..b + 1, two of which are one stored row.
        low, high = (a - 1) // 2, (b + 2) // 2
        g = _adjoint(self.up, F.pad(g, (0, 0, a - 2 * low, 2 * high - b)))
        g = F.avg_pool2d(g, 2) * 4
        first, last = max(0, low), min(self.stored.shape[2], high)
        sink[:, :, first:last] += _near(g, low, first, last)


class _Block:
    """A residual block or the head, evaluated in strips; keeps only the statistics."""

    def __init__(self, stage: Residual | Head, strip_bytes: int):
        self.stage, self.strip_bytes = stage, strip_bytes
        head = isinstance(stage, Head)
        self.norm1 = _Norm(stage.norm if isinstance(stage, Head) else stage.norm1)
        self.norm2 = None if head else _Norm(stage.norm2)  # type: ignore[union-attr]

    def _strips(self, source: _Source) -> Iterator[tuple[int, int]]:
        one = source.stored
        row = len(one) * one.shape[1] * source.width * one.element_size()
        return _strips(source.height, row, self.strip_bytes)

    def _reach(self, source: _Source, a: int, b: int, margin: int) -> tuple[int, int]:
        return max(0, a - margin), min(source.height, b + margin)

    def _middle(self, x: Tensor, low: int, a: int, b: int) -> Tensor:
        """Rows a to b of conv1(silu(norm1(x))); x holds rows from ``low`` on, margin included."""
        assert isinstance(self.stage, Residual)
        return _near(self.stage.conv1(self.norm1.activated(x)), low, a, b)

    def _measure(self, source: _Source) -> None:
        if self.norm1.statistics is None:
            for a, b in self._strips(source):
                self.norm1.gather(source.rows(a, b))
            self.norm1.settle()
        if self.norm2 is not None and self.norm2.statistics is None:
            for a, b in self._strips(source):
                low, high = self._reach(source, a, b, 1)
                self.norm2.gather(self._middle(source.rows(low, high), low, a, b))
            self.norm2.settle()

    def forward(self, source: _Source) -> Tensor:
        """The block's output at full size; overwrites an owned input of the same shape."""
        self._measure(source)
        over = source.owned and self._keeps_shape()
        out: Any = None
        for a, b in self._strips(source):
            if isinstance(self.stage, Head) or self.norm2 is None:
                low, high = self._reach(source, a, b, 1)
                conv = self.stage.conv  # type: ignore[union-attr]
                y = _near(conv(self.norm1.activated(source.rows(low, high))), low, a, b)
            else:
                low, high = self._reach(source, a, b, 2)
                x = source.rows(low, high)
                start, stop = self._reach(source, a, b, 1)
                h = self.norm2.activated(self._middle(x, low, start, stop))
                y = _near(self.stage.conv2(h), start, a, b)
                x = _near(x, low, a, b)
                y = y + (x if self.stage.shortcut is None else self.stage.shortcut(x))
            if over:
                source.rolling.write(b, y)
                continue
            if out is None:
                out = y.new_empty(len(y), y.shape[1], source.height, source.width)
            out[:, :, a:b] = y
        return source.stored if over else out

    def _keeps_shape(self) -> bool:
        return isinstance(self.stage, Residual) and self.stage.shortcut is None

    def _middle_gradient(
        self, source: _Source, x: Tensor, low: int, dy: _Rolling, a: int, b: int
    ) -> tuple[Tensor, Tensor]:
        """(unit of norm2, gradient with respect to it) for middle rows a to b.

        x holds the block's input rows from ``low`` on.
        """
        assert isinstance(self.stage, Residual)
        assert self.norm2 is not None
        first, last = self._reach(source, a, b, 1)
        g = _near(_adjoint(self.stage.conv2, dy.rows(first, last)), first, a, b)
        return self.norm2.back(self._middle(x, low, a, b), g)

    def backward(self, source: _Source, dy: Tensor) -> Tensor:
        """Gradient with respect to ``source.stored``, given that of the output, ``dy``, which may
        be overwritten."""
        self._measure(source)
        sums2 = _Sums()
        if self.norm2 is not None:
            for a, b in self._strips(source):
                low, high = self._reach(source, a, b, 1)
                x = source.rows(low, high)
                unit, g = self._middle_gradient(source, x, low, _Rolling(dy), a, b)
                self.norm2.gather_back(unit, g)
            sums2, self.norm2.sums = self.norm2.sums, _Sums()

        over = source.up is None and self._keeps_shape()
        # dy is overwritten row by row if the result has its shape.
        above = _Rolling(dy)

        def first_gradient(a: int, b: int) -> tuple[Tensor, Tensor]:
            """(unit of norm1, gradient with respect to it) for input rows a to b."""
            start, stop = self._reach(source, a, b, 1)
            if isinstance(self.stage, Head) or self.norm2 is None:
                conv: nn.Module = self.stage.conv  # type: ignore[union-attr]
                g, x = above.rows(start, stop), source.rows(a, b)
            else:
                low, high = self._reach(source, a, b, 2)
                conv, x = self.stage.conv1, source.rows(low, high)
                unit, g = self._middle_gradient(source, x, low, above, start, stop)
                g = self.norm2.finish_back(unit, g, sums2).to(x.dtype)
                x = _near(x, low, a, b)
            return self.norm1.back(x, _near(_adjoint(conv, g), start, a, b))

        def shortcut(a: int, b: int) -> Tensor | float:
            """The gradient through the shortcut, for input rows a to b."""
            if not isinstance(self.stage, Residual):
                return 0.0
            rows = above.rows(a, b)
            return rows if self.stage.shortcut is None else _adjoint(self.stage.shortcut, rows)

        # Kept between both passes: the scaled gradient at norm1 plus that of the shortcut.
        kept = None
        if source.up is None:
            kept = dy if over else torch.empty_like(source.stored)
        elif self._input_bytes(source) <= KEPT_BYTES:
            shape = (*source.stored.shape[:2], source.height, source.width)
            kept = source.stored.new_empty(shape)
        for a, b in self._strips(source):
            unit, g = first_gradient(a, b)
            self.norm1.gather_back(unit, g)
            if kept is not None:
                g = self.norm1.scaled(g) + shortcut(a, b)
                if over:
                    above.write(b, g)
                else:
                    kept[:, :, a:b] = g
        sums1, self.norm1.sums = self.norm1.sums, _Sums()
        sink = None if source.up is None else torch.zeros_like(source.stored)
        for a, b in self._strips(source):
            if kept is not None:
                rest = self.norm1.common(self.norm1.unit(source.rows(a, b)), sums1)
                kept[:, :, a:b] -= rest
                g = kept[:, :, a:b]
            else:
                unit, g = first_gradient(a, b)
                g = self.norm1.finish_back(unit, g, sums1) + shortcut(a, b)
            if sink is not None:
                source.add_gradient(sink, a, b, g.to(source.stored.dtype))
        result = kept if sink is None else sink
        assert result is not None
        return result

    @staticmethod
    def _input_bytes(source: _Source) -> int:
        one = source.stored
        return len(one) * one.shape[1] * source.height * source.width * one.element_size()


class _Level:
    """The stages of one resolution, beginning with its upsampling, if any."""

    def __init__(self, up: nn.Module | None, stages: Sequence[Stage], strip_bytes: int):
        self.up = up
        self.parts: list[Plain | _Block] = [
            stage if isinstance(stage, Plain) else _Block(stage, strip_bytes)  # type: ignore[arg-type]
            for stage in stages
        ]

    def _part(self, k: int, x: Tensor, owned: bool) -> Tensor:
        part = self.parts[k]
        if isinstance(part, Plain):
            return part.run(x)
        return part.forward(_Source(x, self.up if k == 0 else None, owned))

    def _output_bytes(self, k: int, x: Tensor) -> int:
        part, size = self.parts[k], x.numel() * x.element_size()
        if isinstance(part, Plain) or not isinstance(part.stage, Residual):
            return size
        wider = part.stage.conv2.out_channels / x.shape[1]  # type: ignore[operator]
        return int(size * wider * (4 if k == 0 and self.up is not None else 1))

    def forward(self, x: Tensor) -> Tensor:
        """The output of the level for its input x."""
        for k in range(len(self.parts)):
            # The level's input is needed again in the backward pass; later inputs are not.
            x = self._part(k, x, owned=k > 0)
        return x

    def backward(self, start: Tensor, g: Tensor) -> Tensor:
        """Gradient with respect to the level's input ``start``.

        The inputs of the first parts are kept while they fit in ``KEPT_BYTES``; each of the others
        is recomputed from the last one kept, so that only one exists at a time.
        """
        inputs, room = [start], KEPT_BYTES
        for k in range(len(self.parts) - 1):
            room -= self._output_bytes(k, inputs[-1])
            if room < 0:
                break
            inputs.append(self._part(k, inputs[-1], owned=False))
        for k in reversed(range(len(self.parts))):
            del inputs[k + 1 :]
            x = inputs[-1]
            for before in range(len(inputs) - 1, k):
                x = self._part(before, x, owned=before >= len(inputs))
            part = self.parts[k]
            if isinstance(part, Plain):
                g = _pull(part.run, x, g)
            else:
                g = part.backward(_Source(x, self.up if k == 0 else None), g)
        return g


def _levels(stages: Sequence[Stage], strip_bytes: int) -> list[_Level]:
    levels: list[tuple[nn.Module | None, list[Stage]]] = [(None, [])]
    for stage in stages:
        if isinstance(stage, Upsample):
            levels.append((stage.conv, []))
        else:
            levels[-1][1].append(stage)
    return [_Level(up, part, strip_bytes) for up, part in levels]


class _Decode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z: Tensor, stages: Sequence[Stage], strip_bytes: int) -> Tensor:  # type: ignore[override]
        levels = _levels(stages, strip_bytes)
        starts, x = [], z.detach()
        for level in levels:
            starts.append(x)
            x = level.forward(x)
        ctx.levels, ctx.starts = levels, starts
        return x

    @staticmethod
    def backward(ctx, g: Tensor):  # type: ignore[override]
        levels, starts = ctx.levels, list(ctx.starts)
        ctx.starts = None
        while levels:
            g = levels.pop().backward(starts.pop(), g)
        return g, None, None


def decode(stages: Sequence[Stage], z: Tensor, strip_bytes: int = STRIP_BYTES) -> Tensor:
    """Images of the latents z (N, C, h, w) by the decoder of ``stages``; once differentiable.

    Equal to the plain decoder up to rounding, with group statistics in float64. Weights must not
    require gradients.
    """
    return _Decode.apply(z, stages, strip_bytes)  # type: ignore[return-value]


@torch.no_grad()
def run(stages: Sequence[Stage], x: Tensor, strip_bytes: int = STRIP_BYTES) -> Tensor:
    """The output of ``stages``, of a decoder or an encoder, for x (N, C, H, W), without gradient.

    Equal to the plain pass up to rounding.
    """
    for level in _levels(stages, strip_bytes):
        x = level.forward(x)
    return x
