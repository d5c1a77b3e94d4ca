"""What exactly a number was computed on, so that it can be compared with another."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from pcdistill.choices import suggest
from pcdistill.errors import ConfigError
from pcdistill.evaluation.metrics import (
    ConfusionMatrix,
    MeanOver,
    Unseen,
    mean_over_classes,
)
from pcdistill.labels import IGNORE_LABEL, NO_FEATURE_LABEL

_UNSEEN = {
    "wrong": "points that no frame saw count as misses",
    "left out": "points that no frame saw are left out",
    "openscene": "points that no frame saw are left out of the IoU and are misses in the accuracy",
}
_MEAN_OVER = {
    "all": "mean over all {} classes, one without a true point counting 0",
    "present": "mean over the classes (of {}) that have a true point",
}


@dataclass(frozen=True)
class Protocol:
    """The choices behind a mean IoU; two numbers are comparable when these are equal."""

    label_set: str
    """Name of the label set."""
    mean_over: MeanOver = "present"
    """Whether classes without a true point count as 0 or not at all."""
    unseen: Unseen = "wrong"
    """What points without a prediction count as."""
    left_out: tuple[str, ...] = ()
    """Classes that the means leave out, for example wall and floor in a foreground mean."""
    votes: int = 1
    """Runs at random voxel offsets whose scores are added."""
    prompt_template: str = "a {} in a scene"
    """What the text encoder reads for each class."""
    average: Literal["global", "per scene"] = "global"
    """One confusion matrix for all scenes, or the mean of each scene's own result."""

    def describe(self, classes: int) -> str:
        """Say it in one line, for a report of `classes` classes."""
        parts = [
            f"label set {self.label_set}",
            _MEAN_OVER[self.mean_over].format(classes - len(self.left_out)),
            _UNSEEN[self.unseen],
            "all scenes in one confusion matrix"
            if self.average == "global"
            else "each scene scored by itself, then averaged",
            "one run" if self.votes == 1 else f"scores of {self.votes} runs added",
            f"prompt '{self.prompt_template}'",
        ]
        if self.left_out:
            parts.insert(2, f"without {', '.join(self.left_out)}")
        return "; ".join(parts)


OPENSCENE = Protocol(label_set="scannet20", mean_over="all", unseen="openscene", votes=5)
"""OpenScene's protocol on ScanNet; `named_protocol("openscene", ...)` for other data sets.

Five evaluations at random voxel offsets with added scores, a fixed denominator of all classes,
absent classes counting 0, points without feature out of the IoU but in the accuracy.
"""

PROTOCOLS: dict[str, Protocol] = {
    "openscene": OPENSCENE,
    "every point": Protocol(label_set="", unseen="wrong"),
    "seen": Protocol(label_set="", unseen="left out"),
}
"""By the name a configuration uses; the label set is filled in.

Under "seen" each method is scored on the points it has an answer for, under "every point" all
methods on the same points, so that leaving points unanswered does not pay.
"""


def named_protocol(
    name: str,
    label_set: str,
    *,
    votes: int | None = None,
    prompt_template: str | None = None,
) -> Protocol:
    """Give the protocol of a name for one label set.

    Args:
        name: a key of `PROTOCOLS`.
        label_set: name of the label set that is scored.
        votes: runs whose scores are added; the protocol's own number by default.
        prompt_template: what the text encoder reads; the protocol's own by default.

    Raises:
        ConfigError: no protocol has that name.
    """
    if name not in PROTOCOLS:
        raise ConfigError(f"unknown protocol '{name}'; {suggest(name, PROTOCOLS)}")
    known = PROTOCOLS[name]
    return replace(
        known,
        label_set=label_set,
        votes=known.votes if votes is None else votes,
        prompt_template=known.prompt_template if prompt_template is None else prompt_template,
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
            differ, or a class in `protocol.left_out` that is not one of `names`.
    """
    for name in protocol.left_out:
        if name not in names:
            raise ValueError(f"protocol leaves out '{name}'; {suggest(name, names)}")
    left_out = [names.index(name) for name in protocol.left_out]

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
        return 100 * mean_over_classes(per_class, protocol.mean_over, left_out)

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
