"""Reader of PCD point clouds (Point Cloud Library)."""

from __future__ import annotations

import itertools
import logging
import os
import struct
import warnings
from codecs import BOM_UTF8
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import torch

from pcdistill.errors import SceneError
from pcdistill.jit import njit
from pcdistill.scenes.formats.color_depth import color_bytes
from pcdistill.scenes.formats.ply import Ply
from pcdistill.scenes.origin import near_origin

_LOG = logging.getLogger(__name__)

_NORMALS = (("normal_x", "normal_y", "normal_z"), ("nx", "ny", "nz"))
_COLORS = (("r", "g", "b"), ("red", "green", "blue"))
_COLOR_HINTS = ("rgb", "rgba", "r", "g", "b", "red", "green", "blue", "color", "colour", "colors")
_MAX_HEADER_LINE = 4096
_MAX_HEADER_LINES = 100
_MAX_EXPANSION = 90  # bytes that one byte of LZF can become, rounded up
_TYPES = {
    ("F", 4): "<f4",
    ("F", 8): "<f8",
    ("I", 1): "<i1",
    ("I", 2): "<i2",
    ("I", 4): "<i4",
    ("I", 8): "<i8",
    ("U", 1): "<u1",
    ("U", 2): "<u2",
    ("U", 4): "<u4",
    ("U", 8): "<u8",
}
_ENCODINGS = ("ascii", "binary", "binary_compressed")
_Bytes = npt.NDArray[np.uint8]
_Columns = dict[str, npt.NDArray[np.generic]]


@dataclass(frozen=True)
class PcdCloud:
    """What a PCD file holds of a cloud."""

    points: npt.NDArray[np.float64]
    """(N, 3); NaN where an organised cloud has no reading."""
    colors: npt.NDArray[np.uint8] | None
    """(N, 3), red green blue."""
    normals: npt.NDArray[np.float32] | None
    """(N, 3), as the file has them."""


@dataclass(frozen=True)
class _Field:
    name: str
    kind: np.dtype
    count: int

    @property
    def row_bytes(self) -> int:
        return self.kind.itemsize * self.count

    @property
    def is_used(self) -> bool:
        """Whether it is more than padding or a descriptor."""
        return self.name != "_" and (self.count == 1 or self.is_rgb)

    @property
    def is_rgb(self) -> bool:
        return self.name in ("rgb", "rgba") and self.count in (1, 3, 4)

    @property
    def is_packed(self) -> bool:
        """Whether it holds the three channels in one number."""
        return self.is_rgb and self.count == 1


@dataclass(frozen=True)
class _Header:
    fields: tuple[_Field, ...]
    points: int
    encoding: str
    viewpoint: tuple[float, ...] | None
    """Place and quaternion (w first) of the sensor, where the header has seven numbers."""

    @property
    def row_bytes(self) -> int:
        return sum(field.row_bytes for field in self.fields)


def read_pcd(path: Path) -> PcdCloud:
    """Points, colours and normals of a PCD file.

    Args:
        path: version 0.7 or older; ascii, binary or binary_compressed. Colours are `rgb` or `rgba`
            (four bytes in an integer or, as is common, a float; or three or four numbers), or
            fields `r g b` or `red green blue` of any depth. The viewpoint is not applied.

    Raises:
        SceneError: the file is missing, damaged, or has no points with x, y and z.

    Source: Point Cloud Library, "The PCD (Point Cloud Data) file format"; LZF by M. Lehmann.
    """
    try:
        with path.open("rb") as stream:
            header = _read_header(path, stream)
            columns = _read_columns(path, stream, header)
    except OSError as error:
        raise SceneError(f"{path}: cannot be read ({error.strerror or error})") from error
    if not {"x", "y", "z"} <= columns.keys():
        raise SceneError(f"{path}: has no fields x, y and z, expected a cloud; write it again")
    points = np.stack([columns[name].astype(np.float64) for name in "xyz"], axis=1)
    normals = None
    names = next((names for names in _NORMALS if set(names) <= columns.keys()), None)
    if names is not None:
        with np.errstate(over="ignore"):
            normals = np.stack([columns[name].astype(np.float32) for name in names], axis=1)
    colors = _colors(path, columns)
    _say_what_is_ignored(path, header, colors is not None)
    return PcdCloud(points, colors, normals)


def _say_what_is_ignored(path: Path, header: _Header, has_colors: bool) -> None:
    names = [field.name for field in header.fields]
    hints = [name for name in names if name.lower() in _COLOR_HINTS]
    if hints and not has_colors:
        _LOG.warning(
            "%s: its fields %s are no colours that can be read (rgb, r g b or red green blue), "
            "taken as none",
            *(path, " ".join(hints)),
        )
    known = {"x", "y", "z", "_", *(name for kind in (*_NORMALS, *_COLORS) for name in kind)}
    others = [name for name in names if name not in known and name not in hints]
    if others:
        _LOG.info("%s: fields that are not used: %s", path, " ".join(others)[:200])
    if header.viewpoint not in (None, (0, 0, 0, 1, 0, 0, 0)):
        place = " ".join(f"{number:g}" for number in header.viewpoint)
        _LOG.warning(
            "%s: its VIEWPOINT is %s and not applied, points are taken as they are; if they are in "
            "the scanner's frame, transform them before",
            *(path, place),
        )


