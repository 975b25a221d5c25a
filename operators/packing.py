"""Compact text encoding of arrays, for recipes in JSON."""

from __future__ import annotations

import base64
import binascii
import zlib

import torch
from torch import Tensor


def pack(values: bytes) -> str:
    """``values`` compressed by zlib and encoded as base64."""
    return base64.b64encode(zlib.compress(values, 9)).decode("ascii")


def unpack(text: str, length: int, what: str) -> bytes:
    """Inverse of ``pack``; ValueError, naming ``what``, unless it yields ``length`` bytes."""
    try:
        # At most length + 1 bytes: enough to detect a wrong length, and safe from zip bombs.
        values = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), length + 1)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise ValueError(f"{what} cannot be unpacked ({error}); make it from a tensor") from error
    if len(values) != length:
        raise ValueError(f"{what} does not hold the {length} bytes that its size requires")
    return values


def pack_bits(flags: Tensor) -> str:
    """A bool tensor as text, eight values per byte."""
    flat = flags.flatten().to("cpu", torch.uint8)
    flat = torch.cat([flat, flat.new_zeros(-len(flat) % 8)]).view(-1, 8)
    weights = 2 ** torch.arange(7, -1, -1)
    return pack(bytes((flat.long() * weights).sum(1).tolist()))


def unpack_bits(text: str, count: int, what: str) -> Tensor:
    """Inverse of ``pack_bits``: a bool tensor (count,)."""
    values = torch.tensor(list(unpack(text, -(-count // 8), what)), dtype=torch.long)
    return (values[:, None] >> torch.arange(7, -1, -1) & 1).flatten()[:count].bool()


def pack_weights(weights: Tensor) -> tuple[str, int]:
    """Weights from 0 to 1 as text, and the bits of each: 1, or 8 where there are others than 0 and
    1, which are rounded to multiples of 1/255."""
    if bool(((weights == 0) | (weights == 1)).all()):
        return pack_bits(weights > 0), 1
    levels = (weights * 255).round().to(torch.uint8)
    return pack(levels.contiguous().numpy().tobytes()), 8


def unpack_weights(text: str, depth: int, count: int, what: str) -> Tensor:
    """Inverse of ``pack_weights``: a float64 tensor (count,). ValueError, naming ``what``, unless
    ``depth`` is 1 or 8 and there are so many."""
    if depth not in (1, 8):
        raise ValueError(f"{what}: {depth} bits a pixel; expected 1 or 8")
    if depth == 1:
        return unpack_bits(text, count, what).double()
    return torch.frombuffer(bytearray(unpack(text, count, what)), dtype=torch.uint8).double() / 255


def pack_floats(values: Tensor) -> str:
    """A tensor as text, in float32."""
    flat = values.detach().flatten().to("cpu", torch.float32).contiguous()
    return pack(flat.numpy().astype("<f4").tobytes())


def unpack_floats(text: str, count: int, what: str) -> Tensor:
    """Inverse of ``pack_floats``: a float64 tensor (count,)."""
    import struct

    values = struct.unpack(f"<{count}f", unpack(text, 4 * count, what))
    return torch.tensor(values, dtype=torch.float64)
