"""Surveyed points in LAS and LAZ files, read chunk by chunk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pcdistill.errors import SceneError
from pcdistill.scenes.extras import import_extra
from pcdistill.scenes.origin import find_offset, no_offset
from pcdistill.scenes.ply import Ply

_CHUNK = 1_000_000  # points that are decoded at once
_RECORD = 54  # bytes of the smallest record before the points
_COLORS = ("red", "green", "blue")
_FARTHEST = 1e30  # metres; float32 ends a little later

_Grid = npt.NDArray[np.int32]
_Floats = npt.NDArray[np.float64]


def read_las(file: Path) -> Ply:
    """Read positions and colours; takes 12 bytes a point, 15 with colours, and one chunk.

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
        with laspy.open(str(file), read_evlrs=False) as reader:
            count = int(reader.header.point_count)
            if count > declared:
                raise ValueError(f"{count} points, declared {declared}")
            grid, colors = _read_chunks(file, reader, count)
            scales = np.asarray(reader.header.scales, dtype=np.float64)
            origin = np.asarray(reader.header.offsets, dtype=np.float64)
    except SceneError:
        raise
    except Exception as error:  # the package raises its own kinds on damaged files
        raise _damaged(file, error) from error
    points, offset = _in_metres(file, grid, scales, origin)
    return Ply(
        torch.from_numpy(points),
        None if colors is None else torch.from_numpy(colors),
        offset=offset,
    )


def _read_chunks(file: Path, reader: Any, count: int) -> tuple[_Grid, npt.NDArray[np.uint8] | None]:
    """(N, 3) int32, steps of the file's grid; (N, 3) uint8 colours or None."""
    grid = np.empty((count, 3), dtype=np.int32)
    has_colors = set(_COLORS) <= set(reader.header.point_format.dimension_names)
    colors = np.empty((count, 3), dtype=np.uint8) if has_colors else None
    wide = False  # colours have 16 bits by the standard; some writers put 8 bits there
    start = 0
    for chunk in reader.chunk_iterator(_CHUNK):
        stop = start + len(chunk)
        for axis, name in enumerate("XYZ"):
            grid[start:stop, axis] = chunk[name]
        if colors is not None:
            channels = np.stack([np.asarray(chunk[name]) for name in _COLORS], axis=1)
            if not wide and channels.max(initial=0) > 255:
                wide = True
                colors[:start] = 0  # what seemed to be 8 bits were the darkest of 16
            colors[start:stop] = channels // 257 if wide else channels
        start = stop
    if start != count:
        raise SceneError(
            f"{file}: ends after {start} of the {count} points that its header declares; it is "
            "truncated or damaged, export it again"
        )
    return grid, colors


def _in_metres(
    file: Path, grid: _Grid, scales: _Floats, origin: _Floats
) -> tuple[npt.NDArray[np.float32], Tensor]:
    """The grid's positions, moved to the origin where they are far from it, in the same memory."""
    points = grid.view(np.float32)
    offset = no_offset()
    if len(grid):
        with np.errstate(over="ignore", invalid="ignore"):
            corners = np.stack([grid.min(axis=0), grid.max(axis=0)]) * scales + origin
        if not (np.abs(corners) < _FARTHEST).all():
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
    return points


def _damaged(file: Path, error: Exception) -> SceneError:
    reason = str(error).split("\n")[0][:80] or type(error).__name__
    return SceneError(f"{file}: cannot be read ({reason}); it is damaged, export it again")
