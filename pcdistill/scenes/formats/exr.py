"""Depth channels of OpenEXR images."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pcdistill.errors import SceneError
from pcdistill.scenes.formats.extras import import_extra
from pcdistill.scenes.formats.images import MAX_IMAGE_PIXELS, drop_sentinels

_MAGIC = 20000630
_MAX_HEADER = 1 << 20
_MAX_FILE = 256 << 20
_MAX_BLOCK = 64 << 20  # bytes of at most 16 lines
_LINES = {"none": 1, "RLE": 1, "ZIPS": 1, "ZIP": 16}  # in a block
_PACKED_LINES = {
    "PIZ": 32,
    "PXR24": 16,
    "B44": 32,
    "B44A": 32,
    "DWAA": 32,
    "DWAB": 256,
    "HTJ2K256": 256,
    "HTJ2K32": 32,
}
_COMPRESSIONS = (*_LINES, *_PACKED_LINES)  # by their numbers in the file
_TYPES = ("<u4", "<f2", "<f4")
_DEPTH_CHANNELS = ("Z", "Y", "R", "depth", "V")


_Depth = npt.NDArray[np.float32]


class _Block(NamedTuple):
    first: int
    """Its first line, from 0."""
    lines: int
    start: int
    """Byte at which its data begins."""
    size: int


@dataclass(frozen=True)
class _Header:
    size: tuple[int, int]  # (H, W)
    top: int
    compression: str
    channels: tuple[tuple[str, np.dtype], ...]
    end: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one line of all channels."""
        return sum(kind.itemsize for _, kind in self.channels) * self.size[1]


def read_exr_size(path: Path) -> tuple[int, int]:
    """(H, W) as the header declares it.

    Raises:
        SceneError: the file is missing, damaged, or of a kind that is not read.
    """
    return _read_header(path, _bytes(path, _MAX_HEADER)).size


def read_exr_depth(path: Path) -> Tensor:
    """The depth channel (`Z`, else `Y` or `R`) of a scanline OpenEXR image.

    Args:
        path: one part, scanlines; without compression or with RLE, ZIPS or ZIP, else (PIZ, PXR24,
            B44, DWAA ...) through the package OpenEXR.

    Returns:
        (H, W) float32 as stored; 0 for what `drop_sentinels` drops.

    Raises:
        SceneError: the file is missing, damaged, or of a kind that is not read.
        MissingExtraError: it needs the package OpenEXR, which is not installed.

    Source: OpenEXR, "OpenEXR File Layout" and its ZIP and RLE compressors.
    """
    content = _bytes(path, _MAX_FILE)
    header = _read_header(path, content)
    blocks = _blocks(path, content, header)
    if header.compression in _LINES:
        depth = _own_depth(path, content, header, blocks)
    else:
        depth = _depth_through_package(path, header)
    return torch.from_numpy(drop_sentinels(depth))


def _blocks(path: Path, content: bytes, header: _Header) -> list[_Block]:
    """Where the blocks of lines lie; refuse an image that lacks some or is too large."""
    height = header.size[0]
    lines = _LINES.get(header.compression) or _PACKED_LINES[header.compression]
    if min(lines, height) * header.row_bytes > _MAX_BLOCK:
        raise _damaged(path, f"declares lines of {header.row_bytes} bytes")
    count = -(-height // lines)
    if header.end + 8 * count > len(content):
        raise _damaged(path, f"ends within its table of {count} blocks")
    seen = np.zeros(height, dtype=bool)
    blocks = []
    for (offset,) in struct.iter_unpack("<Q", content[header.end : header.end + 8 * count]):
        if offset + 8 > len(content):
            raise _damaged(path, f"has a block at byte {offset} of {len(content)}")
        line, size = struct.unpack_from("<ii", content, offset)
        first = line - header.top
        if not 0 <= first < height or not 0 <= size <= len(content) - offset - 8:
            raise _damaged(path, f"has a block of {size} bytes for line {line}")
        block = _Block(first, min(lines, height - first), offset + 8, size)
        seen[first : first + block.lines] = True
        blocks.append(block)
    if not seen.all():
        raise _damaged(path, f"lacks {int((~seen).sum())} of its {height} lines")
    return blocks


def _own_depth(path: Path, content: bytes, header: _Header, blocks: list[_Block]) -> _Depth:
    name = _depth_channel(header)
    width = header.size[1]
    depth = np.zeros(header.size, dtype=np.float32)
    for block in blocks:
        data = content[block.start : block.start + block.size]
        plain = _expand(path, data, block.lines * header.row_bytes, header.compression)
        rows = np.frombuffer(plain, dtype=np.uint8).reshape(block.lines, header.row_bytes)
        start = 0
        for channel, kind in header.channels:
            part = rows[:, start : start + width * kind.itemsize]
            start += width * kind.itemsize
            if channel == name:
                with np.errstate(over="ignore"):
                    values = np.ascontiguousarray(part).view(kind)
                    depth[block.first : block.first + block.lines] = values
    return depth


def _depth_through_package(path: Path, header: _Header) -> _Depth:
    package = import_extra(
        path, "OpenEXR", "exr", "export depth as 16-bit PNG, .npy or EXR with ZIP compression"
    )
    name = _depth_channel(header)
    try:
        image = package.InputFile(str(path))  # of its two interfaces the one that reads a channel
        try:
            content = bytes(image.channel(name))
        finally:
            image.close()
        pixels = np.frombuffer(content, dtype=dict(header.channels)[name]).reshape(header.size)
    except Exception as error:  # the package raises its own kinds on damaged files
        reason = str(error).split("\n")[0][:80] or type(error).__name__
        raise _damaged(path, f"has blocks that OpenEXR cannot expand ({reason})") from error
    with np.errstate(over="ignore"):
        return pixels.astype(np.float32)


def _bytes(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(limit)
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
        if not 0 <= size <= min(len(content) - place, _MAX_HEADER):
            raise _damaged(path, f"has an attribute '{name[:40]}' of {size} bytes")
        attributes[name] = content[place : place + size]
        place += size
    window = attributes.get("dataWindow", b"")
    packing = attributes.get("compression", b"")
    if len(window) != 16 or len(packing) != 1:
        raise _damaged(path, "has no dataWindow and compression in its header")
    if packing[0] >= len(_COMPRESSIONS):
        raise SceneError(
            f"{path}: is compressed in an unknown way (number {packing[0]}), expected one of "
            f"{', '.join(_COMPRESSIONS)}; convert it (`oiiotool IN --compression zip -o OUT`)"
        )
    left, top, right, bottom = struct.unpack("<4i", window)
    height, width = bottom - top + 1, right - left + 1
    if height < 1 or width < 1 or height * width > MAX_IMAGE_PIXELS:
        raise _damaged(path, f"declares {width} x {height} pixels")
    channels = _channels(path, attributes)
    return _Header((height, width), top, _COMPRESSIONS[packing[0]], channels, place)


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
