"""Reader and writer of PLY meshes and clouds."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pcdistill.atomic_io import atomic_file
from pcdistill.errors import SceneError
from pcdistill.scenes.formats.color_depth import color_bytes
from pcdistill.scenes.formats.coordinate_systems import unit_of_comments
from pcdistill.scenes.formats.ply_elements import Column, ListColumn, PlyContent, Table, read_tables
from pcdistill.scenes.origin import near_origin, no_offset
from pcdistill.scenes.units import METRE

_LOG = logging.getLogger(__name__)

_COLOR_NAMES = (
    ("red", "green", "blue"),
    ("diffuse_red", "diffuse_green", "diffuse_blue"),
    ("r", "g", "b"),
)
_FACE_LISTS = ("vertex_indices", "vertex_index")


@dataclass(frozen=True, eq=False)
class Ply:
    """What a PLY file holds of a mesh or cloud."""

    points: Tensor
    """(N, 3) float32."""
    colors: Tensor | None = None
    """(N, 3) uint8, red green blue."""
    normals: Tensor | None = None
    """(N, 3) float32, as the file has them."""
    faces: Tensor | None = None
    """(F, 3) int64, polygons cut into fans; None where the file has no face element."""
    scalars: dict[str, Tensor] = field(default_factory=dict)
    """(N,) int64, float32 or float64: the other vertex properties, by name."""
    offset: Tensor = field(default_factory=no_offset)
    """(3,) float64, metres, whole, already taken off `points`; zero unless they lie far out."""
    left_out: dict[str, int] = field(default_factory=dict)
    """How many points of the file are not among `points`, by reason."""
    metres_per_unit: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Along each axis, of the file's own coordinates; `points` are metres."""


