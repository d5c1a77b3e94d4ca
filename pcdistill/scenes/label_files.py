"""Files of one label a point: PLY, NPZ, and the text files of ScanNet's benchmark."""

from __future__ import annotations

import tokenize
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pcdistill.errors import ConfigError, SceneError
from pcdistill.labels import IGNORE_LABEL, NO_FEATURE_LABEL, NO_FEATURE_LABEL_OF_FILES, is_marked
from pcdistill.scenes.formats.ply import read_ply
from pcdistill.scenes.label_sets import LabelSet
from pcdistill.size_limits import HOW_TO_RAISE, raised, unpacked_bytes

_DAMAGED = (
    *(ValueError, TypeError, KeyError, EOFError, MemoryError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, SyntaxError, tokenize.TokenError),
)
"""What NumPy and the unpacking raise on damaged or strange archives, one after the other."""
MAX_BYTES = 8 << 30
"""Of labels, unpacked: those of a hundred million points, with their positions."""
LABEL_SUFFIXES = (".ply", ".npz", ".txt")
"""Of files with one label a point, in lower case."""
LabelRole = Literal["predicted", "true"]
"""Whether a point without a category has no prediction, or takes no part in any score."""


class LabelFile(NamedTuple):
    """What a file tells of its points."""

    labels: Tensor
    """(N,) int64 in [0, K), or `NO_FEATURE_LABEL` (predicted) or `IGNORE_LABEL` (true)."""
    points: Tensor | None
    """(N, 3) float64 in the file's own frame; None where it has no coordinates."""


def read_label_file(
    path: Path, label_set: LabelSet, role: LabelRole, *, has_ids: bool = False
) -> LabelFile:
    """Read one label a point.

    A PLY has them as the vertex property ``label``, an NPZ as the array ``labels`` (with
    ``points``, if there are), both by the order of the classes; a text file has one id of the data
    set on each line, as ScanNet's benchmark.

    Args:
        path: .ply, .npz or .txt.
        label_set: that the labels index.
        role: what the labels are. True ids of other classes than those of the label set are
            ignored, as the benchmark does; predicted ones are refused but for 0.
        has_ids: whether PLY and NPZ have ids of the data set too, as ScanNet's own
            `_vh_clean_2.labels.ply`.

    Raises:
        ConfigError: the suffix is none of these, or the label set has no ids.
        SceneError: the file is missing or damaged, has no labels, or labels of another set.
    """
    suffix = path.suffix.lower()
    if suffix not in LABEL_SUFFIXES:
        raise ConfigError(
            f"{path}: is a file '{suffix}', expected one of {', '.join(LABEL_SUFFIXES)}; export "
            "the labels in one of these formats"
        )
    points = None
    if suffix == ".ply":
        labels, points = _read_ply_labels(path)
    elif suffix == ".npz":
        labels, points = _read_npz_labels(path, label_set)
    else:
        labels = _read_text_labels(path)
    if has_ids or suffix == ".txt":
        known = _labels_of_ids(path, labels, label_set, role)
    else:
        known = _labels_of_classes(path, labels, label_set, role)
    return LabelFile(known, points)


def _labels_of_classes(path: Path, labels: Tensor, label_set: LabelSet, role: LabelRole) -> Tensor:
    none = torch.zeros_like(labels, dtype=torch.bool)
    if role == "predicted":
        none = is_marked(labels, NO_FEATURE_LABEL, NO_FEATURE_LABEL_OF_FILES, len(label_set.names))
    known = label_set.labels_from_files(str(path), labels.masked_fill(none, IGNORE_LABEL))
    mark = NO_FEATURE_LABEL if role == "predicted" else IGNORE_LABEL
    return torch.where(known < 0, mark, known)


def _labels_of_ids(path: Path, ids: Tensor, label_set: LabelSet, role: LabelRole) -> Tensor:
    if not label_set.ids:
        raise ConfigError(
            f"{path}: has ids of a data set, but the label set {label_set.name} knows none, "
            "expected scannet20 or scannet200; give labels in the order of the classes as .ply or "
            ".npz"
        )
    label_of = {known: label for label, known in enumerate(label_set.ids)}
    found, place = torch.unique(ids, return_inverse=True)
    unknown = [one for one in found.tolist() if one not in label_of and one != 0]
    if role == "predicted" and unknown:
        raise SceneError(
            f"{path}: has the ids {', '.join(map(str, unknown[:5]))}, which are no class of "
            f"{label_set.name}, expected its ids or 0 for none; name the label set it was "
            "predicted with"
        )
    mark = NO_FEATURE_LABEL if role == "predicted" else IGNORE_LABEL
    return torch.tensor([label_of.get(one, mark) for one in found.tolist()], dtype=torch.int64)[
        place
    ]


