"""Sizes in a LAZ file, checked before lazrs takes memory for what they promise.

The package ends the process where there is not enough of it. After the header come a number that
says where the table of chunks is, the chunks, and the table. Where points have format 6 or later, a
chunk begins with its first point as it is and a number, and with one size for each of its layers.

Source: LAZ specification 1.4 R1, "Chunk table" and "LASzip VLR".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pcdistill.scenes.formats.extras import import_extra

_USER = b"laszip encoded"
_RECORD_ID = 22204
_LAYERS = {10: 9, 11: 1, 12: 2, 13: 1}
"""Layers of an item of a point by its type; bytes that a writer added have one each (type 14)."""
_BYTES_14 = 14
_USUAL_CHUNK = 1 << 20  # points; most writers take 50,000, whatever the file has
_MAX_VLR = 1 << 12  # bytes of the description of a point


class _Point(NamedTuple):
    """What the record of LASzip says of a point."""

    record: bytes
    """As it is in the file."""
    size: int
    """Bytes of a point as it is."""
    layers: int
    """In each chunk; 0 where points are not kept in layers."""


def require_sound_chunks(file: Path, start: int, size: int, points: int) -> None:
    """Check that all chunks and layers of a LAZ file are as large as the file has bytes for them.

    Args:
        file: .laz.
        start: where its points begin.
        size: bytes of the file.
        points: of the file.

    Raises:
        ValueError: they are not; the text says which.
        OSError: the file cannot be read.
        MissingExtraError: lazrs is not installed.
    """
    lazrs = import_extra(file, "lazrs", "las", "convert the file to .las")
    with file.open("rb") as stream:
        point = _read_point(stream)
        place = _table_place(stream, start, size)
        stream.seek(place)
        number = int.from_bytes(stream.read(8)[4:], "little")
        if number > (place - start - 8) // point.size + 1:
            raise ValueError(f"{number} chunks in {place - start - 8} bytes")
        stream.seek(start)
        table = lazrs.read_chunk_table(stream, lazrs.LazVlr(point.record))
        where = start + 8
        for count, length in table:
            if count > max(points, _USUAL_CHUNK):
                raise ValueError(f"a chunk of {count} points, the file has {points}")
            if length > place - where:
                raise ValueError(f"a chunk of {length} bytes, {place - where} are left")
            if point.layers:
                _require_layers(stream, where, length, point)
            where += length


@contextmanager
def panics_as_errors() -> Iterator[None]:
    """Turn what Rust calls a panic, which Python takes for no `Exception`, into a ValueError."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise ValueError(str(error)) from None


def _table_place(stream: BinaryIO, start: int, size: int) -> int:
    """Where the table of chunks is."""
    stream.seek(start)
    place = int.from_bytes(stream.read(8), "little", signed=True)
    if place == -1:  # the file was written without going back: it says so at its end
        stream.seek(max(size - 8, 0))
        place = int.from_bytes(stream.read(8), "little", signed=True)
    if not start + 8 <= place <= size - 8:
        raise ValueError(f"the table of chunks at byte {place} of {size}")
    return place


def _require_layers(stream: BinaryIO, where: int, length: int, point: _Point) -> None:
    sizes = 4 * point.layers
    stream.seek(where + point.size + 4)
    content = stream.read(sizes)
    layers = sum(struct.unpack(f"<{len(content) // 4}I", content[: len(content) // 4 * 4]))
    if length and point.size + 4 + sizes + layers > length:
        raise ValueError(f"layers of {layers} bytes in a chunk of {length}")


def _read_point(stream: BinaryIO) -> _Point:
    """The record of LASzip among those before the points."""
    head = stream.read(375)
    stream.seek(int.from_bytes(head[94:96], "little"))
    for _ in range(int.from_bytes(head[100:104], "little")):
        record = stream.read(54)
        if len(record) < 54:
            break
        user, key, length = struct.unpack("<2x16sHH32x", record)
        if user.rstrip(b"\0") != _USER or key != _RECORD_ID:
            stream.seek(length, 1)
            continue
        content = stream.read(min(length, _MAX_VLR))
        if len(content) < 34:
            break
        chunk = int.from_bytes(content[12:16], "little")
        items = content[34 : 34 + 6 * int.from_bytes(content[32:34], "little")]
        known = list(struct.iter_unpack("<HHH", items[: len(items) // 6 * 6]))
        layers = sum(of if kind == _BYTES_14 else _LAYERS.get(kind, 0) for kind, of, _ in known)
        size = sum(of for _, of, _ in known)
        if not chunk or size != int.from_bytes(head[105:107], "little"):
            raise ValueError(f"chunks of {chunk} points of {size} bytes")
        return _Point(content, size, layers)
    raise ValueError("no record of LASzip")
