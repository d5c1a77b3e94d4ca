"""Reader of LAS and LAZ point clouds, chunk by chunk."""

from __future__ import annotations

import logging
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pcdistill.errors import MissingExtraError, SceneError
from pcdistill.scenes.formats.coordinate_systems import Units, units_of_geokeys, units_of_wkt
from pcdistill.scenes.formats.extras import import_extra
from pcdistill.scenes.formats.laz_chunks import panics_as_errors, require_sound_chunks
from pcdistill.scenes.formats.ply import Ply
from pcdistill.scenes.origin import find_offset, no_offset
from pcdistill.scenes.units import METRE

_LOG = logging.getLogger(__name__)

WITHHELD = "marked as withheld"
NOISE = "classified as noise"

_CHUNK = 1_000_000  # points that are decoded at once
_RECORD = 54  # bytes of the smallest record before the points
_COLORS = ("red", "green", "blue")
_MAX_DISTANCE = 1e30  # metres; float32 ends a little later
_NOISE_CLASSES = (7, 18)
_GEOKEYS, _GEODOUBLES, _WKT = 34735, 34736, 2112
_DEGREE_STEP = 1e-6  # or less: 10 cm on the ground
_MAX_RECORD = 1 << 20  # bytes of a coordinate system

_Grid = npt.NDArray[np.int32]
_Floats = npt.NDArray[np.float64]


def read_las(file: Path) -> Ply:
    """Read positions and colours; takes 12 bytes a point, 15 with colours, and one chunk.

    Points marked as withheld and those of the noise classes 7 and 18 are left out and counted.
    Synthetic, key and overlap points are kept: they lie on the surface. Units are those that the
    file's coordinate system states, metres without one.

    Args:
        file: .las or .laz.

    Returns:
        Points, less the offset they need, and colours where the file has them.

    Raises:
        SceneError: the file is missing or damaged, or holds less than its header declares.
        MissingExtraError: there is no package that reads it.
    """
    laspy = import_extra(file, "laspy", "las", "convert the file to .ply")
    declared = _declared_points(file)
    try:
        with panics_as_errors(), laspy.open(str(file), read_evlrs=False) as reader:
            count = int(reader.header.point_count)
            if count > declared:
                raise ValueError(f"{count} points, declared {declared}")
            grid, colors, left_out = _read_chunks(file, reader, count)
            scales = np.asarray(reader.header.scales, dtype=np.float64)
            origin = np.asarray(reader.header.offsets, dtype=np.float64)
    except SceneError:
        raise
    except Exception as error:  # the package raises its own kinds on damaged files
        raise _damaged(file, error) from error
    units = read_units(file)
    _refuse_degrees(file, scales, grid)
    length = np.array([units.horizontal, units.horizontal, units.vertical])
    points, offset = _in_metres(file, grid, scales * length, origin * length)
    return Ply(
        torch.from_numpy(points),
        None if colors is None else torch.from_numpy(colors),
        offset=offset,
        left_out=left_out,
        metres_per_unit=(units.horizontal, units.horizontal, units.vertical),
    )


def _read_chunks(
    file: Path, reader: Any, count: int
) -> tuple[_Grid, npt.NDArray[np.uint8] | None, dict[str, int]]:
    """(N, 3) int32, steps of the file's grid; (N, 3) uint8 colours or None; who was left out."""
    grid = np.empty((count, 3), dtype=np.int32)
    has_colors = set(_COLORS) <= set(reader.header.point_format.dimension_names)
    colors = np.empty((count, 3), dtype=np.uint8) if has_colors else None
    wide = False  # colours have 16 bits by the standard; some writers put 8 bits there
    start = read = 0
    counts = {WITHHELD: 0, NOISE: 0}
    for chunk in reader.chunk_iterator(_CHUNK):
        read += len(chunk)
        withheld = np.asarray(chunk["withheld"]).astype(np.bool_)
        noise = np.isin(np.asarray(chunk["classification"]), _NOISE_CLASSES) & ~withheld
        counts[WITHHELD] += int(withheld.sum())
        counts[NOISE] += int(noise.sum())
        kept = ~(withheld | noise)
        stop = start + int(kept.sum())
        for axis, name in enumerate("XYZ"):
            grid[start:stop, axis] = np.asarray(chunk[name])[kept]
        if colors is not None:
            channels = np.stack([np.asarray(chunk[name])[kept] for name in _COLORS], axis=1)
            if not wide and channels.max(initial=0) > 255:
                wide = True
                colors[:start] = 0  # what seemed to be 8 bits were the darkest of 16
            colors[start:stop] = channels >> 8 if wide else channels
        start = stop
    if read != count:
        raise SceneError(
            f"{file}: ends after {read} of the {count} points that its header declares; it is "
            "truncated or damaged, export it again"
        )
    left_out = {reason: number for reason, number in counts.items() if number}
    if left_out:
        said = ", ".join(f"{number} {reason}" for reason, number in left_out.items())
        _LOG.warning("%s: left out of %d points: %s", file, count, said)
    return grid[:start], None if colors is None else colors[:start], left_out


