"""ScanNet annotations: category and object of each vertex."""

from __future__ import annotations

import csv
import io
import logging
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pcdistill.errors import SceneError
from pcdistill.labels import IGNORE_LABEL
from pcdistill.scenes.formats.ply import read_ply
from pcdistill.scenes.formats.text import read_json, read_text
from pcdistill.scenes.label_sets import LabelSet
from pcdistill.scenes.origin import no_offset

_LOG = logging.getLogger(__name__)

_NYU_IDS = 40
_MAX_NYU_ID = 149  # a few released meshes have ids above 40; the published code ignores these
_SAME_PLACE = 1e-3  # metres
_MAX_INT32 = 2**31 - 1

Indices = np.ndarray[Any, np.dtype[np.int64]]


class Objects(NamedTuple):
    """The annotated objects of a scan, in the order of the file."""

    names: tuple[str, ...]
    """Raw category of each object."""
    ids: tuple[int, ...]
    """Number of each object."""
    of_point: Indices
    """(N,) int64, which object each vertex belongs to, -1 = none."""
    absent_segments: int
    """Segments the objects name that no vertex has."""


def read_nyu_labels(file: Path, points: Tensor, label_set: LabelSet) -> tuple[Tensor, int]:
    """Labels of a `_vh_clean_2.labels.ply` mesh.

    Args:
        file: the mesh, with NYU's category numbers as ``label``.
        points: (N, 3) float32, metres, vertices of the mesh the labels are for.
        label_set: its ids are NYU's numbers.

    Returns:
        (N,) int64, category or `IGNORE_LABEL`; and how many vertices have a number NYU's table of
        40 does not have.

    Raises:
        SceneError: the file is damaged, of another mesh, or has impossible labels.
    """
    ply = read_ply(file, offset=no_offset())
    labels = ply.scalars.get("label")
    if labels is None or labels.dtype != torch.int64:
        raise SceneError(
            f"{file}: its vertices have no integer 'label', expected NYU's category numbers; "
            "download the file again"
        )
    if len(labels) != len(points):
        raise SceneError(
            f"{file}: labels {len(labels)} vertices, the mesh beside it has {len(points)}; "
            "download both again"
        )
    if not torch.allclose(ply.points, points, rtol=0, atol=_SAME_PLACE):
        raise SceneError(
            f"{file}: its vertices lie elsewhere than those of the mesh beside it; "
            "download both again"
        )
    low, high = (int(labels.min()), int(labels.max())) if len(labels) else (0, 0)
    if low < 0 or high > _MAX_NYU_ID:
        raise SceneError(
            f"{file}: has labels from {low} to {high}, expected NYU's category numbers 0 to "
            f"{_NYU_IDS}; the file is damaged, download it again"
        )
    return _to_categories(labels, label_set, _MAX_NYU_ID), int((labels > _NYU_IDS).sum())


def read_objects(aggregation: Path, segments: Path, count: int) -> Objects:
    """The objects of a scan and their vertices.

    Args:
        aggregation: `.aggregation.json`, which segments make up each object.
        segments: `_vh_clean_2.0.010000.segs.json`, the segment of each vertex.
        count: N, vertices of the mesh.

    Raises:
        SceneError: a file is missing, damaged, or of another mesh.
    """
    segment_of_point = _segment_of_point(segments, count)
    groups = read_json(aggregation, "the objects of a ScanNet scan").get("segGroups")
    if not isinstance(groups, list):
        raise _malformed(aggregation, "segGroups", groups, "a list of objects")
    known, inverse = np.unique(segment_of_point, return_inverse=True)
    owner = np.full(len(known), -1, dtype=np.int64)
    names: list[str] = []
    ids: list[int] = []
    absent = named = 0
    for group in groups:
        if not isinstance(group, dict):
            raise _malformed(aggregation, "an object", group, "objectId, label and segments")
        name, number = group.get("label"), group.get("objectId")
        if not isinstance(name, str):
            raise _malformed(aggregation, "the label of an object", name, "a category in words")
        if type(number) is not int or not 0 <= number <= _MAX_INT32:
            raise _malformed(aggregation, "an objectId", number, "a number from 0")
        own = _integers(aggregation, f"the segments of object {number}", group.get("segments"))
        place = np.minimum(np.searchsorted(known, own), max(len(known) - 1, 0))
        present = known[place] == own if len(known) else np.zeros(len(own), dtype=bool)
        owner[place[present]] = len(names)  # a segment of two objects goes to the later one
        named += len(own)
        absent += len(own) - int(present.sum())
        names.append(name)
        ids.append(number)
    if 2 * absent > named:
        raise SceneError(
            f"{aggregation}: {absent} of the {named} segments it names are not in {segments.name}, "
            "expected segments of one mesh in both; download both again"
        )
    if absent:
        _LOG.warning("%s: names %d segments that no vertex has", aggregation, absent)
    return Objects(tuple(names), tuple(ids), owner[inverse], absent)