def _read_ply_labels(path: Path) -> tuple[Tensor, Tensor]:
    found = read_ply(path)
    if "label" not in found.scalars:
        others = ", ".join(found.scalars) or "none"
        raise SceneError(
            f"{path}: its vertices have no property 'label' (further properties: {others}); give a "
            "file of labels, such as pcdistill export writes"
        )
    labels = _whole(path, found.scalars["label"].numpy())
    return labels, found.points.double() + found.offset


def _read_npz_labels(path: Path, label_set: LabelSet) -> tuple[Tensor, Tensor | None]:
    try:
        _require_size(path, unpacked_bytes(path))
        with np.load(path, allow_pickle=False) as arrays:
            names = ("labels", "points", "class_names")
            found = {name: arrays[name] for name in names if name in arrays.files}
        for name, values in found.items():
            if not isinstance(values, np.ndarray):  # NumPy gives the bytes of what is no array
                raise ValueError(f"'{name}' is none")
    except OSError as error:
        raise SceneError(f"{path}: cannot be read ({error.strerror or error})") from error
    except _DAMAGED as error:
        reason = str(error).split("\n")[0][:80] or type(error).__name__
        raise SceneError(
            f"{path}: is no archive of NumPy arrays ({reason}); write it again"
        ) from error
    labels, points = found.get("labels"), found.get("points")
    if labels is None or labels.ndim != 1:
        raise SceneError(
            f"{path}: has no array 'labels' of shape (N,); give a file of labels, such as "
            "pcdistill export writes"
        )
    if points is not None and points.shape != (len(labels), 3):
        raise SceneError(
            f"{path}: its 'points' are {points.shape}, expected {(len(labels), 3)} as there are "
            "labels; write it again"
        )
    names_there = found.get("class_names")
    if names_there is not None and tuple(names_there.tolist()) != label_set.names:
        raise SceneError(
            f"{path}: its class_names are not those of {label_set.name}; name the label set it was "
            "written with"
        )
    coordinates = None if points is None else torch.from_numpy(points.astype(np.float64))
    return _whole(path, labels), coordinates


def _read_text_labels(path: Path) -> Tensor:
    try:
        _require_size(path, path.stat().st_size)
        with path.open("rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a file without content, which has no points
            rows = np.loadtxt(stream, dtype=np.int64, ndmin=2, comments=None)
    except OSError as error:
        raise SceneError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, OverflowError) as error:
        raise SceneError(
            f"{path}: has a line that is no whole number, expected one id on each line; give a "
            "file in the layout of ScanNet's benchmark"
        ) from error
    if rows.size and rows.shape[1] != 1:
        raise SceneError(
            f"{path}: has {rows.shape[1]} numbers on a line, expected one id; give a file in the "
            "layout of ScanNet's benchmark"
        )
    return torch.from_numpy(rows.reshape(-1))


def _require_size(path: Path, size: int) -> None:
    if size > raised(MAX_BYTES):
        raise SceneError(
            f"{path}: unpacks to {size} bytes, more than the {raised(MAX_BYTES)} that labels of "
            f"one scan may have; write it again, or, {HOW_TO_RAISE}"
        )


def _whole(path: Path, values: npt.NDArray[np.generic]) -> Tensor:
    """(N,) int64 of numbers that have to be whole."""
    if values.dtype.kind not in "iuf":
        raise SceneError(
            f"{path}: its labels are {values.dtype}, expected integers; write it again"
        )
    numbers = values.astype(np.int64) if values.dtype.kind != "f" else np.rint(values)
    if values.dtype.kind == "f" and not (
        np.isfinite(values).all() and (numbers == values).all() and (np.abs(values) < 2**53).all()
    ):
        raise SceneError(f"{path}: its labels are not whole numbers; write them as integers")
    return torch.from_numpy(numbers.astype(np.int64))