def read_ply(path: str | Path, *, offset: Tensor | None = None) -> Ply:
    """Read the points, what is known of each, and the faces of a PLY file.

    Vertex properties are found by name in any order: ``x y z``; ``red green blue`` (also
    ``diffuse_red`` ... and ``r g b``; of 8 or 16 bits, or numbers from 0 to 1); ``nx ny nz``;
    all others are `scalars`. Faces are triangles, polygons that are cut into fans, or strips.
    A comment that states a unit, such as ``units: mm``, is honoured.

    Args:
        path: an ASCII, little-endian or big-endian PLY file.
        offset: (3,) float64, metres, taken off the points, for a file that lies in the frame of
            another; by default what its own points need, `find_offset`.

    Raises:
        SceneError: the file is missing, is no PLY file, is truncated, has more content than its
            header declares, or its faces use points it does not have.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            content = read_tables(path, stream)
    except OSError as error:
        raise SceneError(f"{path}: cannot be read ({error.strerror or error})") from error
    unit = unit_of_comments(path, content.comments) or METRE
    found = _assemble(path, content.tables, offset, unit)
    if found.colors is None:
        _say_where_colors_are(path, content)
    return found


def _say_where_colors_are(path: Path, content: PlyContent) -> None:
    files = [
        comment.partition(" ")[2]
        for comment in content.comments
        if comment.lower().startswith("texturefile ")
    ]
    if any(set(names) <= content.tables.get("face", {}).keys() for names in _COLOR_NAMES):
        _LOG.warning("%s: its colours are of faces, which are not read: points have none", path)
    elif files or "texcoord" in content.tables.get("face", {}):
        where = f"in {', '.join(files)[:120]}" if files else "in a texture"
        _LOG.warning(
            "%s: its colours are %s, which is not read: its points have none; transfer them to the "
            "vertices, where they are needed",
            *(path, where),
        )


def write_ply(
    path: str | Path,
    points: Tensor,
    *,
    colors: Tensor | None = None,
    normals: Tensor | None = None,
    labels: Tensor | None = None,
    scalars: Mapping[str, Tensor] | None = None,
    integers: Mapping[str, Tensor] | None = None,
    faces: Tensor | None = None,
    doubles: bool = False,
    comments: Sequence[str] = (),
) -> None:
    """Write a binary little-endian PLY file, whole or not at all.

    Args:
        path: where; folders above are made.
        points: (N, 3) float, written as float32 unless `doubles`.
        colors: (N, 3) uint8.
        normals: (N, 3) float.
        labels: (N,) integer, written as ``int label``.
        scalars: (N,) numbers, written as ``float`` under their names, for example a heat map.
        integers: (N,) integers, written as ``int`` under their names, after the scalars.
        faces: (F, 3) integer, triangles over `points`.
        doubles: write coordinates as float64, which those of a survey need.
        comments: lines of the header, in ASCII.

    Raises:
        ValueError: a shape does not fit, a name cannot be a property, or a comment no line.
    """
    count = points.shape[0]
    columns: list[tuple[str, str, Tensor]] = []
    _add_columns(columns, "points", points, ("x", "y", "z"), "<f8" if doubles else "<f4", count)
    if normals is not None:
        _add_columns(columns, "normals", normals, ("nx", "ny", "nz"), "<f4", count)
    if colors is not None:
        if colors.dtype != torch.uint8:
            raise ValueError(f"colors are {colors.dtype}, expected uint8")
        _add_columns(columns, "colors", colors, _COLOR_NAMES[0], "u1", count)
    if labels is not None:
        _add_columns(columns, "labels", labels, ("label",), "<i4", count)
    for named, kind in ((scalars, "<f4"), (integers, "<i4")):
        for name, values in (named or {}).items():
            taken = {column[0] for column in columns}
            if not name.isascii() or not name.isidentifier() or name in taken:
                raise ValueError(
                    f"'{name}' cannot name a property; use a new word of letters and _"
                )
            _add_columns(columns, name, values, (name,), kind, count)
    for comment in comments:
        if not comment.isascii() or not comment.isprintable():
            raise ValueError(f"{comment[:60]!r} cannot be a comment; write one line of ASCII")

    types = {"<f4": "float", "<f8": "double", "u1": "uchar", "<i4": "int"}
    header = ["ply", "format binary_little_endian 1.0"]
    header += [f"comment {comment}" for comment in comments]
    header += [f"element vertex {count}"]
    header += [f"property {types[kind]} {name}" for name, kind, _ in columns]
    vertices = np.empty(count, dtype=[(name, kind) for name, kind, _ in columns])
    for name, _, values in columns:
        vertices[name] = values.numpy(force=True)
    triangles = None
    if faces is not None:
        if faces.ndim != 2 or faces.shape[1] != 3:
            raise ValueError(f"faces are {tuple(faces.shape)}, expected (F, 3)")
        header += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
        triangles = np.empty(len(faces), dtype=[("length", "u1"), ("points", "<i4", 3)])
        triangles["length"] = 3
        triangles["points"] = faces.numpy(force=True)
    with atomic_file(Path(path)) as temporary, temporary.open("wb") as stream:
        stream.write("\n".join([*header, "end_header\n"]).encode("ascii"))
        stream.write(vertices.tobytes())
        if triangles is not None:
            stream.write(triangles.tobytes())


def _add_columns(
    columns: list[tuple[str, str, Tensor]],
    what: str,
    values: Tensor,
    names: tuple[str, ...],
    kind: str,
    count: int,
) -> None:
    if len(names) == 1 and values.ndim == 1:
        values = values[:, None]
    if tuple(values.shape) != (count, len(names)):
        raise ValueError(f"{what} have shape {tuple(values.shape)}, expected {count, len(names)}")
    columns += [(name, kind, values[:, axis]) for axis, name in enumerate(names)]


def _assemble(path: Path, tables: dict[str, Table], offset: Tensor | None, unit: float) -> Ply:
    vertex = tables.get("vertex", {})
    scalars = {
        name: values for name, values in vertex.items() if not isinstance(values, ListColumn)
    }
    if not {"x", "y", "z"} <= scalars.keys():
        raise SceneError(f"{path}: has no vertices with x, y and z; give a mesh or a cloud")
    rows = _rows(scalars, ("x", "y", "z"))
    points, offset = near_origin(rows if unit == METRE else rows.double() * unit, offset)
    normals = None
    if {"nx", "ny", "nz"} <= scalars.keys():
        normals = _rows(scalars, ("nx", "ny", "nz")).float()
    colors = None
    for names in _COLOR_NAMES:
        if set(names) <= scalars.keys():
            channels = [scalars.pop(name) for name in names]
            colors = torch.from_numpy(color_bytes(path, channels, names))
            break
    faces = None
    if "face" in tables:
        faces = _triangles(path, tables["face"], len(points))
    if "tristrips" in tables:
        strips = _strip_triangles(path, tables["tristrips"], len(points))
        faces = strips if faces is None else torch.cat([faces, strips])
    others = {name: _scalar(values) for name, values in scalars.items()}
    return Ply(points, colors, normals, faces, others, offset, metres_per_unit=(unit, unit, unit))


def _rows(scalars: dict[str, Column], names: tuple[str, ...]) -> Tensor:
    """(N, 3) float32, or float64 where 32 bits do not hold the columns."""
    columns = [scalars.pop(name) for name in names]
    exact = all(np.can_cast(column.dtype, np.float32) for column in columns)
    kind = np.float32 if exact else np.float64
    return torch.from_numpy(np.stack([column.astype(kind) for column in columns], axis=1))


def _scalar(values: Column) -> Tensor:
    if values.dtype.kind != "f":
        return torch.from_numpy(values.astype(np.int64))
    return torch.from_numpy(values.astype(values.dtype.newbyteorder("=")))


def _triangles(path: Path, face: Table, points: int) -> Tensor:
    lists = next((face[name] for name in _FACE_LISTS if name in face), None)
    if not isinstance(lists, ListColumn) or lists.values.dtype.kind == "f":
        raise SceneError(
            f"{path}: its faces have no integer list 'vertex_indices'; write the mesh again"
        )
    corners = lists.values.astype(np.int64)
    _require_corners(path, corners, points)
    if len(lists.lengths) and (lists.lengths == 3).all():
        return torch.from_numpy(corners.reshape(-1, 3))
    # polygon (a, b, c, d) -> (a, b, c), (a, c, d): one triangle for each corner after the second
    fans = np.maximum(lists.lengths - 2, 0)
    first = np.repeat(np.cumsum(lists.lengths) - lists.lengths, fans)
    step = np.arange(len(first)) - np.repeat(np.cumsum(fans) - fans, fans)
    second = first + step + 1
    return torch.from_numpy(
        np.stack([corners[first], corners[second], corners[second + 1]], axis=1).reshape(-1, 3)
    )


def _strip_triangles(path: Path, strips: Table, points: int) -> Tensor:
    """(F, 3) int64 of triangle strips: each further corner makes a triangle with the two before.

    -1 in a list begins a new strip; every second triangle of a strip is turned back to the side of
    the first; those that use a corner twice, which only join strips, have no area and are left out.
    """
    lists = next((strips[name] for name in _FACE_LISTS if name in strips), None)
    if not isinstance(lists, ListColumn) or lists.values.dtype.kind == "f":
        raise SceneError(
            f"{path}: its tristrips have no integer list 'vertex_indices'; write the mesh again"
        )
    ends = np.zeros(len(lists.values) + 1, dtype=np.bool_)
    ends[np.cumsum(lists.lengths)] = True
    corners = lists.values.astype(np.int64)
    _require_corners(path, corners[corners != -1], points)
    begins = ends[:-1].copy()
    begins[:1] = True
    begins[1:] |= corners[:-1] == -1
    place = np.arange(len(corners))
    place -= np.maximum.accumulate(np.where(begins, place, 0))  # in its strip
    whole = (place >= 2) & (corners != -1)
    third = np.flatnonzero(whole)
    found = np.stack([corners[third - 2], corners[third - 1], corners[third]], axis=1)
    odd = place[third] % 2 == 1
    found[odd] = found[odd][:, [1, 0, 2]]
    a, b, c = found.T
    return torch.from_numpy(found[(a != b) & (b != c) & (c != a)])


def _require_corners(path: Path, corners: Column, points: int) -> None:
    if len(corners) and (corners.min() < 0 or corners.max() >= points):
        raise SceneError(
            f"{path}: a face uses point {corners.max() if corners.min() >= 0 else corners.min()}, "
            f"the file has points 0 to {points - 1}; write the mesh again"
        )
