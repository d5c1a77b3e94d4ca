"""Evaluation protocols: the choices behind a mean IoU."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from pcdistill.evaluation.metrics import (
    ConfusionMatrix,
    MeanOver,
    Unseen,
    mean_over_classes,
)
from pcdistill.labels import IGNORE_LABEL, NO_FEATURE_LABEL
from pcdistill.suggest import look_up, suggest

_SCORED = {"seen": "points that some frame sees", "all": "all points"}
_NO_ANSWER = {
    "seen": "of which those that a method says nothing about",
    "all": "of which those that a method says nothing about (2D features: what no frame sees)",
}
_UNSEEN = {
    "miss": "count as misses",
    "ignore": "are left out of its numbers",
    "openscene": "are left out of its IoU and are misses in its accuracy",
}
_MEAN_OVER = {
    "all": "mean over all {} classes, one without a true point counting 0",
    "present": "mean over the classes (of {}) that have a true point",
}
_AVERAGE = {
    "global": "all scenes in one confusion matrix",
    "per scene": "each scene scored by itself, then averaged",
}
_RUNS = {
    "shifted": "scores of {} runs added, each moved on the grid",
    "turned": "scores of {} runs added, each turned and scaled at random{}",
}


@dataclass(frozen=True)
class Protocol:
    """The choices behind a mean IoU; two numbers are comparable when these are equal."""

    label_set: str
    """Name of the label set."""
    mean_over: MeanOver = "present"
    """Whether classes without a true point count as 0 or not at all."""
    unseen: Unseen = "miss"
    """What points without a prediction count as."""
    points: Literal["seen", "all"] = "all"
    """Which points were scored: those that some frame sees, or all; up to who calls
    `evaluate_semantic`, where the others have the label to ignore."""
    excluded_classes: tuple[str, ...] = ()
    """Classes that the means leave out, for example wall and floor in a foreground mean."""
    votes: int = 1
    """Runs whose scores are added."""
    runs: Literal["shifted", "turned"] = "shifted"
    """How runs differ: the cloud is moved on the grid, the first time not at all; or it is turned
    and scaled at random before it is cut into voxels, as OpenScene's loaders do."""
    voxel_size: float | None = None
    """Metres, of the voxels that a turned cloud is cut into; None where it was not said."""
    prompt_template: str = "a {} in a scene"
    """What the text encoder reads for each class."""
    average: Literal["global", "per scene"] = "global"
    """One confusion matrix for all scenes, or the mean of each scene's own result."""
    published: Literal["", "openscene"] = ""
    """The published protocol that this is, where it departs from it nowhere, or was made of."""

    @property
    def departures(self) -> tuple[str, ...]:
        """What differs from the published protocol, in words; empty where nothing does."""
        if not self.published:
            return ()
        own = PROTOCOLS[self.published]
        published_voxels = OPENSCENE_LABEL_SETS.get(self.label_set, self.voxel_size)
        found = [
            f"{_SCORED[self.points]} instead of {_SCORED[own.points]}"
            if self.points != own.points
            else "",
            f"{_count(self.votes)} instead of {own.votes}" if self.votes != own.votes else "",
            f"the prompt '{self.prompt_template}' instead of '{own.prompt_template}'"
            if self.prompt_template != own.prompt_template
            else "",
            f"voxels of {self.voxel_size:g} m instead of {published_voxels:g} m"
            if self.voxel_size not in (None, published_voxels)
            else "",
            f"the label set {self.label_set}, which it does not know"
            if self.label_set not in OPENSCENE_LABEL_SETS
            else "",
            f"without {', '.join(self.excluded_classes)}" if self.excluded_classes else "",
        ]
        return tuple(words for words in found if words)

    def describe(self, classes: int, *, silent: bool = True) -> str:
        """Describe the protocol in one line, for a report of `classes` classes.

        Args:
            classes: of the label set.
            silent: whether a method may say nothing about a scored point, as 2D features do where
                no frame sees it; a student has an answer for every point.
        """
        scored = _SCORED[self.points]
        if silent:
            scored = f"{scored}, {_NO_ANSWER[self.points]} {_UNSEEN[self.unseen]}"
        parts = [
            *([self._claim()] if self.published else []),
            scored,
            f"label set {self.label_set}",
            _MEAN_OVER[self.mean_over].format(classes - len(self.excluded_classes)),
            *([f"without {', '.join(self.excluded_classes)}"] if self.excluded_classes else []),
            _AVERAGE[self.average],
            self._said_of_runs(),
            f"prompt '{self.prompt_template}'",
        ]
        return "; ".join(parts)

    def describe_arithmetic(self, classes: int) -> str:
        """Describe how labels become one number, whoever predicted them, for `classes` classes."""
        return "; ".join(
            [
                f"points without a prediction {_UNSEEN[self.unseen]}",
                f"label set {self.label_set}",
                _MEAN_OVER[self.mean_over].format(classes - len(self.excluded_classes)),
                _AVERAGE[self.average],
            ]
        )

    def _claim(self) -> str:
        departures = self.departures
        return (
            f"OpenScene's protocol but for {', '.join(departures)}"
            if departures
            else ("OpenScene's protocol")
        )

    def _said_of_runs(self) -> str:
        size = "" if self.voxel_size is None else f", in voxels of {self.voxel_size:g} m"
        if self.votes > 1:
            return _RUNS[self.runs].format(self.votes, size)
        turned = f"one run, turned and scaled at random{size}"
        return turned if self.runs == "turned" else "one run"


