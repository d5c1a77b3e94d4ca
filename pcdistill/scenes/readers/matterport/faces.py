"""Categories and objects of the faces of a Matterport3D region."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pcdistill.errors import SceneError
from pcdistill.scenes.formats.ply_elements import ListColumn, read_tables
from pcdistill.scenes.formats.text import read_json
from pcdistill.scenes.paths import is_existing_file
from pcdistill.scenes.readers.matterport.labels import vote_of_faces

_LOG = logging.getLogger(__name__)

_MAX_OBJECT = 2**31 - 1


class RegionFaces(NamedTuple):
    """What a region's mesh says of its faces."""

    triangles: Tensor
    """(T, 3) int64."""
    of_triangle: Tensor
    """(T,) int64, the face that each triangle is cut from."""
    category: Tensor
    """(F,) int64, raw category, -1 or 0 = none."""
    object: Tensor | None
    """(F,) int64, its segment_id."""


def read_faces(mesh: Path, triangles: Tensor) -> RegionFaces:
    """Categories and objects of the faces of a region's mesh.

    Args:
        mesh: `region<N>.ply`.
        triangles: (T, 3) int64, its faces cut into triangles, of `read_ply`.

    Raises:
        SceneError: the faces have no category, or one that is no integer.
    """
    with mesh.open("rb") as stream:
        face = read_tables(mesh, stream).tables["face"]
    columns: dict[str, Tensor] = {}
    for name in ("category_id", "segment_id"):
        values = face.get(name)
        if values is None:
            continue
        if isinstance(values, ListColumn) or values.dtype.kind == "f":
            raise SceneError(
                f"{mesh}: '{name}' of its faces is no integer; restore the original file"
            )
        columns[name] = torch.from_numpy(values.astype(np.int64))
    if "category_id" not in columns:
        raise SceneError(
            f"{mesh}: its faces have no 'category_id', expected a mesh of region_segmentations; "
            "restore the original file"
        )
    corners = next(face[name] for name in ("vertex_indices", "vertex_index") if name in face)
    lengths = corners.lengths if isinstance(corners, ListColumn) else np.empty(0, dtype=np.int64)
    of_triangle = np.repeat(np.arange(len(lengths)), np.maximum(lengths - 2, 0))
    return RegionFaces(
        triangles,
        torch.from_numpy(of_triangle),
        columns["category_id"],
        columns.get("segment_id"),
    )


def read_instances(mesh: Path, faces: RegionFaces, points: int) -> tuple[Tensor | None, str]:
    """Object of each point, the most frequent one of the faces around it.

    Args:
        mesh: `region<N>.ply`; `region<N>.fsegs.json` and `region<N>.semseg.json` are beside it.
        faces: of `read_faces`.
        points: N.

    Returns:
        (N,) int32, -1 = none, or None without objects; and the names of the files they are from.

    Raises:
        SceneError: a file is damaged, or does not fit the mesh.
    """
    segments = mesh.with_name(f"{mesh.stem}.fsegs.json")
    groups = mesh.with_name(f"{mesh.stem}.semseg.json")
    if is_existing_file(segments) and is_existing_file(groups):
        objects = _objects_of_faces(segments, groups, len(faces.category))
        source = f"{segments.name}, {groups.name}"
    elif faces.object is not None:
        objects, source = faces.object, f"segment_id in {mesh.name}"
        _LOG.warning(
            "%s: objects are its segment_id, not both %s and %s are there",
            *(mesh, segments.name, groups.name),
        )
    else:
        _LOG.warning("%s: has no objects, %s is missing", mesh, groups.name)
        return None, "none"
    objects = torch.where((objects < 0) | (objects > _MAX_OBJECT), -1, objects)
    return vote_of_faces(objects[faces.of_triangle], faces.triangles, points).int(), source


def _objects_of_faces(segments: Path, groups: Path, faces: int) -> Tensor:
    """(F,) int64, -1 = none."""
    # a number of a face takes a few bytes: what is far larger is not this file
    content = read_json(segments, "the segment of each face", largest=(1 << 20) + 24 * faces)
    segment_of_face = _integers(segments, "segIndices", content.get("segIndices"))
    if len(segment_of_face) != faces:
        raise SceneError(
            f"{segments}: has segments of {len(segment_of_face)} faces, the mesh has {faces}; "
            "the files are of different releases or damaged, restore them"
        )
    listed = read_json(groups, "the objects of a region").get("segGroups")
    if not isinstance(listed, list):
        raise SceneError(f"{groups}: has no list 'segGroups', expected objects; restore the file")
    object_of_segment: dict[int, int] = {}
    for place_in_list, group in enumerate(listed):
        fields = group if isinstance(group, dict) else {}
        number = fields.get("objectId", fields.get("id", place_in_list))
        if not isinstance(number, int) or not 0 <= number <= _MAX_OBJECT:
            raise SceneError(
                f"{groups}: an object has the number {str(number)[:40]}, expected "
                f"0 to {_MAX_OBJECT}; the file is damaged, restore it"
            )
        for segment in _integers(groups, "segments", fields.get("segments")):
            object_of_segment.setdefault(int(segment), number)  # the first of two keeps it
    known, place = np.unique(segment_of_face, return_inverse=True)
    objects = np.array([object_of_segment.get(int(segment), -1) for segment in known], np.int64)
    return torch.from_numpy(objects[place.reshape(-1)])


def _integers(path: Path, key: str, values: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
    try:
        if not isinstance(values, list):
            raise TypeError(f"it is a {type(values).__name__}")
        for value in values:
            if type(value) is not int:
                raise TypeError(f"it has {str(value)[:40]!r}")
        return np.array(values, dtype=np.int64)
    except (TypeError, OverflowError) as error:
        raise SceneError(
            f"{path}: '{key}' is no list of integers ({error}); the file is damaged, restore it"
        ) from error
