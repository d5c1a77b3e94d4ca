"""Depth channels of OpenEXR images."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pcdistill.errors import SceneError
from pcdistill.scenes.images import LARGEST_IMAGE

_MAGIC = 20000630
_LARGEST_HEADER = 1 << 20
_LARGEST_FILE = 256 << 20
_LARGEST_BLOCK = 64 << 20  # bytes of at most 16 lines
_COMPRESSIONS = ("none", "RLE", "ZIPS", "ZIP", "PIZ", "PXR24", "B44", "B44A", "DWAA", "DWAB")
_LINES = {"none": 1, "RLE": 1, "ZIPS": 1, "ZIP": 16}
_TYPES = ("<u4", "<f2", "<f4")
_DEPTH_CHANNELS = ("Z", "Y", "R", "depth", "V")


@dataclass(frozen=True)
class _Header:
    size: tuple[int, int]  # (H, W)
    top: int
    compression: str
    channels: tuple[tuple[str, np.dtype], ...]
    end: int


def exr_size(path: Path) -> tuple[int, int]:
    """(H, W) as the header declares it.

    Raises:
        SceneError: the file is missing, damaged, or of a kind that is not read.
    """
    return _read_header(path, _bytes(path, _LARGEST_HEADER)).size


def read_exr_depth(path: Path) -> Tensor:
    """The depth channel (`Z`, else `Y` or `R`) of a scanline OpenEXR image.

    Args:
        path: one part, scanlines, without compression or with RLE, ZIPS or ZIP.

    Returns:
        (H, W) float32 as stored; 0 for what is not finite or negative.

    Raises:
        SceneError: the file is missing, damaged, or of a kind that is not read.

    Source: OpenEXR, "OpenEXR File Layout" and its ZIP and RLE compressors.
    """
    content = _bytes(path, _LARGEST_FILE)
    header = _read_header(path, content)
    height, width = header.size
    row_bytes = sum(kind.itemsize for _, kind in header.channels) * width
    lines = _LINES[header.compression]
    if min(lines, height) * row_bytes > _LARGEST_BLOCK:
        raise _damaged(path, f"declares lines of {row_bytes} bytes")
    blocks = -(-height // lines)
    if header.end + 8 * blocks > len(content):
        raise _damaged(path, f"ends within its table of {blocks} blocks")
    name = _depth_channel(header)
    depth = np.zeros((height, width), dtype=np.float32)
    seen = np.zeros(height, dtype=bool)
    for (offset,) in struct.iter_unpack("<Q", content[header.end : header.end + 8 * blocks]):
        if offset + 8 > len(content):
            raise _damaged(path, f"has a block at byte {offset} of {len(content)}")
        line, size = struct.unpack_from("<ii", content, offset)
        first = line - header.top
        if not 0 <= first < height or not 0 <= size <= len(content) - offset - 8:
            raise _damaged(path, f"has a block of {size} bytes for line {line}")
        count = min(lines, height - first)
        data = content[offset + 8 : offset + 8 + size]
        rows = np.frombuffer(
            _expand(path, data, count * row_bytes, header.compression), dtype=np.uint8
        ).reshape(count, row_bytes)
        start = 0
        for channel, kind in header.channels:
            part = rows[:, start : start + width * kind.itemsize]
            start += width * kind.itemsize
            if channel == name:
                with np.errstate(over="ignore"):
                    depth[first : first + count] = np.ascontiguousarray(part).view(kind)
        seen[first : first + count] = True
    if not seen.all():
        raise _damaged(path, f"lacks {int((~seen).sum())} of its {height} lines")
    depth[~(np.isfinite(depth) & (depth > 0))] = 0
    return torch.from_numpy(depth)


def _bytes(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(most)
    except OSError as error:
        raise SceneError(
            f"{path}: cannot be read ({error.strerror or error}); restore it or drop its frame"
        ) from error


def _damaged(path: Path, found: str) -> SceneError:
    return SceneError(
        f"{path}: {found}, expected an OpenEXR image; it is damaged, export it again or drop its "
        "frame"
    )


def _read_header(path: Path, content: bytes) -> _Header:
    if len(content) < 8 or struct.unpack_from("<I", content)[0] != _MAGIC:
        raise _damaged(path, "does not begin like an OpenEXR image")
    version = struct.unpack_from("<I", content, 4)[0]
    if version & 0x1A00:
        raise SceneError(
            f"{path}: is a tiled, deep or multi-part OpenEXR image, expected one part of scan "
            "lines; export depth as 16-bit PNG or .npy"
        )
    attributes: dict[str, bytes] = {}
    place = 8
    while True:
        name, place = _word(path, content, place)
        if not name:
            break
        _, place = _word(path, content, place)
        if place + 4 > len(content):
            raise _damaged(path, "ends within its header")
        (size,) = struct.unpack_from("<i", content, place)
        place += 4
        if not 0 <= size <= min(len(content) - place, _LARGEST_HEADER):
            raise _damaged(path, f"has an attribute '{name[:40]}' of {size} bytes")
        attributes[name] = content[place : place + size]
        place += size
    window = attributes.get("dataWindow", b"")
    packing = attributes.get("compression", b"")
    if len(window) != 16 or len(packing) != 1 or packing[0] >= len(_COMPRESSIONS):
        raise _damaged(path, "has no dataWindow and compression in its header")
    left, top, right, bottom = struct.unpack("<4i", window)
    height, width = bottom - top + 1, right - left + 1
    if height < 1 or width < 1 or height * width > LARGEST_IMAGE:
        raise _damaged(path, f"declares {width} x {height} pixels")
    compression = _COMPRESSIONS[packing[0]]
    if compression not in _LINES:
        raise SceneError(
            f"{path}: is compressed with {compression}, expected {', '.join(_LINES)}; export depth "
            "as 16-bit PNG or .npy, or convert it (`oiiotool IN --compression zip -o OUT`)"
        )
    return _Header((height, width), top, compression, _channels(path, attributes), place)


def _word(path: Path, content: bytes, place: int) -> tuple[str, int]:
    end = content.find(b"\0", place, place + 256)
    if end < 0:
        raise _damaged(path, "has a header without end")
    return content[place:end].decode("latin-1"), end + 1


def _channels(path: Path, attributes: dict[str, bytes]) -> tuple[tuple[str, np.dtype], ...]:
    table = attributes.get("channels", b"")
    channels: list[tuple[str, np.dtype]] = []
    place = 0
    while place < len(table) and table[place] != 0:
        name, place = _word(path, table, place)
        if place + 16 > len(table):
            raise _damaged(path, "has a broken list of channels")
        kind, _, across, down = struct.unpack_from("<iIii", table, place)
        place += 16
        if not 0 <= kind < len(_TYPES) or across != 1 or down != 1 or len(channels) >= 32:
            raise _damaged(path, f"has a channel '{name[:40]}' of unknown kind")
        channels.append((name, np.dtype(_TYPES[kind])))
    if not channels:
        raise _damaged(path, "has no channel")
    return tuple(channels)


def _depth_channel(header: _Header) -> str:
    names = [name for name, _ in header.channels]
    for wanted in _DEPTH_CHANNELS:
        for name in names:
            if name == wanted or name.endswith(f".{wanted}"):
                return name
    return names[0]


def _expand(path: Path, data: bytes, size: int, compression: str) -> bytes:
    if len(data) == size:  # stored as it is where compression would not help
        return data
    if compression == "none":
        raise _damaged(path, f"has a block of {len(data)} bytes, not {size}")
    try:
        if compression == "RLE":
            plain = _run_lengths(data, size)
        else:
            plain = zlib.decompressobj().decompress(data, size + 1)
    except zlib.error as error:
        raise _damaged(path, f"has a block that cannot be expanded ({error})") from error
    if len(plain) != size:
        raise _damaged(path, f"has a block that expands to {len(plain)} bytes, not {size}")
    steps = np.frombuffer(plain, dtype=np.uint8).copy()
    steps[1:] -= 128
    values = np.cumsum(steps, dtype=np.uint8)  # each byte is the step from the last, modulo 256
    half = (size + 1) // 2
    woven = np.empty(size, dtype=np.uint8)
    woven[0::2], woven[1::2] = values[:half], values[half:]
    return woven.tobytes()


def _run_lengths(data: bytes, size: int) -> bytes:
    plain = bytearray()
    place = 0
    while place + 1 < len(data) and len(plain) <= size:
        count = data[place] - 256 if data[place] > 127 else data[place]
        if count < 0:
            plain += data[place + 1 : place + 1 - count]
            place += 1 - count
        else:
            plain += data[place + 1 : place + 2] * (count + 1)
            place += 2
    return bytes(plain)
