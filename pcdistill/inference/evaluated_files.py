"""Scores of label files against files of true labels, scene by scene."""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pcdistill.artifacts import HalfwayCounts, SceneCounts
from pcdistill.callbacks import ProgressCallback
from pcdistill.checksums import file_sha256
from pcdistill.errors import ConfigError, SceneError
from pcdistill.evaluation import (
    ConfusionMatrix,
    SemanticResult,
    confusion_cells,
    confusion_counts,
    get_protocol,
    score_counts,
)
from pcdistill.geometry import ThinnedTree
from pcdistill.labels import NO_FEATURE_LABEL
from pcdistill.scenes import LABEL_SUFFIXES, LabelFile, LabelSet, read_label_file

_LOG = logging.getLogger(__name__)

FileIds = Literal["none", "truth", "both"]
"""Which PLY and NPZ files have ids of the data set instead of the order of the classes."""

_SAME = 1e-3  # units of the files within which two points are one
_CLASS_NAMES = "classes.txt"  # of an export, beside its scenes


class FilePair(NamedTuple):
    """Two files of the same points."""

    predicted: Path
    true: Path


class MeasuredPair(NamedTuple):
    """What was counted of a scene, and in which files."""

    scene: str
    files: FilePair
    checksums: tuple[str, str]
    """SHA-256 of the two files, 64 hexadecimal digits each."""
    cells: list[list[int]]
    """Of `ConfusionMatrix.counts`, as `confusion_cells` gives them."""
    is_new: bool
    """Whether it was counted now, and not in an interrupted call before."""


def evaluate_files(
    predicted: Path,
    true: Path,
    label_set: LabelSet,
    protocol: str = "every point",
    *,
    within: float | None = None,
    ids: FileIds = "none",
    jobs: int = 1,
    halfway: Path | None = None,
    measured: Callable[[MeasuredPair], None] = lambda pair: None,
    report: ProgressCallback = lambda done, total, words: None,
) -> SemanticResult:
    """Score files of predicted labels, or two folders of files of equal names.

    Every point with a true label is scored. Of a protocol its arithmetic is used: what a point
    without prediction counts as, which classes a mean divides by, and how scenes are put together;
    how the labels were predicted is not known. One scene is in memory at a time, and counts are
    added as integers.

    Args:
        predicted: .ply, .npz or .txt as of `read_label_file`, or a folder of them.
        true: the same.
        label_set: that the labels index.
        protocol: name of a protocol, as `evaluate.protocol` of a run.
        within: largest distance at which the nearest predicted point gives a true point its label,
            in the unit of the files; by default points must be the same in the same order.
        ids: which PLY and NPZ files have ids of the data set.
        jobs: worker processes, which share the scenes; the numbers are the same.
        halfway: folder that keeps the counts of every scene, so that a call that was interrupted
            goes on; files that changed since are counted anew. By default nothing is kept.
        measured: told of every scene, in order.
        report: told how many scenes are scored.

    Raises:
        ConfigError: the protocol is unknown, the distance not positive, or the folders do not have
            the same scenes.
        SceneError: a file is missing or damaged, points do not match, labels are of another set, or
            no point has a true label.
    """
    if within is not None and not (within > 0 and np.isfinite(within)):
        raise ConfigError(f"--within is {within:g}, expected a distance > 0")
    rules = get_protocol(protocol, label_set.name, label_set.names)
    pairs = pair_label_files(predicted, true)

    count = partial(measure_pair, label_set=label_set, within=within, ids=ids, halfway=halfway)

    def counts() -> Iterator[Tensor]:
        with ExitStack() as held:
            found: Iterable[MeasuredPair] = map(count, pairs)
            if jobs > 1 and len(pairs) > 1:
                context = multiprocessing.get_context("spawn")
                pool = held.enter_context(
                    ProcessPoolExecutor(min(jobs, len(pairs)), mp_context=context)
                )
                found = pool.map(count, pairs)
            for number, one in enumerate(found):
                yield confusion_counts(one.cells, len(label_set.names))
                measured(one)
                report(number + 1, len(pairs), "scenes")

    result = score_counts(counts(), label_set.names, rules, groups=label_set.classes_by_group)
    if result.points == 0:
        raise SceneError(
            f"{true}: no point has a label of {label_set.name}, expected some to compare with; "
            "name the label set it was labelled with"
        )
    return replace(result, protocol=rules.describe_arithmetic(len(label_set.names)))


def measure_pair(
    pair: FilePair,
    *,
    label_set: LabelSet,
    within: float | None = None,
    ids: FileIds = "none",
    halfway: Path | None = None,
) -> MeasuredPair:
    """Count the points of a scene by predicted and true category.

    Args:
        pair: its two files.
        label_set: as in `evaluate_files`.
        within: as in `evaluate_files`.
        ids: as in `evaluate_files`.
        halfway: as in `evaluate_files`.

    Raises:
        SceneError: as `evaluate_files`.
    """
    scene, checksums = pair.true.stem, (_checksum(pair.predicted), _checksum(pair.true))
    if halfway is None:
        cells = confusion_cells(_count_pair(pair, label_set, within, ids))
        return MeasuredPair(scene, pair, checksums, cells, is_new=True)
    of_what = json.dumps([label_set.facts(), within, ids, checksums], sort_keys=True)
    mark = hashlib.sha256(of_what.encode()).hexdigest()
    kept = HalfwayCounts(halfway, mark, len(label_set.names))
    before = kept.load(scene)
    if before is not None:
        return MeasuredPair(scene, pair, checksums, confusion_cells(before.draws[0]), is_new=False)
    counts = _count_pair(pair, label_set, within, ids)
    kept.save(scene, SceneCounts((counts,), {}))
    return MeasuredPair(scene, pair, checksums, confusion_cells(counts), is_new=True)


