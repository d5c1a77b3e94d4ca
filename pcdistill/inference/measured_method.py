"""Result of one method over all measured scenes, as stage evaluate writes it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from pcdistill.artifacts import RunArtifacts, SceneCounts
from pcdistill.evaluation import (
    ConfusionMatrix,
    Protocol,
    SemanticResult,
    class_totals,
    confusion_cells,
    scene_interval,
    score_counts,
)
from pcdistill.labels import IGNORE_LABEL
from pcdistill.version import __version__


def count_scene(
    run: RunArtifacts, features: Tensor, seen: Tensor, predicted: Tensor, truth: Tensor
) -> tuple[Tensor, dict[int, Tensor]]:
    """Count the points of one scene by predicted and true category.

    Args:
        run: with K evaluation classes and the protocol.
        features: (N, D) float, of the points.
        seen: (N,) bool, points that have a feature.
        predicted: (N,) int64, the best of all classes, `NO_FEATURE_LABEL` where there is none.
        truth: (N,) int64, `IGNORE_LABEL` where a point is not scored.

    Returns:
        (K + 1, K) int64, `ConfusionMatrix.counts`; and for each of `Protocol.first_classes` the
        same as if there were no other classes.
    """
    whole = ConfusionMatrix(len(run.words.label_set.names))
    whole.update(predicted, truth)
    first = {}
    for size in run.protocol.first_classes:
        alone = ConfusionMatrix(size)
        guesses = run.words.classify(features, seen, first=size)
        alone.update(guesses, torch.where(truth < size, truth, IGNORE_LABEL))
        first[size] = alone.counts
    return whole.counts, first


def summarize_method(
    run: RunArtifacts, method: str, counts: Mapping[str, SceneCounts]
) -> dict[str, Any]:
    """Merge the counts of the scenes into the numbers of a method, as JSON values.

    Args:
        run: whose method it is.
        method: its name.
        counts: of every predicted scene, in order; those without labels have none.

    Returns:
        the mean over the draws of every number; None for one that nothing tells. `confusion` has
        for each draw the cells of each labelled scene.
    """
    label_set, protocol = run.words.label_set, run.protocol
    names = label_set.names
    labelled = {scene: one for scene, one in counts.items() if one.draws}
    draws = range(max((len(one.draws) for one in labelled.values()), default=0))
    return {
        "name": method,
        **score_draws(
            [one.draws for one in labelled.values()], names, protocol, label_set.classes_by_group
        ),
        "first_classes": {
            str(size): _means(
                [
                    score_counts(
                        (one.first[size][draw] for one in labelled.values()), names[:size], protocol
                    )
                    for draw in draws
                ]
            )
            for size in protocol.first_classes
        },
        "scenes": list(counts),
        "protocol": run.protocol_line,
        "rules": protocol.facts(),
        "label_set": label_set.name,
        "classes": list(names),
        "class_groups": list(label_set.groups),
        "prompts": run.words.label_prompts,
        "teachers": _teachers(run, list(counts)),
        "text_space": run.words.text_encoder.text_space,
        "software": {"pcdistill": __version__, "torch": torch.__version__},
        "confusion": [
            {scene: confusion_cells(one.draws[draw]) for scene, one in labelled.items()}
            for draw in draws
        ],
    }


def score_draws(
    scenes: Sequence[Sequence[Tensor]],
    names: Sequence[str],
    protocol: Protocol,
    groups: Mapping[str, Sequence[int]],
) -> dict[str, Any]:
    """Score the counts of scenes under a protocol, as JSON values.

    Args:
        scenes: of each labelled scene the counts (K + 1, K) int64 of every draw of the method.
        names: K evaluation classes.
        protocol: how counts become one number.
        groups: indices of the classes of each group that has means of its own.

    Returns:
        the mean over the draws of every number, per cent; None for one that nothing tells.
    """
    draws = range(max(map(len, scenes), default=0))
    measured = [
        score_counts((one[draw] for one in scenes), names, protocol, groups=groups)
        for draw in draws
    ]
    measured = [found for found in measured if not math.isnan(found.miou)]
    first = measured[0] if measured else None
    return {
        **_means(measured),
        "interval": _interval(scenes, names, protocol) if first else None,
        "per_class": _mean_by_name([one.per_class for one in measured]) or dict.fromkeys(names),
        "per_class_accuracy": _mean_by_name([one.per_class_accuracy for one in measured])
        or dict.fromkeys(names),
        "groups": {
            group: {
                "miou": _known_mean([one.groups[group].miou for one in measured]),
                "macc": _known_mean([one.groups[group].macc for one in measured]),
                "classes": first.groups[group].classes if first else 0,
            }
            for group in groups
        },
        "points": first.points if first else 0,
        "points_without_answer": first.unseen_points if first else 0,
    }


def _teachers(run: RunArtifacts, scenes: Sequence[str]) -> dict[str, str | None]:
    """Teacher -> revision of its weights, as stage lift recorded it of the first scene."""
    found = {}
    for teacher in run.teachers:
        record = run.workspace.record("lift", f"{teacher}/{scenes[0]}") if scenes else None
        settings = {} if record is None else record.details.get("settings", {})
        found[teacher] = settings.get("revision")
    return found


def _means(measured: Sequence[SemanticResult]) -> dict[str, float | None]:
    """Means over the draws of what is one number for all classes."""
    return {
        "miou": _known_mean([one.miou for one in measured]),
        "macc": _known_mean([one.macc for one in measured]),
        "overall_accuracy": _known_mean([one.overall_accuracy for one in measured]),
    }


def _interval(
    scenes: Sequence[Sequence[Tensor]], names: Sequence[str], protocol: Protocol
) -> list[float] | None:
    """Ends of the 95 % interval of the mIoU over scenes; None with a single scene."""
    totals = [
        torch.stack([class_totals(one, protocol.unseen) for one in counts]) for counts in scenes
    ]
    found = scene_interval(
        totals,
        mean_over=protocol.mean_over,
        average=protocol.average,
        excluded_classes=[names.index(name) for name in protocol.excluded_classes],
    )
    return None if found is None else list(found)


def _known_mean(values: Sequence[float]) -> float | None:
    known = [value for value in values if not math.isnan(value)]
    return fmean(known) if known else None


def _mean_by_name(draws: Sequence[dict[str, float | None]]) -> dict[str, float | None]:
    """Mean over draws of each class; None for a class without a true point."""
    together = {name: [draw[name] for draw in draws] for name in (draws[0] if draws else ())}
    known = {name: [v for v in values if v is not None] for name, values in together.items()}
    return {name: fmean(values) if values else None for name, values in known.items()}
