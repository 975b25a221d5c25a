"""PNG files made readable for Pillow, whatever texts they carry."""

from __future__ import annotations

import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
TEXTS = (b"tEXt", b"zTXt", b"iTXt")
LONGEST = 2**20
"""Bytes of a text or a profile, decompressed; Pillow refuses files with longer ones."""
TOGETHER = 32 * 2**20
"""Bytes of all texts; Pillow refuses files with twice as many."""
PROFILE = 64 * 2**20
"""Bytes of a colour profile that is still read."""


def readable(content: bytes) -> tuple[bytes, bytes | None]:
    """A PNG file without the texts that are too long for Pillow, which are no reason to refuse the
    picture, and a colour profile that is; other files as they are.
    """
    if not content.startswith(SIGNATURE):
        return content, None
    view, at, total = memoryview(content), len(SIGNATURE), 0
    kept: list[memoryview] = [view[:at]]
    profile, profiles = None, 0
    while at + 8 <= len(content):
        length, kind = int.from_bytes(view[at : at + 4], "big"), bytes(view[at + 4 : at + 8])
        data, end = view[at + 8 : at + 8 + length], at + 12 + length
        keep = True
        if kind in TEXTS:
            # Nothing more is decompressed once there is too much.
            size = _size(kind, bytes(data)) if total < TOGETHER else LONGEST
            total += size
            keep = size < LONGEST and total < TOGETHER
        elif kind == b"iCCP" and profiles:
            keep = False  # A file has one profile.
        elif kind == b"iCCP":
            profiles += 1
            inflated = _inflated(bytes(data).partition(b"\0")[2][1:], PROFILE)
            if len(inflated) >= LONGEST:
                keep, profile = False, inflated if len(inflated) < PROFILE else None
        if keep:
            kept.append(view[at:end])
        at = end
    return (content if len(kept) < 2 else b"".join(kept)), profile


def _inflated(data: bytes, most: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, most)
    except zlib.error:
        return b""


def _size(kind: bytes, data: bytes) -> int:
    """Bytes of a text, decompressed, or ``LONGEST`` where there are more."""
    rest = data.partition(b"\0")[2]
    if kind == b"zTXt":
        return len(_inflated(rest[1:], LONGEST))
    if kind == b"iTXt" and rest[:1] == b"\1":
        return len(_inflated(rest[2:].split(b"\0", 2)[-1], LONGEST))
    return len(data)