def _count(runs: int) -> str:
    return "one run" if runs == 1 else f"{runs} runs"


OPENSCENE_LABEL_SETS = {
    **dict.fromkeys(("scannet20", "matterport21", "matterport40"), 0.02),
    **dict.fromkeys(("matterport80", "matterport160"), 0.02),
    "nuscenes16": 0.05,
}
"""What OpenScene's evaluation knows, with the edge of its voxels there, in metres."""
OPENSCENE = Protocol(
    label_set="scannet20",
    mean_over="all",
    unseen="openscene",
    votes=5,
    runs="turned",
    published="openscene",
)
"""OpenScene's protocol on ScanNet; `get_protocol("openscene", ...)` for other data sets.

Of every point of the cloud: five runs with added scores, each turned and scaled at random before it
is cut into voxels (its loaders are built with augmentation in evaluation too), 2D features those of
each voxel's first point; a fixed denominator of all classes, absent classes counting 0; points
whose voxel had no feature in the last run out of the IoU but in the accuracy; prompt "a XX in a
scene", "other" as it is. Its scores are added in half precision; here they are not rounded.

Source: OpenScene, run/evaluate.py, dataset/feature_loader.py, dataset/voxelizer.py,
dataset/point_loader.py, util/metric.py, config/*/ours_*_pretrained.yaml.
"""

PROTOCOLS: dict[str, Protocol] = {
    "openscene": OPENSCENE,
    "every point": Protocol(label_set="", unseen="miss", points="seen"),
    "seen": Protocol(label_set="", unseen="ignore", points="seen"),
}
"""By the name a configuration uses; the label set is filled in.

Under "seen" each method is scored on the points it has an answer for, under "every point" all
methods on the same points, so that leaving points unanswered does not pay.
"""


def get_protocol(
    name: str,
    label_set: str,
    *,
    votes: int | None = None,
    prompt_template: str | None = None,
    points: Literal["seen", "all"] | None = None,
    voxel_size: float | None = None,
) -> Protocol:
    """Give the protocol of a name for one label set.

    Args:
        name: a key of `PROTOCOLS`.
        label_set: name of the label set that is scored.
        votes: runs whose scores are added; the protocol's own number by default.
        prompt_template: what the text encoder reads; the protocol's own by default.
        points: which points are scored; the protocol's own by default.
        voxel_size: metres, of the voxels that turned clouds are cut into, where it is known.

    Raises:
        ConfigError: no protocol has that name.
    """
    known = look_up("protocol", name, PROTOCOLS)
    return replace(
        known,
        label_set=label_set,
        votes=known.votes if votes is None else votes,
        prompt_template=known.prompt_template if prompt_template is None else prompt_template,
        points=known.points if points is None else points,
        voxel_size=voxel_size if known.runs == "turned" else None,
    )


