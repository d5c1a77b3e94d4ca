"""Labels and objects of the points of a Matterport3D region, by majority vote of their faces."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pcdistill.errors import ConfigError, SceneError
from pcdistill.labels import IGNORE_LABEL
from pcdistill.scenes.formats.text import read_text
from pcdistill.scenes.label_sets import load_label_set
from pcdistill.suggest import suggest

_MAX_CATEGORIES = 100_000

_NYU40_OF_SCANNET20 = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 24, 28, 33, 34, 36, 39)
_NYU40_LABELS: Mapping[str, tuple[int, ...]] = {
    "scannet20": _NYU40_OF_SCANNET20,
    "matterport21": (*_NYU40_OF_SCANNET20, 22),  # 22 is the ceiling
}
"""The NYU40 id of each label."""
_NYU_NAME_SETS = ("matterport40", "matterport80", "matterport160")
"""Labels are names of the table's column nyuClass."""

MATTERPORT_LABEL_SETS = ("matterport21", *_NYU_NAME_SETS, "scannet20")
"""The label sets that the categories of Matterport3D can be mapped to; the first is the default."""


def require_label_set(name: str) -> None:
    """Refuse a label set that Matterport3D has no mapping to.

    Raises:
        ConfigError: the name is none of `MATTERPORT_LABEL_SETS`.
    """
    if name not in MATTERPORT_LABEL_SETS:
        raise ConfigError(
            f"the categories of Matterport3D cannot be mapped to label set '{name}', "
            f"{suggest(name, MATTERPORT_LABEL_SETS)}; set run.label_set"
        )


def read_category_labels(path: Path, label_set: str) -> Tensor:
    """Read the label of each raw category.

    Args:
        path: `category_mapping.tsv`, the category table of Matterport3D: tab-separated columns with
            at least ``index``, ``nyu40id`` and ``nyuClass``.
        label_set: one of `MATTERPORT_LABEL_SETS`.

    Returns:
        (C + 1,) int64: the label of category id i, `IGNORE_LABEL` for 0 and for categories that the
        set does not have.

    Raises:
        ConfigError: the label set is another.
        SceneError: the table is missing or damaged.

    Source: OpenScene's preprocessing of Matterport3D. Its sets of K names are the first K names of
        the column nyuClass, without void and unknown.
    """
    require_label_set(label_set)
    of_row = _label_of_row(label_set)
    lines = read_text(path, "the category table of Matterport3D").split("\n")
    header = lines[0].split("\t") if lines else []
    columns = []
    for name in ("index", "nyu40id", "nyuClass"):
        if name not in header:
            raise SceneError(
                f"{path}: its first line has no column '{name}', expected the tab-separated "
                "category table of Matterport3D; restore the original file"
            )
        columns.append(header.index(name))
    labels: dict[int, int] = {}
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        cells = line.split("\t")
        if len(cells) != len(header):
            raise SceneError(
                f"{path}: line {number} has {len(cells)} columns, expected {len(header)} like the "
                "first line; the table is damaged or truncated, restore it"
            )
        index, nyu40, name = (cells[column].strip() for column in columns)
        if not _is_number(index) or int(index) > _MAX_CATEGORIES or int(index) in labels:
            raise SceneError(
                f"{path}: line {number} has the index '{index[:20]}', expected another number than "
                "the lines before; restore the original file"
            )
        if nyu40 and not _is_number(nyu40):
            raise SceneError(
                f"{path}: line {number} has the nyu40id '{nyu40[:20]}', expected a number from 0 "
                "to 40 or nothing; restore the original file"
            )
        labels[int(index)] = of_row(int(nyu40 or 0), name)
    if not labels:
        raise SceneError(f"{path}: has no categories; restore the original file")
    table = torch.full((max(labels) + 1,), IGNORE_LABEL, dtype=torch.int64)
    table[torch.tensor(list(labels))] = torch.tensor(list(labels.values()))
    table[0] = IGNORE_LABEL
    return table


def vote_of_faces(values: Tensor, faces: Tensor, points: int) -> Tensor:
    """For each point the most frequent value of the faces around it.

    Args:
        values: (F,) int64, `IGNORE_LABEL` (-1) or more; it is counted like any other.
        faces: (F, 3) int64.
        points: N.

    Returns:
        (N,) int64; of equally frequent values the smallest, so `IGNORE_LABEL` first, and it
            where no face is.
    """
    winners = np.full(points, IGNORE_LABEL, dtype=np.int64)
    if len(faces):
        width = int(values.max()) + 1 - IGNORE_LABEL
        corners = faces.numpy(force=True).reshape(-1)
        keys = corners * width + np.repeat(values.numpy(force=True) - IGNORE_LABEL, 3)
        distinct, counts = np.unique(keys, return_counts=True)
        point, value = distinct // width, distinct % width + IGNORE_LABEL
        order = np.lexsort((value, -counts, point))
        first = np.ones(len(order), dtype=bool)
        first[1:] = point[order][1:] != point[order][:-1]
        winners[point[order][first]] = value[order][first]
    return torch.from_numpy(winners)


def label_points(
    path: Path, category_of_face: Tensor, faces: Tensor, points: int, category_labels: Tensor
) -> Tensor:
    """Label the points of a region.

    Faces without a label vote for none, and none wins ties, as in OpenScene's preprocessing.

    Args:
        path: the region's mesh, for messages.
        category_of_face: (F,) int64, raw category, -1 or 0 = none.
        faces: (F, 3) int64.
        points: N.
        category_labels: (C + 1,) int64 of `read_category_labels`.

    Returns:
        (N,) int64, `IGNORE_LABEL` where none.

    Raises:
        SceneError: a face has a category that the table does not have.
    """
    if len(category_of_face):
        low, high = int(category_of_face.min()), int(category_of_face.max())
        if low < -1 or high >= len(category_labels):
            raise SceneError(
                f"{path}: a face has the category {low if low < -1 else high}, the category table "
                f"has 1 to {len(category_labels) - 1}; mesh and table are of different releases or "
                "damaged, restore the original files"
            )
    labels = category_labels[category_of_face.clamp(min=0)]
    return vote_of_faces(labels, faces, points)


def _label_of_row(label_set: str) -> Callable[[int, str], int]:
    if label_set in _NYU40_LABELS:
        of_id = {nyu40: label for label, nyu40 in enumerate(_NYU40_LABELS[label_set])}
        return lambda nyu40, name: of_id.get(nyu40, IGNORE_LABEL)
    of_name = {name: label for label, name in enumerate(load_label_set(label_set).released_names)}
    return lambda nyu40, name: of_name.get(name, IGNORE_LABEL)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10
