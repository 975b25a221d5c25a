"""The error of operators that round, as stationary noise."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from .linear.linear_operator import LinearOperator
from .linear.transforms import Cosine


@dataclasses.dataclass(frozen=True)
class RoundingError:
    """What rounding adds to a measurement, taken as stationary Gaussian noise.

    density: variance per value of every frequency of ``Cosine``, (C, H, W // 2 + 1, 2), in the
        colours below.
    colours: (C, C), what makes them of the measurement's, such as YCbCr of RGB; None: they are the
        same.
    inner: the linear operator whose result is rounded; None: the image itself is.
    """

    density: Tensor
    colours: Tensor | None = None
    inner: LinearOperator | None = None

    def after(self, inner: LinearOperator) -> RoundingError:
        """That of an operator that applies ``inner`` first."""
        return dataclasses.replace(self, inner=self.inner @ inner if self.inner else inner)

    @property
    def level(self) -> float:
        """Root mean square of the error, in the first of the colours."""
        return float(self.density[0].mean().sqrt())

    def scaled(self, x: Tensor, factor: Tensor) -> Tensor:
        """Images x (N, C, H, W) whose frequencies, in the colours, are multiplied by ``factor``.

        factor: as in ``filtered``.
        """
        there, back = self._ways(x)
        return _coloured(_filtered(_coloured(x, there), factor), back)

    def covariance(self, x: Tensor, density: Tensor, *, alike: bool = True) -> Tensor:
        """x times the covariance of images with the spectral ``density`` in the colours; in their
        own, if they are not ``alike`` the measurement."""
        back = self._ways(x)[1] if alike else None
        turned = None if back is None else back.mT
        return _coloured(_filtered(_coloured(x, turned), density), back)

    def precision(self, x: Tensor, density: Tensor) -> Tensor:
        """x times the inverse of that covariance."""
        there, _ = self._ways(x)
        turned = None if there is None else there.mT
        return _coloured(_filtered(_coloured(x, there), 1 / density), turned)

    def _ways(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        if self.colours is None:
            return None, None
        return self.colours.to(x), torch.linalg.inv(self.colours.double()).to(x)


def _coloured(x: Tensor, matrix: Tensor | None) -> Tensor:
    return x if matrix is None else torch.einsum("ij,njhw->nihw", matrix, x)


def _filtered(x: Tensor, factor: Tensor) -> Tensor:
    """Images x (N, C, H, W) whose frequencies are multiplied by ``factor``: of every coefficient of
    ``Cosine``, ([N,] C or 1, H, W // 2 + 1, 2)."""
    cosine = Cosine(x.shape[2], x.shape[3], x.device, x.dtype)
    factor = factor.to(x).expand(*factor.shape[:-4], x.shape[1], *factor.shape[-3:])
    planes = [
        cosine.back(cosine.there(x[:, c]).mul_(factor[..., c, :, :, :])) for c in range(x.shape[1])
    ]
    return torch.stack(planes, 1)
