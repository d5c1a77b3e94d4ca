"""Stage evaluate: each method's labels on the validation scenes, and how right they are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pcdistill.artifacts import (
    estimate_points,
    estimate_superpoints,
    evaluation_protocol,
    labels_in_memory,
    validation_scenes,
)
from pcdistill.callbacks import ProgressCallback
from pcdistill.errors import SceneError
from pcdistill.evaluation import (
    ConfusionMatrix,
    confusion_cells,
    evaluate_semantic,
)
from pcdistill.inference import (
    CAPABILITY,
    COMBINED,
    FUSED,
    ORACLE,
    SHUFFLED,
    VOXELS,
    average_pieces,
    load_seen_mask,
    made_from,
    measure_capability,
    method_capabilities,
    method_dependencies,
    method_features,
    method_names,
    predicted_labels,
    ready_scenes,
    scene_pieces,
)
from pcdistill.labels import IGNORE_LABEL
from pcdistill.pipeline import Dependency, RunContext, Stage, Task, write_json, write_tensors
from pcdistill.scenes import Scene, open_scene


def _settings(run: RunContext, row: str) -> Mapping[str, Any]:
    turned = run.protocol.runs == "turned"
    in_voxels = turned or row == VOXELS or row.startswith("student")
    compares_words = row in COMBINED or row == CAPABILITY
    return {
        "row": row,
        "label_set": run.label_set.facts(),
        "prompts": run.label_prompts,
        "vocabulary": run.prompts(run.vocabulary) if compares_words else None,
        "text_encoder": run.config.run.text_encoder,
        "fuse": vars(run.config.fuse) if row in FUSED else None,
        "voxel_size": run.voxel_size if in_voxels else None,
        "seed": run.config.run.seed if turned or row == SHUFFLED else None,
        "protocol": evaluation_protocol(run),
    }


def _units(run: RunContext) -> tuple[str, ...]:
    return (*method_names(run), *((CAPABILITY,) if run.config.run.teachers else ()))


def _inputs(run: RunContext, row: str) -> tuple[Dependency, ...]:
    return method_dependencies(run, row, validation_scenes(run))


def _work(run: RunContext, task: Task, report: ProgressCallback) -> str:
    row = task.unit
    scenes = ready_scenes(run, task, validation_scenes(run))
    if not scenes:
        raise SceneError(
            f"{row}: none of the {len(validation_scenes(run))} validation scenes is lifted and "
            "partitioned; mend what failed before"
        )
    if row == CAPABILITY:
        return measure_capability(run, scenes)
    tables = method_capabilities(run, row, scenes)
    if row == ORACLE and not tables:
        _write_result(run, row, scenes, [])
        return "no true label names a word of the vocabulary, so that nothing can be known"
    draws: Sequence[Tensor | None] = tables or (None,)
    labelled: list[list[Labelled]] = [[] for _ in draws]
    for number, name in enumerate(scenes):
        scene = open_scene(run.workspace.scene(name))
        truth = _scored_labels(run, scene)
        for draw, table in enumerate(draws):
            features, seen = method_features(run, row, name, table)
            predicted = predicted_labels(run, features, seen)
            if draw == 0:
                _write_prediction(run, row, scene, features, seen, predicted)
            if truth is not None:
                labelled[draw].append(Labelled(name, predicted, truth))
        report(number + 1, len(scenes), "scenes")
    found = _write_result(run, row, scenes, labelled)
    if found["miou"] is None:
        return f"labelled {len(scenes)} scenes, which have no true labels to compare with"
    drawn = f", mean of {len(draws)} draws" if len(draws) > 1 else ""
    return (
        f"mIoU {found['miou']:.1f} %, mAcc {found['macc']:.1f} % on {len(labelled[0])} scenes"
        f"{drawn}"
    )


class Labelled(NamedTuple):
    """What a row says of a scene, and what is true."""

    scene: str
    predicted: Tensor
    """(N,) int64, `NO_FEATURE_LABEL` where the row has no answer."""
    truth: Tensor
    """(N,) int64, `IGNORE_LABEL` where a point is not scored."""


def _scored_labels(run: RunContext, scene: Scene) -> Tensor | None:
    """(N,) int64 true labels, `IGNORE_LABEL` where a point is not scored; None without any."""
    if scene.labels is None:
        return None
    truth = labels_in_memory(run, scene, scene.labels)
    if run.protocol.points == "seen":
        truth = torch.where(load_seen_mask(run, scene.name), truth, IGNORE_LABEL)
    return truth


def _write_prediction(
    run: RunContext, row: str, scene: Scene, features: Tensor, seen: Tensor, predicted: Tensor
) -> None:
    pieces = average_pieces(features, seen, scene_pieces(run, scene))
    write_tensors(
        run.workspace.prediction(row, scene.name),
        {
            "labels": predicted.int(),
            "pieces": pieces.ids.int(),
            "piece_features": pieces.features.half(),
        },
        {
            "row": row,
            "classes": run.label_set.names,
            "made_from": made_from(run, row, scene.name),
        },
    )


def _write_result(
    run: RunContext, row: str, scenes: tuple[str, ...], labelled: list[list[Labelled]]
) -> dict[str, Any]:
    """Write the numbers of a row: the mean over its draws, and each draw's counts of each scene."""
    names = run.label_set.names
    measured = [
        evaluate_semantic([(one.predicted, one.truth) for one in draw], names, run.protocol)
        for draw in labelled
    ]
    measured = [found for found in measured if not math.isnan(found.miou)]
    first = measured[0] if measured else None
    found = {
        "name": row,
        "miou": fmean(draw.miou for draw in measured) if first else None,
        "macc": fmean(draw.macc for draw in measured) if first else None,
        "per_class": _mean_per_class([draw.per_class for draw in measured]) or dict.fromkeys(names),
        "points": first.points if first else 0,
        "points_without_answer": first.unseen_points if first else 0,
        "scenes": list(scenes),
        "protocol": evaluation_protocol(run),
        "confusion": [
            {one.scene: _confusion(one, len(names)) for one in draw} for draw in labelled
        ],
    }
    write_json(run.workspace.result(row), found)
    return found


def _confusion(one: Labelled, classes: int) -> list[list[int]]:
    counted = ConfusionMatrix(classes)
    counted.update(one.predicted, one.truth)
    return confusion_cells(counted.counts)


def _mean_per_class(draws: list[dict[str, float | None]]) -> dict[str, float | None]:
    """Mean over draws of each class; None for a class without a true point."""
    together = {name: [draw[name] for draw in draws] for name in (draws[0] if draws else ())}
    known = {name: [v for v in values if v is not None] for name, values in together.items()}
    return {name: fmean(values) if values else None for name, values in known.items()}


def _estimate(run: RunContext, row: str) -> int:
    """Bytes: a label and a piece of four each per point, and the pieces' features."""
    if row == CAPABILITY:
        return 0
    scenes = validation_scenes(run)
    features = 2 * run.text_encoder.dimensions
    return sum(
        8 * estimate_points(run, scene) + features * estimate_superpoints(run, scene)
        for scene in scenes
    )


def _outputs(run: RunContext, row: str) -> tuple[Path, ...]:
    if row == CAPABILITY:
        return (run.workspace.true_capability,)
    return (run.workspace.evaluation(row),)


EVALUATE = Stage(
    name="evaluate",
    version=6,
    units=_units,
    settings=_settings,
    inputs=_inputs,
    outputs=_outputs,
    work=_work,
    estimate=_estimate,
)
