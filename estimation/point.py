"""The kernel of a blur, read off the blurred picture of a point of light."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..operators import Kernel, Recipe
from .checks import check_photo

SATURATED = 1 - 2.5 / 127.5
"""Pixels from this value on may have been clipped at white."""
ABOVE = 3.0
"""Smallest height of a tap above the background, in standard deviations of the background."""


@dataclass(frozen=True)
class PointLight:
    """``kernel`` (size, size), float64, sum 1, its centre of mass at the middle pixel.

    ``saturated`` is the fraction of the light's area that was clipped at white, where the kernel is
    too flat. ``centre`` is (row, column) in the photo.
    """

    recipe: Recipe
    kernel: Tensor
    saturated: float
    centre: tuple[int, int]

    def __str__(self) -> str:
        row, column = self.centre
        cut = ""
        if self.saturated:
            cut = (
                f"; {100 * self.saturated:.0f} % of it is cut off at white, so that the kernel is"
                " too flat: choose a fainter light"
            )
        return f"point light at row {row}, column {column}{cut}"


@torch.no_grad()
def kernel_from_point(x: Tensor, mask: Tensor, size: int = 31) -> PointLight:
    """The blur of a photo x (1, C, H, W) in [-1, 1] from a point of light in it.

    ``mask`` (H, W) is above 0.5 on the light's whole blurred image and little else. The background
    (median of what surrounds the mask, per channel) is subtracted, what does not stand out of it is
    left out, and the rest is centred and normalised. ValueError for a mask that is empty, of
    another size or too large for a kernel of ``size`` (odd), and for a light that is not brighter
    than what surrounds it.
    """
    check_photo(x, 1)
    if mask.shape != x.shape[2:]:
        extent = "x".join(map(str, reversed(mask.shape)))
        raise ValueError(
            f"the mask is {extent} pixels and the photo {x.shape[3]}x{x.shape[2]} (width x height);"
            " expected the same size: paint the mask on this photo"
        )
    if size < 3 or size % 2 == 0:
        raise ValueError(f"the kernel size is {size}; expected an odd number of at least 3")
    here = mask.detach().cpu() > 0.5
    if not bool(here.any()):
        raise ValueError("the mask is empty; expected it to cover the point light")
    rows, columns = here.any(1).nonzero()[:, 0], here.any(0).nonzero()[:, 0]
    top, bottom, left, right = (int(i) for i in (rows[0], rows[-1], columns[0], columns[-1]))
    if max(bottom - top, right - left) >= size:
        raise ValueError(
            f"the mask is {right - left + 1}x{bottom - top + 1} pixels; expected it to fit into a"
            f" kernel of {size}x{size}: choose a larger one, or mark the light alone"
        )
    photo = x.detach().cpu().double()[0]
    around = F.max_pool2d(here[None, None].double(), 9, 1, 4)[0, 0].bool() & ~here
    if int(around.sum()) < 8:
        raise ValueError("the mask leaves nothing around the light; expected background there")
    beside = photo[:, around]
    level = beside.median(1).values
    spread = 1.4826 * (beside - level[:, None]).abs().median(1).values
    light = (photo - level[:, None, None]).mean(0) * here
    light = torch.where(light > ABOVE * float(spread.mean()) / len(photo) ** 0.5, light, 0.0)
    total = float(light.sum())
    if not total > 0 or float(light.max()) < 0.02:
        raise ValueError(
            "the light under the mask is no brighter than what surrounds it; expected a bright"
            " point"
        )
    row, column = (
        round(float((light.sum(axis) * torch.arange(n)).sum()) / total)
        for axis, n in ((1, len(light)), (0, light.shape[1]))
    )
    reach = size // 2
    kernel = F.pad(light, (reach, reach, reach, reach))[row : row + size, column : column + size]
    kernel = kernel / kernel.sum()
    lit = light > 0
    cut = float(((photo >= SATURATED).any(0) & lit).sum() / lit.sum())
    return PointLight(Kernel.from_tensor(kernel), kernel, cut, (row, column))
