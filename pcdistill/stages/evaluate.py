"""Stage evaluate: each method's labels on the validation scenes, and how right they are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pcdistill.errors import SceneError
from pcdistill.evaluation import evaluate_semantic
from pcdistill.labels import IGNORE_LABEL
from pcdistill.scenes import open_scene
from pcdistill.stages.files import read_json, read_tensors, write_json, write_tensors
from pcdistill.stages.ingest import labels_in_memory, validation_scenes
from pcdistill.stages.pieces import average_pieces, made_from, scene_pieces
from pcdistill.stages.rows import (
    COMBINED,
    POOLED,
    predicted_labels,
    row_features,
    row_inputs,
    row_names,
    seen_by_frames,
    usable_scenes,
)
from pcdistill.stages.run import Run
from pcdistill.stages.sizes import expected_points, expected_superpoints
from pcdistill.stages.stage import Input, Report, Stage, Task
from pcdistill.stages.workspace import slug


def run_protocol(run: Run) -> str:
    """The protocol of the run in one line."""
    classes, silent = len(run.label_set.names), len(run.config.run.teachers) > 0
    return run.protocol.describe(classes, silent=silent)


def predictions(run: Run, row: str, scene: str) -> Tensor:
    """Read the labels (N,) int64 that a row gave to a scene, or `NO_FEATURE_LABEL`."""
    return read_tensors(_prediction_path(run, row, scene), ("labels",))["labels"].long()


def result(run: Run, row: str) -> dict[str, Any]:
    """Read the numbers of a row; `miou` is None where no scene has labels."""
    found: dict[str, Any] = read_json(run.workspace.evaluation(row) / "result.json")
    return found


def _prediction_path(run: Run, row: str, scene: str) -> Path:
    return run.workspace.evaluation(row) / f"{slug(scene)}.safetensors"


def _settings(run: Run, row: str) -> Mapping[str, Any]:
    turned = run.protocol.runs == "turned"
    return {
        "row": row,
        "label_set": run.label_set.facts(),
        "prompts": run.label_prompts,
        "vocabulary": run.prompts(run.vocabulary) if row in COMBINED else None,
        "text_encoder": run.config.run.text_encoder,
        "fuse": vars(run.config.fuse) if row in ("fused", POOLED) else None,
        "voxel_size": run.voxel_size if row.startswith("student") or turned else None,
        "seed": run.config.run.seed if turned else None,
        "protocol": run_protocol(run),
    }


def _inputs(run: Run, row: str) -> tuple[Input, ...]:
    return row_inputs(run, row, validation_scenes(run))


def _work(run: Run, task: Task, report: Report) -> str:
    row = task.unit
    scenes = usable_scenes(run, task, validation_scenes(run))
    if not scenes:
        raise SceneError(
            f"{row}: none of the {len(validation_scenes(run))} validation scenes is lifted and "
            "partitioned; mend what failed before"
        )
    protocol, description = run.protocol, run_protocol(run)
    labelled: list[tuple[Tensor, Tensor]] = []
    for number, name in enumerate(scenes):
        scene = open_scene(run.workspace.scene(name))
        features, seen = row_features(run, row, name)
        predicted = predicted_labels(run, features, seen)
        pieces = average_pieces(features, seen, scene_pieces(run, scene))
        write_tensors(
            _prediction_path(run, row, name),
            {
                "labels": predicted.int(),
                "pieces": pieces.ids.int(),
                "piece_features": pieces.features.half(),
            },
            {
                "row": row,
                "classes": run.label_set.names,
                "made_from": made_from(run, row, name),
            },
        )
        truth = scene.labels
        if truth is not None:
            truth = labels_in_memory(run, scene, truth)
            if protocol.points == "seen":
                truth = torch.where(seen_by_frames(run, name), truth, IGNORE_LABEL)
            labelled.append((predicted, truth))
        report(number + 1, len(scenes), "scenes")
    found = evaluate_semantic(labelled, run.label_set.names, protocol)
    measured = not math.isnan(found.miou)
    write_json(
        run.workspace.evaluation(row) / "result.json",
        {
            "name": row,
            "miou": found.miou if measured else None,
            "macc": found.macc if measured else None,
            "per_class": found.per_class,
            "points": found.points,
            "points_without_answer": found.unseen_points,
            "scenes": list(scenes),
            "protocol": description,
        },
    )
    if not measured:
        return f"labelled {len(scenes)} scenes, which have no true labels to compare with"
    return f"mIoU {found.miou:.1f} %, mAcc {found.macc:.1f} % on {len(labelled)} scenes"


def _estimate(run: Run, row: str) -> int:
    """Bytes: a label and a piece of four each per point, and the pieces' features."""
    scenes = validation_scenes(run)
    features = 2 * run.text_encoder.dimensions
    return sum(
        8 * expected_points(run, scene) + features * expected_superpoints(run, scene)
        for scene in scenes
    )


def _outputs(run: Run, row: str) -> tuple[Path, ...]:
    return (run.workspace.evaluation(row),)


EVALUATE = Stage(
    name="evaluate",
    version=5,
    units=row_names,
    settings=_settings,
    inputs=_inputs,
    outputs=_outputs,
    work=_work,
    estimate=_estimate,
)