def object_labels(objects: Objects, table: Path, label_set: LabelSet) -> tuple[Tensor, list[str]]:
    """Labels by the raw category of each object.

    Args:
        objects: of the scan.
        table: `scannetv2-labels.combined.tsv`, number of each raw category.
        label_set: its ids are the numbers of the table.

    Returns:
        (N,) int64, category or `IGNORE_LABEL`; and the names of objects the table does not have.

    Raises:
        SceneError: the table is missing or damaged.
    """
    numbers = _read_table(table)
    of_object = torch.tensor(
        [*(numbers.get(name, 0) for name in objects.names), 0], dtype=torch.int64
    )
    largest = max(int(of_object.max()), *label_set.ids)
    labels = _to_categories(of_object, label_set, largest)
    unknown = sorted({name for name in objects.names if name not in numbers})
    return labels[torch.from_numpy(objects.of_point)], unknown  # -1 is the last entry: ignored


def object_instances(objects: Objects) -> Tensor:
    """(N,) int32, number of the object each vertex belongs to, -1 = none."""
    ids = np.array([*objects.ids, -1], dtype=np.int32)
    return torch.from_numpy(ids[objects.of_point])


def _to_categories(numbers: Tensor, label_set: LabelSet, largest: int) -> Tensor:
    table = torch.full((largest + 1,), IGNORE_LABEL, dtype=torch.int64)
    table[torch.tensor(label_set.ids)] = torch.arange(len(label_set.ids))
    return table[numbers]


def _segment_of_point(file: Path, count: int) -> Indices:
    content = read_json(file, "the segment of each vertex")
    segments = _integers(file, "segIndices", content.get("segIndices"))
    if len(segments) != count:
        raise SceneError(
            f"{file}: has segments of {len(segments)} vertices, the mesh has {count}; download the "
            "file again"
        )
    return segments


def _integers(file: Path, what: str, values: Any) -> Indices:
    if not isinstance(values, list):
        raise _malformed(file, what, values, "a list of numbers")
    for value in values:
        if type(value) is not int or not -(2**62) < value < 2**62:
            raise _malformed(file, f"an entry of {what}", value, "a whole number")
    return np.array(values, dtype=np.int64)


def _malformed(file: Path, what: str, found: Any, expected: str) -> SceneError:
    text = repr(found)[:60] if not isinstance(found, (list, dict)) else f"a {type(found).__name__}"
    return SceneError(
        f"{file}: {what} is {text}, expected {expected}; the file is damaged, download it again"
    )


def _read_table(file: Path) -> dict[str, int]:
    what = "the table of raw categories (scannetv2-labels.combined.tsv)"
    rows = csv.DictReader(io.StringIO(read_text(file, what), newline=""), delimiter="\t")
    numbers: dict[str, int] = {}
    try:
        for row in rows:
            name, number = row["raw_category"], int(row["id"])
            if not name or not 0 < number < 1 << 20:
                raise ValueError(f"raw category {name!r} with id {number}")
            numbers.setdefault(name, number)
    except (KeyError, TypeError, ValueError, OverflowError, csv.Error) as error:
        raise SceneError(
            f"{file}: line {rows.line_num} has no raw_category with an id "
            f"({str(error)[:80]}), expected {what}; download it again"
        ) from error
    if not numbers:
        raise SceneError(f"{file}: has no rows, expected {what}; download it again")
    return numbers
