"""Pictures as files hold them, and upright: the eight orientations of EXIF data."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Turn:
    """What makes the picture in a file upright: rows and columns exchanged, then mirrored."""

    transposed: bool = False
    mirrored: tuple[int, ...] = ()


TURNS = {
    1: Turn(),
    2: Turn(mirrored=(3,)),
    3: Turn(mirrored=(2, 3)),
    4: Turn(mirrored=(2,)),
    5: Turn(transposed=True),
    6: Turn(transposed=True, mirrored=(3,)),
    7: Turn(transposed=True, mirrored=(2, 3)),
    8: Turn(transposed=True, mirrored=(2,)),
}
"""By the number of the EXIF tag 274; axes of (N, C, H, W)."""


def upright(x: Tensor, orientation: int) -> Tensor:
    """Pictures x (N, C, H, W), as files hold them, as they are shown."""
    turn = TURNS[orientation]
    return (x.mT if turn.transposed else x).flip(turn.mirrored)


def stored(x: Tensor, orientation: int) -> Tensor:
    """The inverse of ``upright``."""
    turn = TURNS[orientation]
    x = x.flip(turn.mirrored)
    return x.mT if turn.transposed else x