def to_ply(cloud: PcdCloud) -> Ply:
    """The cloud as what PLY files hold, less the offset it needs."""
    points, offset = near_origin(torch.from_numpy(cloud.points))
    return Ply(
        points,
        None if cloud.colors is None else torch.from_numpy(cloud.colors),
        None if cloud.normals is None else torch.from_numpy(cloud.normals),
        offset=offset,
    )


def _colors(path: Path, columns: _Columns) -> npt.NDArray[np.uint8] | None:
    for name in ("rgb", "rgba"):
        packed = columns.get(name)
        if packed is None:
            continue
        if packed.ndim == 2:  # a channel in each of several numbers
            channels = [packed[:, channel] for channel in range(3)]
            return color_bytes(path, channels, (name, name, name))
        if packed.dtype.itemsize == 8:
            packed = packed.astype(np.uint32)
        if packed.dtype.itemsize == 4:
            # ascii files may hold the number itself instead of the bits of a float
            bits = np.ascontiguousarray(packed).view("<u4")
            return np.stack([bits >> 16, bits >> 8, bits], axis=1).astype(np.uint8)
    for names in _COLORS:
        if set(names) <= columns.keys():
            return color_bytes(path, [columns[name] for name in names], names)
    return None


def _read_header(path: Path, stream: BinaryIO) -> _Header:
    found: dict[str, list[str]] = {}
    for _ in range(_MAX_HEADER_LINES):
        raw = stream.readline(_MAX_HEADER_LINE)
        line = raw.removeprefix(BOM_UTF8).decode("ascii", "replace")
        words = line.split()
        if not line:
            break
        if not words or words[0].startswith("#"):
            continue
        found[words[0].upper()] = words[1:]
        if words[0].upper() == "DATA":
            break
    if "DATA" not in found or "FIELDS" not in found or "SIZE" not in found:
        raise SceneError(
            f"{path}: has no header with FIELDS, SIZE and DATA, expected a PCD file; write it again"
        )
    names = found["FIELDS"]
    kinds = found.get("TYPE", ["F"] * len(names))
    counts = found.get("COUNT", ["1"] * len(names))
    sizes = found["SIZE"]
    encoding = found["DATA"][0].lower() if found["DATA"] else ""
    if not len(names) == len(kinds) == len(counts) == len(sizes) or encoding not in _ENCODINGS:
        raise SceneError(
            f"{path}: its header has {len(names)} fields, {len(sizes)} sizes, {len(kinds)} types, "
            f"{len(counts)} counts and '{encoding[:20]}' data, expected as many of each and one of "
            f"{', '.join(_ENCODINGS)}; write the file again"
        )
    fields = tuple(_field(path, *words) for words in zip(names, kinds, sizes, counts, strict=True))
    if "POINTS" in found:
        points = _count(path, "POINTS", found["POINTS"])
    else:
        points = _count(path, "WIDTH", found.get("WIDTH", []))
        points *= _count(path, "HEIGHT", found.get("HEIGHT", ["1"]))
    return _Header(fields, points, encoding, _viewpoint(found.get("VIEWPOINT", [])))


def _viewpoint(words: list[str]) -> tuple[float, ...] | None:
    try:
        numbers = tuple(float(word) for word in words)
    except ValueError:
        return None
    return numbers if len(numbers) == 7 else None


def _field(path: Path, name: str, kind: str, size: str, count: str) -> _Field:
    known = _TYPES.get((kind.upper(), _count(path, "SIZE", [size])))
    times = _count(path, "COUNT", [count])
    if known is None or not 1 <= times <= 4096:
        raise SceneError(
            f"{path}: its field '{name[:40]}' has type {kind[:10]}, size {size[:10]} and count "
            f"{count[:10]}, expected F, I or U of 1 to 8 bytes; write the file again"
        )
    return _Field(name, np.dtype(known), times)


def _count(path: Path, what: str, words: list[str]) -> int:
    if len(words) != 1 or not words[0].isascii() or not words[0].isdigit() or len(words[0]) > 12:
        raise SceneError(
            f"{path}: its header has {what} '{' '.join(words)[:40]}', expected a whole number; "
            "write the file again"
        )
    return int(words[0])


