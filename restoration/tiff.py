"""TIFF files made readable for Pillow."""

from __future__ import annotations

from typing import Literal

PHOTOMETRIC = 262
"""The tag that says what 0 is: 0, white; 1, black."""


def black_is_zero(content: bytes) -> bytes | None:
    """A TIFF in which white is 0, as one in which black is, with the same numbers; None for others.

    Pillow reads many kinds of pixels only of the latter.
    """
    orders: dict[bytes, Literal["little", "big"]] = {b"II*\0": "little", b"MM\0*": "big"}
    order = orders.get(content[:4])
    if order is None:
        return None

    def number(at: int, size: int) -> int:
        return int.from_bytes(content[at : at + size], order)

    table = number(4, 4)
    for k in range(number(table, 2)):
        at = table + 2 + 12 * k
        if number(at, 2) == PHOTOMETRIC:
            one = (1).to_bytes(2, order)
            zero = number(at + 2, 2) == 3 and at + 10 <= len(content) and number(at + 8, 2) == 0
            return content[: at + 8] + one + content[at + 10 :] if zero else None
        if at > len(content):
            return None
    return None