def _checksum(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise SceneError(
            f"{path}: cannot be read ({error.strerror}), expected a file of labels; check the path"
        ) from None


def _count_pair(pair: FilePair, label_set: LabelSet, within: float | None, ids: FileIds) -> Tensor:
    first = read_label_file(pair.predicted, label_set, "predicted", has_ids=ids == "both")
    second = read_label_file(pair.true, label_set, "true", has_ids=ids != "none")
    counted = ConfusionMatrix(len(label_set.names))
    counted.update(match_labels(pair, first, second, within), second.labels)
    return counted.counts


def pair_label_files(predicted: Path, true: Path) -> list[FilePair]:
    """List the scenes to compare: the two files, or those of equal names in two folders.

    Raises:
        ConfigError: one is a folder and the other is none, a scene has no prediction or several
            files, or there is no scene.
    """
    if not predicted.is_dir() and not true.is_dir():
        return [FilePair(predicted, true)]
    for one, other in ((predicted, true), (true, predicted)):
        if not one.is_dir():
            raise ConfigError(
                f"{one}: is no folder but {other} is, expected two files or two folders; name both "
                "alike"
            )
    first, second = _files_by_name(predicted), _files_by_name(true)
    if not second:
        raise ConfigError(
            f"{true}: has no files {', '.join(LABEL_SUFFIXES)}, expected one for each scene; name "
            "the folder of the true labels"
        )
    missing = [name for name in second if name not in first]
    if missing:
        raise ConfigError(
            f"{predicted}: has no labels of {len(missing)} of the {len(second)} scenes of {true} "
            f"({', '.join(missing[:3])}), expected files of equal names; export these too"
        )
    spare = [name for name in first if name not in second]
    if spare:
        _LOG.warning(
            "%s: not measured, because %s has no file of that name: %s",
            *(predicted, true, ", ".join(spare)),
        )
    return [FilePair(first[name], file) for name, file in second.items()]


def match_labels(
    pair: FilePair, predicted: LabelFile, true: LabelFile, within: float | None = None
) -> Tensor:
    """Give each true point its predicted label.

    Args:
        pair: the files, for the message.
        predicted: what was read of the first.
        true: what was read of the second.
        within: as in `evaluate_files`.

    Returns:
        (N,) int64; `NO_FEATURE_LABEL` where no predicted point is within the distance.

    Raises:
        SceneError: numbers of points or coordinates differ; with `within`, a file has no finite
            coordinates.
    """
    if within is not None:
        return _nearest_labels(pair, predicted, true, within)
    count, expected = len(predicted.labels), len(true.labels)
    if count != expected:
        raise SceneError(
            f"{pair.predicted}: has {count} points, expected {expected} as {pair.true}; label the "
            "same points, or give --within METRES to take the nearest"
        )
    if predicted.points is not None and true.points is not None and count:
        apart = (predicted.points - true.points).abs().amax(dim=1).nan_to_num(torch.inf)
        # what 32 bits round off where a file holds a survey in them
        step = 2.0**-23 * float(true.points.abs().nan_to_num(0.0).max())
        wrong = int((apart > _SAME + step).sum())
        if wrong:
            raise SceneError(
                f"{pair.predicted}: {wrong} of its {count} points lie elsewhere than in "
                f"{pair.true}, up to {float(apart.max()):.3g} apart, expected the same points in "
                "the same order; give --within METRES to take the nearest"
            )
    return predicted.labels


def _nearest_labels(pair: FilePair, predicted: LabelFile, true: LabelFile, within: float) -> Tensor:
    if predicted.points is None or true.points is None:
        lacking = pair.predicted if predicted.points is None else pair.true
        raise SceneError(
            f"{lacking}: has no coordinates, which --within needs; give a .ply, or an .npz with "
            "points"
        )
    for path, points in ((pair.predicted, predicted.points), (pair.true, true.points)):
        if not bool(points.isfinite().all()):
            raise SceneError(
                f"{path}: some coordinates are not finite, which --within needs; leave these "
                "points out"
            )
    if len(predicted.points) == 0 or len(true.points) == 0:
        return torch.full((len(true.labels),), NO_FEATURE_LABEL)
    distances, nearest = ThinnedTree(predicted.points.numpy(), 1).nearest(true.points.numpy(), 1)
    labels = predicted.labels[torch.from_numpy(nearest[:, 0].astype(np.int64))]
    return torch.where(torch.from_numpy(distances[:, 0] <= within), labels, NO_FEATURE_LABEL)


def _files_by_name(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() not in LABEL_SUFFIXES or file.name == _CLASS_NAMES:
            continue
        if file.stem in found:
            raise ConfigError(
                f"{folder}: has both {found[file.stem].name} and {file.name}, expected one file "
                "for each scene; put the formats into folders of their own"
            )
        found[file.stem] = file
    return found
