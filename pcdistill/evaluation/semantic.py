"""Semantic segmentation scores of a set of scenes under a protocol."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pcdistill.evaluation.metrics import ConfusionMatrix, mean_over_classes
from pcdistill.evaluation.protocols import OPENSCENE, Protocol
from pcdistill.evaluation.scene_bootstrap import class_totals, scene_interval
from pcdistill.labels import IGNORE_LABEL, NO_FEATURE_LABEL
from pcdistill.suggest import suggest


@dataclass(frozen=True)
class GroupScore:
    """Means over the classes of a group, per cent; NaN where none of them takes part."""

    miou: float
    macc: float
    classes: int
    """Classes of the group that have a true point."""


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
    interval: tuple[float, float] | None = None
    """95 % bootstrap interval of `miou` over scenes, per cent; None where a single scene tells
    nothing of others."""
    groups: dict[str, GroupScore] = field(default_factory=dict)
    """Means of each group of classes, such as head, common and tail."""


def evaluate_semantic(
    scenes: Iterable[tuple[Tensor, Tensor]],
    names: Sequence[str],
    protocol: Protocol = OPENSCENE,
    *,
    groups: Mapping[str, Sequence[int]] | None = None,
    ignore_label: int = IGNORE_LABEL,
    no_feature_label: int = NO_FEATURE_LABEL,
) -> SemanticResult:
    """Score predicted labels of whole scenes under a named protocol.

    Args:
        scenes: (predicted, labels) of each scene, both (N,) integer; read once, one at a time.
            `predicted` holds categories in [0, K) or `no_feature_label`.
        names: K category names, in label order.
        protocol: how points become one number.
        groups: indices of the categories of each group that has means of its own.
        ignore_label: true label of points that take no part, as in `ConfusionMatrix`.
        no_feature_label: predicted label of points without any prediction, as in
            `ConfusionMatrix`.

    Raises:
        ValueError: labels outside the label set, a class that has the number of none, lengths that
            differ, or a class in `protocol.excluded_classes` that is not one of `names`.
    """

    def empty() -> ConfusionMatrix:
        return ConfusionMatrix(
            len(names), ignore_label=ignore_label, no_feature_label=no_feature_label
        )

    def counts() -> Iterator[Tensor]:
        for predicted, labels in scenes:
            alone = empty()
            alone.update(predicted, labels)
            yield alone.counts

    empty()  # refuses numbers that do not go together, where there is no scene too
    return score_counts(counts(), names, protocol, groups=groups)


def score_counts(
    counts: Iterable[Tensor],
    names: Sequence[str],
    protocol: Protocol = OPENSCENE,
    *,
    groups: Mapping[str, Sequence[int]] | None = None,
) -> SemanticResult:
    """Score scenes by their counts under a named protocol.

    One scene's counts are held at a time, and a few numbers of each class of each scene.

    Args:
        counts: (K + 1, K) int64 of each scene, `ConfusionMatrix.counts`; read once.
        names: as in `evaluate_semantic`.
        protocol: as in `evaluate_semantic`.
        groups: as in `evaluate_semantic`.

    Raises:
        ValueError: counts have another shape, or see `evaluate_semantic`.
    """
    for name in protocol.excluded_classes:
        if name not in names:
            raise ValueError(f"protocol leaves out '{name}'; {suggest(name, names)}")
    excluded_classes = [names.index(name) for name in protocol.excluded_classes]
    together = ConfusionMatrix(len(names))
    ious: list[Tensor] = []
    accuracies: list[Tensor] = []
    totals: list[Tensor] = []
    for one in counts:
        alone = ConfusionMatrix.from_counts(one.cpu())
        together.add(alone)
        ious.append(alone.iou(protocol.unseen))
        accuracies.append(alone.accuracy(protocol.unseen))
        totals.append(class_totals(alone.counts, protocol.unseen))

    def mean(per_class: Tensor, left_out: Sequence[int] = excluded_classes) -> float:
        return 100 * mean_over_classes(per_class, protocol.mean_over, left_out)

    # A scene without any true point says nothing; counting it as 0 would punish missing labels.
    scene_miou = [math.nan if iou.isnan().all() else mean(iou) for iou in ious]
    scored = [i for i, value in enumerate(scene_miou) if not math.isnan(value)]
    iou, accuracy = together.iou(protocol.unseen), together.accuracy(protocol.unseen)
    if not scored:
        miou = macc = math.nan
    elif protocol.average == "global":
        miou, macc = mean(iou), mean(accuracy)
    else:
        iou = torch.stack(ious).nanmean(0)
        accuracy = torch.stack(accuracies).nanmean(0)
        miou = sum(scene_miou[i] for i in scored) / len(scored)
        macc = sum(mean(accuracies[i]) for i in scored) / len(scored)

    def group_score(members: Sequence[int]) -> GroupScore:
        others = [k for k in range(len(names)) if k not in members or k in excluded_classes]
        known = sum(not math.isnan(float(iou[k])) for k in members if k not in excluded_classes)
        if not scored:
            return GroupScore(math.nan, math.nan, 0)
        return GroupScore(mean(iou, others), mean(accuracy, others), known)

    return SemanticResult(
        miou=miou,
        macc=macc,
        per_class=_named_percent(names, iou),
        per_class_accuracy=_named_percent(names, accuracy),
        overall_accuracy=100 * together.overall_accuracy(protocol.unseen),
        confusion=together.matrix,
        scenes=len(ious),
        points=together.points,
        unseen_points=int(together.without_feature.sum()),
        protocol=protocol.describe(len(names)),
        scene_miou=tuple(scene_miou),
        interval=scene_interval(
            [one[None] for one in totals],
            mean_over=protocol.mean_over,
            average=protocol.average,
            excluded_classes=excluded_classes,
        ),
        groups={group: group_score(members) for group, members in (groups or {}).items()},
    )


def _named_percent(names: Sequence[str], per_class: Tensor) -> dict[str, float | None]:
    return {
        name: None if math.isnan(value) else 100 * value
        for name, value in zip(names, per_class.tolist(), strict=True)
    }
