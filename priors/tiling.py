"""Tiled evaluation of a prior, for images larger than those that the model was trained for.

Only the prior is tiled: the sampler has one image, one measurement and one noise. Results of the
prior for overlapping tiles are blended with smooth weights that sum to one, so that there are no
seams. Not to be confused with the exact strips inside a decoder
(:mod:`.gradients.normalised_strips`).
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
WHOLE = 1.5
"""Largest area of an image that is not tiled, in squares of the ``usual`` side."""
SMALLEST = 64
"""Smallest side of a tile in pixels."""


@dataclass(frozen=True)
class Tile:
    """A rectangle of latents whose size is ``whole`` = (height, width); all values in cells."""

    top: int
    left: int
    height: int
    width: int
    whole: tuple[int, int]

    def of(self, values: Tensor, unit: int = 1) -> Tensor:
        """View of ``values`` (..., H, W), cropped to the tile, with ``unit`` elements per cell."""
        rows = slice(self.top * unit, (self.top + self.height) * unit)
        return values[..., rows, self.left * unit : (self.left + self.width) * unit]


def starts(length: int, tile: int, overlap: int) -> list[int]:
    """First cells of the tiles along a side of ``length`` cells, evenly spaced from end to end,
    with an overlap of at least ``overlap`` cells between neighbours."""
    if length <= tile:
        return [0]
    count = math.ceil((length - overlap) / (tile - overlap))
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


def weights(first: Sequence[int], length: int, tile: int, unit: int = 1) -> list[Tensor]:
    """Blending weights of every tile along a side, float64 (tile · unit,), positive, sum 1.

    They fall as a squared cosine across the overlap of two tiles.
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
    """One tiled evaluation: the blend of ``work(tile, part)`` over all tiles.

    ``units`` are the elements per cell and side of the input and of the output.
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
        """Every tile with the weights (h, w) of its output."""
        grid = ((row, column) for row in self.rows for column in self.columns)
        for tile, (row, column) in zip(self.tiles, grid, strict=True):
            yield tile, row[:, None] * column

    def forward(self, values: Tensor, wanted: bool) -> Tensor:
        """The blend. With ``wanted`` (a gradient will be taken) parts are computed with gradients
        enabled, since a prior's output may depend on that; their graphs are dropped at once."""
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
        """Vector-Jacobian product; tiles are recomputed one by one, so only one graph exists at a
        time."""
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
    """A :class:`~comfyui_flowdps.priors.base.FlowPrior` that evaluates ``inner`` on tiles of at
    most ``tile`` latent cells a side, which overlap by at least ``overlap`` cells.

    Latents may have any axes before the last two. A pass and its gradient need the memory of one
    tile, besides a few tensors of the image's size; a gradient computes every tile twice, and
    ``passes`` counts both. Images that fit one tile are passed to ``inner`` unchanged.

    Every pass of ``inner`` runs inside its ``within(tile)``. Noise for the posterior of a
    variational autoencoder is drawn for the whole image, independently of the tiles. Raises
    ValueError for an overlap that is not smaller than the tile.

    watch: is told of every tile that is done, with the clean latents where the model found them.
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
        self.usual, self.velocity_errors = inner.usual, inner.velocity_errors
        self.error_spectrum, self.movable = inner.error_spectrum, inner.movable
        self.watch: Callable[[Tile, Tensor | None], None] | None = None

    def tiles(self, height: int, width: int) -> list[Tile]:
        """The tiles of latents of ``height`` x ``width`` cells, row by row."""
        tall, wide = min(self.tile, height), min(self.tile, width)
        return [
            Tile(top, left, tall, wide, (height, width))
            for top in starts(height, self.tile, self.overlap)
            for left in starts(width, self.tile, self.overlap)
        ]

    def _tiled(
        self,
        work: Callable[[Tensor], Tensor],
        values: Tensor,
        *units: int,
        clean: bool = False,
    ) -> Tensor:
        """``work(values)``, evaluated in tiles and blended; ``units`` as in :class:`_Pass`.

        ``clean``: whether it makes clean latents, which are shown to those who watch.
        """
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
                found = work(part)
            if self.watch is not None:
                self.watch(tile, found.detach() if clean else None)
            return found

        one = _Pass(at, tiles, rows, columns, (units[0], units[1]))
        if values.requires_grad and torch.is_grad_enabled():
            return _Blend.apply(values, one)  # type: ignore[return-value]
        with torch.no_grad():
            return one.forward(values, wanted=False)

    def denoise(self, z: Tensor, sigma: float) -> Tensor:
        """Posterior mean of the data given ``z`` at σ; differentiable."""
        return self._tiled(lambda part: self.inner.denoise(part, sigma), z, 1, 1, clean=True)

    def decode(self, z: Tensor) -> Tensor:
        """Images (N, 3, H, W) of the latents, not clamped; differentiable."""
        return self._tiled(self.inner.decode, z, 1, self.stride)

    def encode(self, x: Tensor, generators: Sequence[torch.Generator] | None = None) -> Tensor:
        """Latents of images (N, 3, H, W), drawn from the posterior with ``generators``, else its
        mean; differentiable. Raises ValueError if the stride does not divide a side.
        """
        self._check_sides(x)
        if max(x.shape[-2:]) <= self.tile * self.stride:
            return self.inner.encode(x, generators)
        if generators is None:
            return self._tiled(self.inner.encode, x, self.stride, 1)
        return draw_latents(*self.moments(x), generators)

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mean and standard deviation of the latents of images (N, 3, H, W), each blended.

        The standard deviation is None for a deterministic autoencoder. Differentiable. Raises
        ValueError if the stride does not divide a side.
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
                f"the image is {width}x{height} (width x height); expected both sides to be"
                f" multiples of {self.stride}: pad it first"
            )

    def within(self, tile: Tile) -> contextlib.AbstractContextManager[None]:
        """Context of ``inner`` for an image that is itself a ``tile`` of a larger one."""
        return self.inner.within(tile)

    def guidance(self, weight: float | None) -> contextlib.AbstractContextManager[None]:
        """Context of ``inner``."""
        return self.inner.guidance(weight)

    @property
    def memory_mode(self) -> str:
        """Current mode of the decoder's gradient."""
        return self.inner.memory_mode

    def save_memory(self) -> bool:
        """Switch to the mode that needs less memory; False if there is none."""
        return self.inner.save_memory()


