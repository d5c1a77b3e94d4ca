"""Stage fuse: the teachers' point features become one, weighted by measured skill."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from pcdistill.fusion import average_features, fuse_features, linear_features, predict_labels
from pcdistill.geometry import superpoint_mean
from pcdistill.stages.files import read_tensors, write_tensors
from pcdistill.stages.ingest import scene_names
from pcdistill.stages.lift import lifted_features
from pcdistill.stages.partition import superpoint_ids
from pcdistill.stages.run import Run
from pcdistill.stages.score import capability_table
from pcdistill.stages.stage import Input, Report, Stage, Task

Method = Literal["average", "linear", "fused"]


class TeacherViews(NamedTuple):
    """What all teachers say of one scene."""

    features: Tensor
    """(T, N, D) float32, zero where a teacher saw nothing."""
    seen: Tensor
    """(T, N) bool."""


class FusedTargets(NamedTuple):
    """What the student of one scene learns from."""

    superpoint_means: Tensor
    """(S, D) float16, mean fused feature over the seen points of each superpoint."""
    superpoint_seen: Tensor
    """(S,) bool, superpoints with a seen point."""
    seen: Tensor
    """(M,) int64, seen points, ascending."""
    features: Tensor | None
    """(M, D) float16, where they were kept."""


def teacher_views(run: Run, scene: str) -> TeacherViews:
    """Read every teacher's point features of one scene."""
    points = len(superpoint_ids(run, scene))
    teachers = run.config.run.teachers
    dimensions = run.text_encoder.dimensions
    features = torch.zeros(len(teachers), points, dimensions)
    seen = torch.zeros(len(teachers), points, dtype=torch.bool)
    for number, teacher in enumerate(teachers):
        values, index = lifted_features(run, teacher, scene)
        features[number, index] = values.float()
        seen[number, index] = True
    return TeacherViews(features, seen)


def fuse_views(run: Run, views: TeacherViews, method: Method) -> Tensor:
    """One feature per point, (N, D) float32; zero where no teacher saw it."""
    if method == "average":
        return average_features(views.features, views.seen)
    if method == "linear":
        return linear_features(views.features, run.vocabulary_embeddings, views.seen)
    return fuse_features(
        views.features,
        predict_labels(views.features, run.vocabulary_embeddings),
        capability_table(run),
        run.config.fuse.temperature,
        seen=views.seen,
        mode=run.config.fuse.mode,
    )


def fused_targets(run: Run, scene: str) -> FusedTargets:
    """Read the targets of one scene."""
    tensors = read_tensors(run.workspace.fused(scene))
    return FusedTargets(
        tensors["superpoint_means"],
        tensors["superpoint_seen"].bool(),
        tensors["seen"],
        tensors.get("features"),
    )


def _settings(run: Run, scene: str) -> Mapping[str, Any]:
    return {
        **vars(run.config.fuse),
        "teachers": run.config.run.teachers,
        "vocabulary": run.prompts(run.vocabulary),
        "text_encoder": run.config.run.text_encoder,
    }


def _inputs(run: Run, scene: str) -> tuple[Input, ...]:
    teachers = run.config.run.teachers
    return (
        *(Input("lift", f"{teacher}/{scene}") for teacher in teachers),
        *(Input("score", teacher) for teacher in teachers),
        Input("partition", scene),
    )


def _work(run: Run, task: Task, report: Report) -> str:
    scene = task.unit
    ids = superpoint_ids(run, scene)
    views = teacher_views(run, scene)
    fused = fuse_views(run, views, "fused")
    seen = views.seen.any(dim=0).nonzero()[:, 0]
    count = int(ids.max()) + 1
    means = superpoint_mean(fused[seen], ids[seen], count)
    tensors = {
        "superpoint_means": means.half(),
        "superpoint_seen": (torch.bincount(ids[seen], minlength=count) > 0).to(torch.uint8),
        "seen": seen,
    }
    if run.config.fuse.keep_points:
        tensors["features"] = fused[seen].half()
    provenance = {
        "teachers": run.config.run.teachers,
        "text_space": run.text_encoder.text_space,
        "vocabulary": run.vocabulary,
        **vars(run.config.fuse),
    }
    write_tensors(run.workspace.fused(scene), tensors, provenance)
    return f"{len(seen)} seen points in {int(tensors['superpoint_seen'].sum())} superpoints"


def _outputs(run: Run, scene: str) -> tuple[Path, ...]:
    return (run.workspace.fused(scene),)


FUSE = Stage(
    name="fuse",
    version=1,
    units=scene_names,
    settings=_settings,
    inputs=_inputs,
    outputs=_outputs,
    work=_work,
)
