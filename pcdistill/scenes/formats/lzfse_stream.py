"""Decompression of LZFSE streams, whose declared size is checked before they are expanded."""

from __future__ import annotations

import struct
from pathlib import Path

from pcdistill.errors import SceneError
from pcdistill.scenes.formats.extras import import_extra

_END = b"bvx$"
_TWENTY_BITS = (1 << 20) - 1


def is_lzfse(content: bytes) -> bool:
    """Whether bytes begin like an LZFSE stream."""
    return content.startswith(b"bvx")


def lzfse_size(file: Path, content: bytes) -> int:
    """Bytes that a stream expands to, as its blocks declare it.

    Raises:
        SceneError: a block is of an unknown kind or ends behind the stream.

    Source: the format as described in lzfse_internal.h of Apple's reference implementation.
    """
    place = declared = 0
    while content[place : place + 4] != _END:
        try:
            block, expanded = _block(content, place)
        except struct.error as error:
            raise _damaged(file, f"ends within a block at byte {place}") from error
        if block < 8 or expanded < 1 or place + block > len(content):
            raise _damaged(file, f"has a block of {block} bytes at byte {place}")
        place += block
        declared += expanded
    return declared


def expand_lzfse(file: Path, content: bytes) -> bytes:
    """Expand a stream whose declared size was found to be what is wanted.

    Raises:
        SceneError: it is damaged.
        MissingExtraError: there is no package that expands it.
    """
    package = import_extra(file, "lzfse", "record3d", "export 'EXR + RGB images' in the app")
    try:
        return bytes(package.decompress(content))
    except Exception as error:  # the package raises its own kind
        raise _damaged(file, f"cannot be expanded ({str(error)[:60] or 'broken'})") from error


def _block(content: bytes, place: int) -> tuple[int, int]:
    """Bytes of the block at a place, and bytes that it expands to; (0, 0) for unknown kinds."""
    kind = content[place : place + 4]
    (expanded,) = struct.unpack_from("<I", content, place + 4)
    if kind == b"bvx-":  # stored as it is
        return 8 + expanded, expanded
    if kind == b"bvxn":
        (packed,) = struct.unpack_from("<I", content, place + 8)
        return 12 + packed, expanded
    if kind == b"bvx2":
        first, second, third = struct.unpack_from("<3Q", content, place + 8)
        literals, matches = first >> 20 & _TWENTY_BITS, second >> 40 & _TWENTY_BITS
        return (third & 0xFFFFFFFF) + literals + matches, expanded
    return 0, 0


def _damaged(file: Path, found: str) -> SceneError:
    return SceneError(
        f"{file}: {found}, expected depth compressed with LZFSE; it is damaged, export the capture "
        "again"
    )