def side_of(
    height: int, width: int, largest: float = math.inf, tile: int = 0, usual: int = SIDE
) -> int:
    """Side in pixels of the tiles of an image of ``height`` x ``width`` pixels; 0 for no tiling.

    largest: longest side in pixels that the model's positional embedding covers.
    tile: the requested side. 0 is automatic: no tiling up to an area of 1.5 ``usual``² if no side
        exceeds ``largest``; otherwise tiles of the smaller of ``usual`` and ``largest``.
    usual: side in pixels of the model's training images.

    Raises ValueError for an image above 4096 pixels a side, and for a tile below 64 or above
    ``largest``.
    """
    if max(height, width) > LARGEST:
        raise ValueError(
            f"the image is {width}x{height} pixels (width x height); expected at most {LARGEST} a"
            " side: choose a smaller size"
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
    """Side in cells of a tile of ``side`` pixels, rounded down to an even number for patches of 2
    x 2 cells."""
    return max(2, side // stride // 2 * 2)


def tile_side(prior: FlowPrior, height: int, width: int, tile: int = 0) -> int:
    """:func:`side_of` with ``prior.largest`` and ``prior.usual``."""
    return side_of(height, width, prior.largest, tile, prior.usual)


def tiled(prior: FlowPrior, height: int, width: int, tile: int = 0) -> FlowPrior:
    """``prior``, tiled if images of ``height`` x ``width`` pixels need it.

    ``tile``: side of the tiles in pixels, 0 for automatic; ValueError as from :func:`side_of`.
    """
    side = tile_side(prior, height, width, tile)
    return TiledPrior(prior, cells_of(side, prior.stride)) if side else prior
