"""What every estimator needs of a photo."""

from __future__ import annotations

from torch import Tensor


def check_photos(x: Tensor, least: int, remedy: str = "give a larger photo") -> None:
    """ValueError unless x is (N, C, H, W), N at least 1, with both sides of at least ``least``."""
    if x.ndim != 4:
        raise ValueError(f"the photo has {x.ndim} axes; expected (N, C, H, W)")
    if not len(x):
        raise ValueError("there is no photo; expected at least one")
    height, width = x.shape[2:]
    if min(height, width) < least:
        raise ValueError(
            f"the photo is {width}x{height} pixels (width x height); expected at least {least} a"
            f" side: {remedy}"
        )


def check_photo(x: Tensor, least: int, remedy: str = "give a larger photo") -> None:
    """``check_photos`` of a single one, (1, C, H, W)."""
    check_photos(x, least, remedy)
    if len(x) > 1:
        raise ValueError(
            f"there are {len(x)} photos; expected one, since each has a damage of its own: take"
            " them one by one"
        )
