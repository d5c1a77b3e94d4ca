"""Scans of terrestrial scanners in E57 files, in the file's common frame.

Honoured are each scan's pose, cartesian or spherical coordinates, the marks of points that were not
measured (`cartesianInvalidState`, `sphericalInvalidState`), the limits of colours, and the marks of
colours that are none (`isColorInvalid`). Coordinates of E57 are metres by its standard.

Source: ASTM E2807-11, Standard Specification for 3D Imaging Data Exchange.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from pcdistill.errors import SceneError
from pcdistill.geometry import rotation_from_quaternion
from pcdistill.scenes.formats.color_depth import Colors, color_bytes
from pcdistill.scenes.formats.extras import import_extra
from pcdistill.scenes.formats.ply import Ply
from pcdistill.scenes.origin import near_origin

_LOG = logging.getLogger(__name__)

NOT_MEASURED = "marked as not measured"

_CARTESIAN = ("cartesianX", "cartesianY", "cartesianZ")
_SPHERICAL = ("sphericalRange", "sphericalAzimuth", "sphericalElevation")
_COLORS = ("colorRed", "colorGreen", "colorBlue")
_STATES = {_CARTESIAN: "cartesianInvalidState", _SPHERICAL: "sphericalInvalidState"}
_NO_COLOR = "isColorInvalid"
_MOST_POINTS_OF_A_BYTE = 8  # where each has a coordinate of one bit
_LEAST = 1 << 12  # bytes below which no file is too small for what it declares
_MAX_WIDTH = 1e6  # limits beyond are those of the number's type

_Floats = npt.NDArray[np.float64]


class _Scan(NamedTuple):
    """One scan of a file, without the points that were not measured."""

    points: _Floats
    """(N, 3) metres, in the frame of the file."""
    colors: Colors | None
    not_measured: int
    has_pose: bool


def read_e57(file: Path) -> Ply:
    """Points and colours of all scans of a file, less the offset they need.

    Raises:
        SceneError: the file is missing or damaged, or has no scan.
        MissingExtraError: there is no package that reads it.
    """
    pye57 = import_extra(file, "pye57", "e57", "convert the file to .ply")
    try:
        content = pye57.E57(str(file))
        scans = [_read_scan(file, pye57.libe57, content, i) for i in range(content.scan_count)]
    except SceneError:
        raise
    except Exception as error:  # the package raises its own kinds on damaged files
        reason = str(error).split("\n")[0][:80] or type(error).__name__
        raise SceneError(
            f"{file}: cannot be read ({reason}); it is damaged, export it again"
        ) from error
    if not scans:
        raise SceneError(f"{file}: has no scan, expected at least one; export it again")
    _say_what_differs(file, scans)
    points, offset = near_origin(torch.from_numpy(np.concatenate([s.points for s in scans])))
    colors = [scan.colors for scan in scans if scan.colors is not None]
    missing = sum(scan.not_measured for scan in scans)
    if missing:
        _LOG.warning("%s: left out %d points, %s", file, missing, NOT_MEASURED)
    return Ply(
        points,
        torch.from_numpy(np.concatenate(colors)) if len(colors) == len(scans) else None,
        offset=offset,
        left_out={NOT_MEASURED: missing} if missing else {},
    )


def _read_scan(file: Path, libe57: Any, content: Any, number: int) -> _Scan:
    header = content.get_header(number)
    fields = set(header.point_fields)
    axes = next((kind for kind in _STATES if fields >= set(kind)), None)
    if axes is None:
        raise SceneError(
            f"{file}: scan {number} has the fields {', '.join(sorted(fields))[:120]}, expected "
            f"{', '.join(_CARTESIAN)} or {', '.join(_SPHERICAL)}; export it again"
        )
    has_colors = fields >= set(_COLORS)
    wanted = [*axes, _STATES[axes], *(_COLORS if has_colors else ()), _NO_COLOR]
    columns = _read_columns(
        file, libe57, content, header, [name for name in wanted if name in fields]
    )
    points = np.stack([columns[name] for name in axes], axis=1)
    measured = np.ones(len(points), dtype=np.bool_)
    if _STATES[axes] in columns:
        measured = columns[_STATES[axes]] == 0
    if axes is _SPHERICAL:
        points = _from_spherical(points)
    has_pose = bool(header.node.isDefined("pose"))
    if has_pose:
        points = _posed(file, header.node["pose"], points)
    colors = None
    if has_colors:
        colors = _read_colors(file, libe57, header, columns, number)
    return _Scan(
        points[measured],
        None if colors is None else colors[measured],
        int((~measured).sum()),
        has_pose,
    )


def _read_columns(
    file: Path, libe57: Any, content: Any, header: Any, names: Sequence[str]
) -> dict[str, _Floats]:
    count, size = int(header.point_count), file.stat().st_size
    if not 0 <= count <= max(size, _LEAST) * _MOST_POINTS_OF_A_BYTE:
        raise SceneError(
            f"{file}: declares {count} points of a scan, more than its {size} bytes can hold; it "
            "is damaged, export it again"
        )
    columns = {name: np.empty(count, dtype=np.float64) for name in names}
    if count == 0:
        return columns
    buffers = libe57.VectorSourceDestBuffer()
    for name, values in columns.items():
        buffers.append(libe57.SourceDestBuffer(content.image_file, name, values, count, True, True))
    header.points.reader(buffers).read()
    return columns


def _from_spherical(points: _Floats) -> _Floats:
    """Range, azimuth and elevation, metres and radians, as x, y and z."""
    distance, azimuth, elevation = points.T
    flat = distance * np.cos(elevation)
    return np.stack(
        [flat * np.cos(azimuth), flat * np.sin(azimuth), distance * np.sin(elevation)], axis=1
    )


def _posed(file: Path, pose: Any, points: _Floats) -> _Floats:
    """The points in the frame of the file; a pose may have either part."""
    if pose.isDefined("rotation"):
        w, x, y, z = (float(pose["rotation"][name].value()) for name in "wxyz")
        length = float(np.linalg.norm([w, x, y, z]))
        if not 0.9 < length < 1.1:  # NaN as well
            raise SceneError(
                f"{file}: the rotation of a scan is the quaternion {w:g} {x:g} {y:g} {z:g}, "
                "expected one of unit length; register the scans again"
            )
        rotation = rotation_from_quaternion(x / length, y / length, z / length, w / length)
        points = points @ rotation.numpy().T
    if pose.isDefined("translation"):
        points = points + [float(pose["translation"][name].value()) for name in "xyz"]
    return points


def _read_colors(
    file: Path, libe57: Any, header: Any, columns: dict[str, _Floats], number: int
) -> Colors | None:
    """(N, 3) uint8; where marked as none, the mean of the others; None where most are none."""
    valid = np.ones(len(columns[_COLORS[0]]), dtype=np.bool_)
    if _NO_COLOR in columns:
        valid = columns[_NO_COLOR] == 0
    channels = [columns[name][valid] for name in _COLORS]
    missing = int((~valid).sum())
    if missing * 2 > len(valid):
        _LOG.warning(
            "%s: scan %d has colours for %d of %d points, taken as none",
            *(file, number, len(valid) - missing, len(valid)),
        )
        return None
    colors = np.empty((len(valid), 3), dtype=np.uint8)
    colors[valid] = color_bytes(file, channels, _COLORS, _limits(libe57, header, channels))
    if missing:
        colors[~valid] = np.rint(colors[valid].mean(axis=0)).astype(np.uint8)
        _LOG.warning(
            "%s: %d points of scan %d have no colour, they get its mean", file, missing, number
        )
    return colors


def _limits(libe57: Any, header: Any, channels: Sequence[_Floats]) -> tuple[float, float] | None:
    """What the file gives for dark and full: of the scan, else of the field; None where neither.

    Limits that the colours themselves exceed are none.
    """
    places = []
    if header.node.isDefined("colorLimits"):
        stated = header.node["colorLimits"]
        ends = ("colorRedMinimum", "colorRedMaximum")
        if all(stated.isDefined(end) for end in ends):
            places.append((float(stated[ends[0]].value()), float(stated[ends[1]].value())))
    field = libe57.StructureNode(header.points.prototype())[_COLORS[0]]
    places.append((float(field.minimum()), float(field.maximum())))
    low = min((float(values.min()) for values in channels if len(values)), default=0.0)
    high = max((float(values.max()) for values in channels if len(values)), default=0.0)
    for dark, full in places:
        if -_MAX_WIDTH < dark < full < _MAX_WIDTH and dark <= low and high <= full:
            return dark, full
    return None


def _say_what_differs(file: Path, scans: Sequence[_Scan]) -> None:
    posed = sum(scan.has_pose for scan in scans)
    if 0 < posed < len(scans):
        _LOG.warning(
            "%s: %d of %d scans have no pose, taken as already in the file's frame",
            *(file, len(scans) - posed, len(scans)),
        )
    colored = sum(scan.colors is not None for scan in scans)
    if 0 < colored < len(scans):
        _LOG.warning(
            "%s: %d of %d scans have no colours, so that those of the others are not used",
            *(file, len(scans) - colored, len(scans)),
        )
