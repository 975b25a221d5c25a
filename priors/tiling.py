"""Images larger than a model was trained for: the prior works in overlapping tiles, nothing else.

The sampler sees one image, one measurement and one noise. Every answer of the prior is a blend of
its answers for tiles, with weights that are smooth and sum to one, so that no border exists at
which something could jump. Not to be confused with the exact strips
inside a decoder (:mod:`.gradients.normalised_strips`).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .base import SIDE, FlowPrior, draw_latents

LARGEST = 4096
"""Longest side of an image in pixels."""
DEMO_SIDE = 192
"""The same for the demo prior, which was trained at 128: there it still does well."""
WHOLE = 1.5
"""Largest image that is left whole, in squares of that side."""
SMALLEST = 64
"""Least side of a tile in pixels."""


@dataclass(frozen=True)
class Tile:
    """A rectangle of latents of ``whole`` = (height, width); everything in cells."""

    top: int
    left: int
    height: int
    width: int
    whole: tuple[int, int]

    def of(self, values: Tensor, unit: int = 1) -> Tensor:
        """Its part, a view, of ``values`` (..., H, W) with ``unit`` elements to a cell."""
        rows = slice(self.top * unit, (self.top + self.height) * unit)
        return values[..., rows, self.left * unit : (self.left + self.width) * unit]


def starts(length: int, tile: int, overlap: int) -> list[int]:
    """First cells of the tiles along a side of ``length`` cells: evenly placed, first and last at
    the ends, each sharing at least ``overlap`` cells with the next."""
    if length <= tile:
        return [0]
    count = math.ceil((length - overlap) / (tile - overlap))
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


def weights(first: Sequence[int], length: int, tile: int, unit: int = 1) -> list[Tensor]:
    """Weight of every tile along a side, float64 (tile · unit,): above zero, and one in sum.

    They fall as a squared cosine across what two tiles share.
    """
    tile = min(tile, length)
    at = (torch.arange(tile * unit, dtype=torch.float64) + 0.5) / unit
    raw = []
    for i, start in enumerate(first):
        weight = torch.ones_like(at)
        if i > 0:
            shared = first[i - 1] + tile - start
            weight = weight * (math.pi / 2 * (at / shared).clamp(max=1)).sin().square()
        if i + 1 < len(first):
            shared = start + tile - first[i + 1]
            weight = weight * (math.pi / 2 * ((tile - at) / shared).clamp(max=1)).sin().square()
        raw.append(weight)
    total = torch.zeros(length * unit, dtype=torch.float64)
    for start, weight in zip(first, raw, strict=True):
        total[start * unit : start * unit + len(weight)] += weight
    return [w / total[s * unit : s * unit + len(w)] for s, w in zip(first, raw, strict=True)]


class _Pass:
    """One answer of the prior, tile by tile: ``work`` of every part, blended.

    ``units`` are the elements to a cell of what goes in and of what comes out.
    """

    def __init__(
        self,
        work: Callable[[Tile, Tensor], Tensor],
        tiles: Sequence[Tile],
        rows: Sequence[Tensor],
        columns: Sequence[Tensor],
        units: tuple[int, int],
    ):
        self.work, self.tiles = work, tiles
        self.rows, self.columns, self.units = rows, columns, units

    def parts(self) -> Iterator[tuple[Tile, Tensor]]:
        """Every tile with the weights (h, w) of its answer."""
        grid = ((row, column) for row in self.rows for column in self.columns)
        for tile, (row, column) in zip(self.tiles, grid, strict=True):
            yield tile, row[:, None] * column

    def forward(self, values: Tensor, wanted: bool) -> Tensor:
        """The blend. Where its gradient will be ``wanted``, parts are computed as for one, since
        a prior may then answer otherwise, and what that kept is dropped at once."""
        height, width = (n * self.units[1] for n in self.tiles[0].whole)
        blend: Tensor | None = None
        for tile, weight in self.parts():
            at = tile.of(values, self.units[0]).detach().clone().requires_grad_(wanted)
            with torch.set_grad_enabled(wanted):
                part = self.work(tile, at).detach()
            if blend is None:
                blend = part.new_zeros(*part.shape[:-2], height, width)
            tile.of(blend, self.units[1]).add_(part * weight.to(part))
        assert blend is not None
        return blend

    def backward(self, values: Tensor, gradient: Tensor) -> Tensor:
        """Every tile is computed again, alone, so that there is one tile's graph at a time."""
        total = torch.zeros_like(values)
        for tile, weight in self.parts():
            with torch.enable_grad():
                at = tile.of(values, self.units[0]).detach().clone().requires_grad_()
                part = self.work(tile, at)
                pulled = tile.of(gradient, self.units[1]) * weight.to(gradient)
                (pulled,) = torch.autograd.grad(part, at, pulled)
            tile.of(total, self.units[0]).add_(pulled)
        return total


