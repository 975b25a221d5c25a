"""Baseline JPEG compression and decompression on tensors, differentiable."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .hadamard import cosine
from .linear.transforms import frequencies
from .operator import Operator, Shape
from .orientation import TURNS, stored, upright
from .rounding import beyond, rounded
from .rounding_error import RoundingError

SMALLER = 0.5
"""Variance of what rounding takes from a coefficient, in units of a uniform one: most are small
beside their step, so that they lie near the middle of its interval. Measured on photographs, and
about the same for qualities from 10 to 90."""
UNSEEN = 1e3
"""Variance where nothing is recorded: of chroma finer than its values."""

Rounding = Callable[[Tensor], Tensor]


def _as_it_is(x: Tensor) -> Tensor:
    return x


def _byte(x: Tensor, round_: Rounding) -> Tensor:
    """x rounded and clamped to 0..255; the clamp has a straight-through gradient."""
    x = round_(x)
    return x + (x.clamp(0, 255) - x).detach()


def _tilted(x: Tensor, by: float) -> Tensor:
    """x plus ``by`` and −``by`` in alternating columns: breaks ties of rounding as libjpeg does."""
    offset = x.new_full((x.shape[-1],), by)
    offset[1::2] = -by
    return x + offset


class Codec(Operator):
    """JPEG of images (N, 1 or 3, H, W) in [-1, 1]; ``shares`` are the rows and columns of pixels
    per chroma value, ``tables`` (2, 64) the quantisation steps."""

    def __init__(self, shape: Shape, shares: tuple[int, int], tables: Tensor):
        super().__init__(shape, shape)
        self._shares, self._tables = shares, tables
        self._cosine = cosine(8).to(tables)
        # RGB to YCbCr (JFIF) and back.
        kr, kg, kb = 0.299, 0.587, 0.114
        split = torch.tensor(
            [
                [kr, kg, kb],
                [-kr / (2 - 2 * kb), -kg / (2 - 2 * kb), 0.5],
                [0.5, -kg / (2 - 2 * kr), -kb / (2 - 2 * kr)],
            ],
            dtype=torch.float64,
        )
        self._split, self._join = split.to(tables), torch.linalg.inv(split).to(tables)
        self._middle = torch.tensor([0.0, 128.0, 128.0]).view(3, 1, 1).to(tables)

    def _plane(
        self, x: Tensor, table: Tensor, round_: Rounding, quantise: Rounding | None = None
    ) -> Tensor:
        """Quantise the DCT of 8 x 8 blocks of planes (N, c, h, w) in 0..255, edges replicated."""
        quantise = quantise or round_
        height, width = x.shape[2:]
        x = F.pad(x, (0, -width % 8, 0, -height % 8), mode="replicate")
        n, c, tall, wide = x.shape
        d = self._cosine
        blocks = x.view(n, c, tall // 8, 8, wide // 8, 8) - 128
        found = torch.einsum("ij,ncajbk,lk->ncaibl", d, blocks, d)
        steps = table.view(8, 1, 8)
        # Ties are rounded away from zero.
        found = quantise(found * (1 + 2e-6) / steps) * steps
        back = torch.einsum("ij,ncaibl,lk->ncajbk", d, found, d)
        return _byte(back.reshape(n, c, tall, wide)[..., :height, :width] + 128, round_)

    def _codec(self, x: Tensor, round_: Rounding, quantise: Rounding | None = None) -> Tensor:
        """Compress and decompress x; ``round_`` is applied wherever JPEG rounds, but ``quantise``,
        if given, to the coefficients."""
        x = _byte((x + 1) * 127.5, round_)
        if x.shape[1] == 1:
            return self._plane(x, self._tables[0], round_, quantise) / 127.5 - 1
        height, width = x.shape[2:]
        rows, columns = self._shares
        # Edges are replicated to whole blocks of 8 x 8 chroma values before chroma is averaged.
        grown = (0, -width % (8 * columns), 0, -height % (8 * rows))
        x = torch.einsum("ij,njhw->nihw", self._split, F.pad(x, grown, mode="replicate"))
        x = _byte(x + self._middle, round_)
        luma = self._plane(x[:, :1, :height, :width], self._tables[0], round_, quantise)
        chroma = _byte(_tilted(F.avg_pool2d(x[:, 1:], self._shares), -1 / 8), round_)
        chroma = self._plane(chroma, self._tables[1], round_, quantise)
        chroma = chroma[..., : -(-height // rows), : -(-width // columns)]
        if self._shares != (1, 1):
            # Triangle filter ("fancy upsampling"), as in libjpeg.
            size = (chroma.shape[2] * rows, chroma.shape[3] * columns)
            chroma = F.interpolate(chroma, size, mode="bilinear")[..., :height, :width]
            chroma = _byte(_tilted(chroma, -1 / 8 if rows == 1 else 1 / 32), round_)
        planes = torch.cat([luma, chroma], 1) - self._middle
        return _byte(torch.einsum("ij,njhw->nihw", self._join, planes), round_) / 127.5 - 1

    def _forward(self, x: Tensor) -> Tensor:
        return self._codec(x, rounded)

    @property
    def rounds(self) -> bool:
        return True

    @property
    def rounding_error(self) -> RoundingError:
        return self.error_in(self.in_shape, False)

    def error_in(self, shape: Shape, transposed: bool) -> RoundingError:
        """The rounding error in images of another shape, in which this one may lie transposed."""
        shares = [(1, 1), *[self._shares] * (shape[0] - 1)]
        density = [
            _density(self._tables[min(c, 1)].view(8, 8), share, shape[1:], transposed)
            for c, share in enumerate(shares)
        ]
        colours = self._split if shape[0] == 3 else None
        return RoundingError(torch.stack(density), colours)

    def _misfit(self, x: Tensor, y: Tensor) -> Tensor:
        """What the coefficients of x lie beyond the intervals of those of y, decompressed."""
        targets: list[Tensor] = []

        def keep(found: Tensor) -> Tensor:
            targets.append(found.round())
            return targets[-1]

        with torch.no_grad():
            self._codec(y, rounded, keep)
            same = iter(list(targets))
            nothing = self._codec(y, _as_it_is, lambda _: next(same))
        wanted = iter(targets)

        def apart(found: Tensor) -> Tensor:
            target = next(wanted)
            return target + beyond(found, target, 0.5)

        return self._codec(x, _as_it_is, apart) - nothing


def _density(
    steps: Tensor, share: tuple[int, int], size: tuple[int, int], transposed: bool
) -> Tensor:
    """Variance per value of what rounding by ``steps`` (8, 8) takes from every frequency of
    ``Cosine``, (H, W // 2 + 1, 2), of a plane that has a value for ``share`` rows and columns.

    Coefficient k of a block belongs to k / 16 cycles per value; the steps between are interpolated.
    Rounding to 8 bits is added.
    """
    if transposed:
        steps, share = steps.mT, (share[1], share[0])
    down, across = (16 * n * f.to(steps) for n, f in zip(share, frequencies(*size), strict=True))
    unseen = (down > 7.5).logical_or(across > 7.5) if share != (1, 1) else None
    (top, low), (left, right) = (_between(place.clamp(max=7)) for place in (down, across))
    table = torch.lerp(
        torch.lerp(steps[top, left], steps[top, left + 1], right),
        torch.lerp(steps[top + 1, left], steps[top + 1, left + 1], right),
        low.expand(*low.shape[:1], *right.shape),
    )
    density = (SMALLER * table.square() + 1) / 12 / 127.5**2
    return density if unseen is None else density.masked_fill(unseen, UNSEEN)


def _between(place: Tensor) -> tuple[Tensor, Tensor]:
    """The whole number below each place from 0 to 7, at most 6, and what is left."""
    below = place.floor().long().clamp(max=6)
    return below, place - below


class Placed(Operator):
    """``codec`` on the top left part of images, in the orientation of its file; the rest of them is
    kept as it is.
    """

    def __init__(self, shape: Shape, codec: Codec, orientation: int):
        super().__init__(shape, shape)
        self._codec, self._orientation = codec, orientation
        height, width = codec.in_shape[1:]
        self._size = (width, height) if TURNS[orientation].transposed else (height, width)

    def _inside(self, x: Tensor) -> Tensor:
        height, width = self._size
        return stored(x[..., :height, :width], self._orientation)

    def _with(self, inside: Tensor, around: Tensor) -> Tensor:
        """``around`` with the result of the codec in its place."""
        height, width = self._size
        inside = upright(inside, self._orientation)
        inside = torch.cat([inside, around[..., :height, width:]], -1)
        return torch.cat([inside, around[..., height:, :]], -2)

    def _forward(self, x: Tensor) -> Tensor:
        return self._with(self._codec.A(self._inside(x)), x)

    @property
    def rounds(self) -> bool:
        return True

    @property
    def rounding_error(self) -> RoundingError:
        return self._codec.error_in(self.in_shape, TURNS[self._orientation].transposed)

    def _misfit(self, x: Tensor, y: Tensor) -> Tensor:
        return self._with(self._codec.misfit(self._inside(x), self._inside(y)), x - y)