def read_units(file: Path) -> Units:
    """Metres per unit of a LAS file's coordinates, as its coordinate system states them.

    Raises:
        SceneError: the coordinates are angles, or in an unknown unit.
    """
    records = _projection_records(file)
    wkt = records.get(_WKT)
    found = None
    if wkt is not None:
        found = units_of_wkt(file, wkt.decode("utf-8", "replace"))
    elif _GEOKEYS in records:
        found = units_of_geokeys(file, records[_GEOKEYS], records.get(_GEODOUBLES, b""))
    if found is None:
        return Units(METRE, METRE)
    if found != (METRE, METRE):
        _LOG.warning(
            "%s: is in units of %.9g m (heights %.9g m), taken times these",
            *(file, found.horizontal, found.vertical),
        )
    return found


def _refuse_degrees(file: Path, scales: _Floats, grid: _Grid) -> None:
    """Refuse steps of a millionth beside heights in steps of a tenth of a millimetre or more."""
    if len(grid) and (scales[:2] <= _DEGREE_STEP).all() and scales[2] >= 100 * scales[0]:
        raise SceneError(
            f"{file}: its coordinates are in steps of {scales[0]:g} and {scales[2]:g} in height, "
            "such as those of longitude and latitude, expected metres; project it to metres"
        )


def _projection_records(file: Path) -> dict[int, bytes]:
    """Records of the coordinate system by number, before the points and (version 1.4) after."""
    found: dict[int, bytes] = {}
    with file.open("rb") as stream:
        head = stream.read(375).ljust(375, b"\0")
        lists = [(int.from_bytes(head[94:96], "little"), head[100:104], "<2x16sHH32x")]
        if head[24:26] >= b"\x01\x04":
            start = int.from_bytes(head[235:243], "little")
            lists.append((start, head[243:247], "<2x16sHQ32x"))
        for start, number, layout in lists:
            stream.seek(min(start, file.stat().st_size))
            for _ in range(int.from_bytes(number, "little")):
                record = stream.read(struct.calcsize(layout))
                if len(record) < struct.calcsize(layout):
                    break
                user, key, length = struct.unpack(layout, record)
                if user.rstrip(b"\0") == b"LASF_Projection" and length <= _MAX_RECORD:
                    found.setdefault(key, stream.read(length))
                else:
                    stream.seek(min(length, file.stat().st_size), os.SEEK_CUR)
    return found


def _in_metres(
    file: Path, grid: _Grid, scales: _Floats, origin: _Floats
) -> tuple[npt.NDArray[np.float32], Tensor]:
    """The grid's positions, moved to the origin where they are far from it, in the same memory."""
    points = grid.view(np.float32)
    offset = no_offset()
    if len(grid):
        with np.errstate(over="ignore", invalid="ignore"):
            corners = np.stack([grid.min(axis=0), grid.max(axis=0)]) * scales + origin
        if not (np.abs(corners) < _MAX_DISTANCE).all():
            raise SceneError(
                f"{file}: its header places points at {corners.tolist()} m, expected a scale and "
                "offset in metres; it is damaged, export it again"
            )
        some = grid[:: max(1, len(grid) // _CHUNK)]
        offset = find_offset(torch.from_numpy(some * scales + origin))
    shift = offset.numpy()
    for start in range(0, len(grid), _CHUNK):
        rows = slice(start, start + _CHUNK)
        points[rows] = grid[rows] * scales + origin - shift
    return points, offset


def _declared_points(file: Path) -> int:
    """How many points the header declares; refuse more records or points than the file can hold."""
    try:
        with file.open("rb") as stream:
            head = stream.read(375)
        size = file.stat().st_size
    except OSError as error:
        raise _damaged(file, error) from error
    if len(head) < 227 or head[:4] != b"LASF":
        raise SceneError(f"{file}: does not begin like a LAS file; give the original file")
    start = int.from_bytes(head[96:100], "little")
    compressed = bool(head[104] & 0x80)
    row = int.from_bytes(head[105:107], "little")
    points = int.from_bytes(head[107:111], "little")
    if head[24:26] >= b"\x01\x04" and len(head) >= 255:
        points = max(points, int.from_bytes(head[247:255], "little"))
    records = int.from_bytes(head[100:104], "little")
    if head[24:26] >= b"\x01\x04":
        records += int.from_bytes(head[243:247], "little")
    if start > size or records * _RECORD > size:
        raise SceneError(
            f"{file}: its header declares {records} records and points from byte {start}, the file "
            f"has {size} bytes; it is truncated or damaged, export it again"
        )
    limit = size * 100 if compressed else size - start
    if points * max(row, 20) > max(limit, 0):
        raise SceneError(
            f"{file}: its header declares {points} points of {row} bytes, the file has {size} "
            "bytes; it is truncated or damaged, export it again"
        )
    if compressed and points:
        try:
            with panics_as_errors():
                require_sound_chunks(file, start, size, points)
        except (SceneError, MissingExtraError):
            raise
        except Exception as error:  # of the package, too, which reads the table of chunks
            raise _damaged(file, error) from error
    return points


def _damaged(file: Path, error: Exception) -> SceneError:
    reason = str(error).split("\n")[0][:80] or type(error).__name__
    return SceneError(f"{file}: cannot be read ({reason}); it is damaged, export it again")
