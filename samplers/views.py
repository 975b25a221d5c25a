"""Views: an image flipped and shifted, so that an autoencoder errs differently in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class View:
    """An image moved by ``down`` and ``right`` pixels after flips; its size stays.

    What moves beyond the border is cut off, and reflected pixels come in on the other side.
    """

    upside_down: bool = False
    mirrored: bool = False
    down: int = 0
    right: int = 0

    @property
    def _axes(self) -> list[int]:
        return [-2] * self.upside_down + [-1] * self.mirrored

    def of(self, x: Tensor) -> Tensor:
        """The view of images x (N, C, H, W)."""
        x = x.flip(self._axes) if self._axes else x
        if not (self.down or self.right):
            return x
        height, width = x.shape[-2:]
        x = F.pad(x, (self.right, 0, self.down, 0), mode="reflect")
        return x[..., :height, :width]

    def back(self, x: Tensor) -> Tensor:
        """The images of which ``x`` is the view, 0 where it does not show them."""
        x = F.pad(x[..., self.down :, self.right :], (0, self.right, 0, self.down))
        return x.flip(self._axes) if self._axes else x


def views(count: int, stride: int) -> list[View]:
    """The first ``count`` of four views: as it is, and with flips and shifts of half a cell.

    ``stride``: pixels per latent cell. A model in pixels has no cells, and its views are flips.
    """
    half = stride // 2
    return [
        View(),
        View(mirrored=True, down=half, right=half),
        View(upside_down=True, down=half),
        View(upside_down=True, mirrored=True, right=half),
    ][:count]


def consensus(seen: Sequence[View], images: Sequence[Tensor]) -> Tensor:
    """The mean of the images that were seen in these views, of what each of them shows."""
    total = count = torch.zeros(())
    for view, x in zip(seen, images, strict=True):
        total = total + view.back(x)
        count = count + view.back(torch.ones_like(x[:1, :1]))
    return total / count