def _read_columns(path: Path, stream: BinaryIO, header: _Header) -> _Columns:
    remaining = os.fstat(stream.fileno()).st_size - stream.tell()
    if header.encoding == "ascii":
        return _read_ascii(path, stream, header, remaining)
    size = header.points * header.row_bytes
    if header.encoding == "binary":
        if size > remaining:
            raise _truncated(path, header, remaining)
        row = np.dtype(
            [(str(i), field.kind, (field.count,)) for i, field in enumerate(header.fields)]
        )
        rows = np.fromfile(stream, dtype=row, count=header.points)
        return {
            field.name: _column(rows[str(i)])
            for i, field in enumerate(header.fields)
            if field.is_used
        }
    packed, expanded = struct.unpack("<II", stream.read(8).ljust(8, b"\0"))
    if packed > remaining - 8 or expanded != size or size > max(packed, 1) * _MAX_EXPANSION:
        raise _truncated(path, header, remaining)
    content = np.frombuffer(stream.read(packed), dtype=np.uint8)
    plain = np.empty(size, dtype=np.uint8)
    if _expand_lzf(content, plain) != size:
        raise SceneError(
            f"{path}: its compressed content does not expand to the {size} bytes it declares; "
            "it is damaged, write the file again"
        )
    columns: _Columns = {}
    start = 0
    for field in header.fields:
        end = start + field.row_bytes * header.points
        if field.is_used:
            values = plain[start:end].view(field.kind).reshape(header.points, field.count)
            columns[field.name] = _column(values)
        start = end
    return columns


def _column(values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """(N,) of a field with one number, (N, C) of one with more."""
    return values[:, 0] if values.shape[1] == 1 else values


def _truncated(path: Path, header: _Header, remaining: int) -> SceneError:
    return SceneError(
        f"{path}: its header declares {header.points} points of {header.row_bytes} bytes, the "
        f"{remaining} bytes that follow do not hold them; the file is truncated or its header "
        "wrong, write it again"
    )


def _read_ascii(path: Path, stream: BinaryIO, header: _Header, remaining: int) -> _Columns:
    width = sum(field.count for field in header.fields)
    if header.points * max(2 * width - 1, 1) > remaining:
        raise _truncated(path, header, remaining)
    lines = (line.decode("ascii", "replace") for line in stream)
    content = list(itertools.islice((line for line in lines if line.strip()), header.points))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files without content, refused below
            table = np.loadtxt(content, dtype=np.float64, ndmin=2, comments=None)
    except ValueError as error:
        raise _bad_row(path, header) from error
    if header.points == 0:
        table = np.empty((0, width))
    if table.shape != (header.points, width):
        raise _bad_row(path, header)
    columns: _Columns = {}
    start = 0
    for field in header.fields:
        if field.is_used:
            numbers = table[:, start : start + field.count]
            columns[field.name] = _column(_cast(path, numbers, field))
        start += field.count
    return columns


def _cast(path: Path, values: npt.NDArray[np.float64], field: _Field) -> npt.NDArray[np.generic]:
    if field.is_packed:
        whole = (values >= 1) & (values <= 0xFFFFFFFF) & (values % 1 == 0)
        if bool((whole | (values == 0)).all()):  # the packed number itself
            return values.astype("<u4")
        if field.kind.kind == "f":
            with np.errstate(over="ignore"):
                return values.astype("<f4")
    if field.kind.kind == "f":
        with np.errstate(over="ignore"):
            return values.astype(field.kind)
    limits = np.iinfo(field.kind)
    if not ((values >= limits.min) & (values <= limits.max)).all():
        raise SceneError(
            f"{path}: '{field.name[:40]}' has a number that is no {field.kind.name}, as its header "
            "declares; write the file again"
        )
    return values.astype(field.kind)


def _bad_row(path: Path, header: _Header) -> SceneError:
    names = " ".join(field.name for field in header.fields)[:80]
    return SceneError(
        f"{path}: does not hold {header.points} lines of the numbers '{names}' its header "
        "declares; it is damaged or truncated, write it again"
    )


@njit()
def _expand_lzf(packed: _Bytes, plain: _Bytes) -> int:
    """Bytes written to `plain`; -1 where the content cannot be what LZF writes."""
    place = 0
    done = 0
    while place < packed.size:
        control = int(packed[place])
        place += 1
        if control < 32:  # a run of literal bytes
            count = control + 1
            if place + count > packed.size or done + count > plain.size:
                return -1
            for i in range(count):
                plain[done + i] = packed[place + i]
            place += count
            done += count
            continue
        count = control >> 5
        if count == 7:
            if place >= packed.size:
                return -1
            count += int(packed[place])
            place += 1
        if place >= packed.size:
            return -1
        source = done - ((control & 31) << 8) - int(packed[place]) - 1
        place += 1
        count += 2
        if source < 0 or done + count > plain.size:
            return -1
        for i in range(count):
            plain[done + i] = plain[source + i]
        done += count
    return done