class _Blend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, one: _Pass) -> Tensor:
        ctx.save_for_backward(values)
        ctx.one = one
        return one.forward(values, wanted=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (values,) = ctx.saved_tensors
        return ctx.one.backward(values, gradients[0]), None


class TiledPrior:
    """A :class:`~comfyui_flowdps.priors.base.FlowPrior` that asks ``inner`` for tiles of at most
    ``tile`` latent cells a side, which share ``overlap`` cells or more.

    Latents may have any axes before the last two. The memory of a pass and of its gradient is that
    of one tile, besides a few tensors of the image's size; a gradient computes every tile twice,
    and ``passes`` counts both. What fits one tile is ``inner``'s own answer.

    Every pass of ``inner`` happens inside its ``within(tile)``. What is drawn from the posterior of
    a variational autoencoder is one field of noise for the image, whatever the tiles. Raises
    ValueError for an overlap that is not smaller than the tile.
    """

    def __init__(self, inner: FlowPrior, tile: int, overlap: int | None = None):
        self.inner, self.tile = inner, tile
        self.overlap = max(tile // 4, min(16, tile // 2)) if overlap is None else overlap
        if not 0 <= self.overlap < tile:
            raise ValueError(
                f"the overlap is {self.overlap} and the tile {tile} cells; expected a tile of at"
                " least 1 and an overlap from 0 to less than it"
            )
        self.latent_channels, self.stride = inner.latent_channels, inner.stride
        self.device, self.dtype = inner.device, inner.dtype
        self.passes = inner.passes
        self.largest: float = LARGEST
        self.usual = inner.usual

    def tiles(self, height: int, width: int) -> list[Tile]:
        """The tiles of latents of so many cells, row by row."""
        tall, wide = min(self.tile, height), min(self.tile, width)
        return [
            Tile(top, left, tall, wide, (height, width))
            for top in starts(height, self.tile, self.overlap)
            for left in starts(width, self.tile, self.overlap)
        ]

    def _tiled(self, work: Callable[[Tensor], Tensor], values: Tensor, *units: int) -> Tensor:
        """``work`` of ``values``, tile by tile; ``units`` as in :class:`_Pass`."""
        height, width = (n // units[0] for n in values.shape[-2:])
        tiles = self.tiles(height, width)
        if len(tiles) == 1:
            return work(values)
        rows, columns = (
            weights(starts(n, self.tile, self.overlap), n, self.tile, units[1])
            for n in (height, width)
        )

        def at(tile: Tile, part: Tensor) -> Tensor:
            with self.inner.within(tile):
                return work(part)

        one = _Pass(at, tiles, rows, columns, (units[0], units[1]))
        if values.requires_grad and torch.is_grad_enabled():
            return _Blend.apply(values, one)  # type: ignore[return-value]
        with torch.no_grad():
            return one.forward(values, wanted=False)

    def denoise(self, z: Tensor, sigma: float) -> Tensor:
        """Posterior mean of the data given ``z`` at σ; differentiable."""
        return self._tiled(lambda part: self.inner.denoise(part, sigma), z, 1, 1)

    def decode(self, z: Tensor) -> Tensor:
        """Images (N, 3, H, W) of the latents, not clamped; differentiable."""
        return self._tiled(self.inner.decode, z, 1, self.stride)

    def encode(self, x: Tensor, generators: Sequence[torch.Generator] | None = None) -> Tensor:
        """Latents of images (N, 3, H, W), as ``inner`` encodes them; differentiable.

        Raises ValueError where the stride does not divide a side.
        """
        self._check_sides(x)
        if max(x.shape[-2:]) <= self.tile * self.stride:
            return self.inner.encode(x, generators)
        if generators is None:
            return self._tiled(self.inner.encode, x, self.stride, 1)
        return draw_latents(*self.moments(x), generators)

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mean and standard deviation of the latents of images (N, 3, H, W), each a blend of tiles.

        The deviation is None for a deterministic autoencoder. Differentiable. Raises
        ValueError where the stride does not divide a side.
        """
        self._check_sides(x)

        def both(part: Tensor) -> Tensor:
            mean, deviation = self.inner.moments(part)
            return mean if deviation is None else torch.cat([mean, deviation], 1)

        found = self._tiled(both, x, self.stride, 1)
        if found.shape[1] == self.latent_channels:
            return found, None
        mean, deviation = found.chunk(2, 1)
        return mean, deviation

    def _check_sides(self, x: Tensor) -> None:
        height, width = x.shape[-2:]
        if height % self.stride or width % self.stride:
            raise ValueError(
                f"the image is {height}x{width}; expected both sides to be multiples of"
                f" {self.stride}: pad it first"
            )

    def within(self, tile: Tile) -> contextlib.AbstractContextManager[None]:
        """As ``inner``'s: the image in tiles is itself a tile of a larger one."""
        return self.inner.within(tile)

    @property
    def memory_mode(self) -> str:
        """How the decoder's gradient of a tile is computed now."""
        return self.inner.memory_mode

    def save_memory(self) -> bool:
        """Use less memory for gradients from now on; False where that cannot be."""
        return self.inner.save_memory()


def side_of(
    height: int, width: int, largest: float = math.inf, tile: int = 0, usual: int = SIDE
) -> int:
    """Side in pixels of the tiles of an image of ``height`` x ``width`` pixels; 0 if it is one.

    largest: longest side in pixels for which the model has positions.
    tile: the side that is asked for; 0 leaves images of up to 1.5 squares of ``usual`` whole where
        the model has positions for them, and cuts others into tiles of ``usual`` or of what it has.
    usual: side in pixels of what the model was trained for.

    Raises ValueError for an image above 4096 pixels a side, and for a tile that does not serve.
    """
    if max(height, width) > LARGEST:
        raise ValueError(
            f"the image is {height}x{width} pixels; expected at most {LARGEST} a side:"
            " choose a smaller size"
        )
    if tile and not SMALLEST <= tile <= largest:
        most = f"from {SMALLEST} to {largest:.0f}" if largest < LARGEST else f"at least {SMALLEST}"
        raise ValueError(
            f"the tile is {tile} pixels a side; expected 0 (automatic) or {most} for this model"
        )
    if tile:
        return tile if max(height, width) > tile else 0
    if height * width <= WHOLE * usual**2 and max(height, width) <= largest:
        return 0
    return int(min(usual, largest))


def cells_of(side: int, stride: int) -> int:
    """Cells of a tile of ``side`` pixels; even, as transformers take them in pairs."""
    return max(2, side // stride // 2 * 2)


def tile_side(prior: FlowPrior, height: int, width: int, tile: int = 0) -> int:
    """:func:`side_of` with the ``largest`` and ``usual`` side of ``prior``."""
    return side_of(height, width, prior.largest, tile, prior.usual)


def tiled(prior: FlowPrior, height: int, width: int, tile: int = 0) -> FlowPrior:
    """``prior`` in tiles for images of ``height`` x ``width`` pixels, or itself where one serves.

    ``tile`` is a side in pixels, 0 for automatic, as in :func:`side_of`, which raises ValueError.
    """
    side = tile_side(prior, height, width, tile)
    return TiledPrior(prior, cells_of(side, prior.stride)) if side else prior