@dataclass(frozen=True, eq=False)
class SemanticResult:
    """How well one method labelled a set of scenes. All ratios in per cent, 0 to 100."""

    miou: float
    """Mean intersection over union, per cent; NaN without any scored point."""
    macc: float
    """Mean of the per-class accuracies (recalls), per cent; NaN without any scored point."""
    per_class: dict[str, float | None]
    """IoU of each class, per cent; None for a class without a true point."""
    per_class_accuracy: dict[str, float | None]
    """Accuracy of each class, per cent; None for a class without a true point."""
    overall_accuracy: float
    """Share of points labelled right, per cent; NaN without any scored point."""
    confusion: Tensor
    """(K, K) int64 on the CPU, predicted by true category, over all scenes."""
    scenes: int
    """Scenes counted, with or without labelled points."""
    points: int
    """Points with a true category."""
    unseen_points: int
    """Those of them without a prediction."""
    protocol: str
    """`Protocol.describe`."""
    scene_miou: tuple[float, ...] = ()
    """Mean IoU of each scene by itself, per cent, in order; NaN for a scene without labels."""


def evaluate_semantic(
    scenes: Iterable[tuple[Tensor, Tensor]],
    names: Sequence[str],
    protocol: Protocol = OPENSCENE,
    *,
    ignore_label: int = IGNORE_LABEL,
    no_feature_label: int = NO_FEATURE_LABEL,
) -> SemanticResult:
    """Score predicted labels of whole scenes under a named protocol.

    Args:
        scenes: (predicted, labels) of each scene, both (N,) integer; read once, one at a time.
            `predicted` holds categories in [0, K) or `no_feature_label`.
        names: K category names, in label order.
        protocol: how points become one number.
        ignore_label: true label of points that take no part, as in `ConfusionMatrix`.
        no_feature_label: predicted label of points without any prediction, as in
            `ConfusionMatrix`.

    Raises:
        ValueError: labels outside the label set, a class that has the number of none, lengths that
            differ, or a class in `protocol.excluded_classes` that is not one of `names`.
    """
    for name in protocol.excluded_classes:
        if name not in names:
            raise ValueError(f"protocol leaves out '{name}'; {suggest(name, names)}")
    excluded_classes = [names.index(name) for name in protocol.excluded_classes]

    def empty() -> ConfusionMatrix:
        return ConfusionMatrix(
            len(names), ignore_label=ignore_label, no_feature_label=no_feature_label
        )

    together = empty()
    ious: list[Tensor] = []
    accuracies: list[Tensor] = []
    for predicted, labels in scenes:
        alone = empty()
        alone.update(predicted, labels)
        together.counts = together.counts.to(alone.counts.device) + alone.counts
        ious.append(alone.iou(protocol.unseen).cpu())
        accuracies.append(alone.accuracy(protocol.unseen).cpu())

    def mean(per_class: Tensor) -> float:
        return 100 * mean_over_classes(per_class, protocol.mean_over, excluded_classes)

    # A scene without any true point says nothing; counting it as 0 would punish missing labels.
    scene_miou = [math.nan if iou.isnan().all() else mean(iou) for iou in ious]
    scored = [i for i, value in enumerate(scene_miou) if not math.isnan(value)]
    iou = together.iou(protocol.unseen).cpu()
    accuracy = together.accuracy(protocol.unseen).cpu()
    if not scored:
        miou = macc = math.nan
    elif protocol.average == "global":
        miou, macc = mean(iou), mean(accuracy)
    else:
        iou = torch.stack(ious).nanmean(0)
        accuracy = torch.stack(accuracies).nanmean(0)
        miou = sum(scene_miou[i] for i in scored) / len(scored)
        macc = sum(mean(accuracies[i]) for i in scored) / len(scored)
    return SemanticResult(
        miou=miou,
        macc=macc,
        per_class=_named_percent(names, iou),
        per_class_accuracy=_named_percent(names, accuracy),
        overall_accuracy=100 * together.overall_accuracy(protocol.unseen),
        confusion=together.matrix.cpu(),
        scenes=len(ious),
        points=together.points,
        unseen_points=int(together.without_feature.sum()),
        protocol=protocol.describe(len(names)),
        scene_miou=tuple(scene_miou),
    )


def _named_percent(names: Sequence[str], per_class: Tensor) -> dict[str, float | None]:
    return {
        name: None if math.isnan(value) else 100 * value
        for name, value in zip(names, per_class.tolist(), strict=True)
    }
