"""The rows of the results table, and what each says of a scene."""

from __future__ import annotations

import zlib
from typing import Literal, cast

import torch
from torch import Tensor

from pcdistill.choices import suggest
from pcdistill.distillation.trainer import student_features
from pcdistill.distillation.views import mixed_seed
from pcdistill.distillation.voting import Looks, voxel_features
from pcdistill.errors import ConfigError
from pcdistill.fusion import predict_labels
from pcdistill.labels import NO_FEATURE_LABEL
from pcdistill.scenes import open_scene
from pcdistill.stages.fuse import fuse_views, teacher_views
from pcdistill.stages.lift import points_with_features
from pcdistill.stages.partition import superpoint_ids
from pcdistill.stages.results import best_measured
from pcdistill.stages.run import Run
from pcdistill.stages.stage import Input, Task
from pcdistill.stages.students import Student, load_student, student_input

POOLED = "fused:superpoint"
"""The fused features averaged over each superpoint: what the students learn from."""
COMBINED = ("average", "linear", "fused", POOLED)


def row_names(run: Run) -> tuple[str, ...]:
    """Every row: teachers, their combinations, students."""
    teachers = tuple(f"teacher:{name}" for name in run.config.run.teachers)
    students = tuple(f"student:{name}" for name in run.config.distill.student_names)
    return (*teachers, *(COMBINED if teachers else ()), *students)


def row_inputs(run: Run, row: str, scenes: tuple[str, ...]) -> tuple[Input, ...]:
    """What has to be there before a row can speak; a scene that failed is left out."""
    kind, _, name = row.partition(":")
    always = tuple(
        Input(stage, unit, required=False)
        for scene in scenes
        for stage, unit in [
            *(("lift", f"{teacher}/{scene}") for teacher in run.config.run.teachers),
            ("partition", scene),
        ]
    )
    if kind == "student":
        return (*always, Input("distill", name))
    if row in ("fused", POOLED):
        return (*always, *(Input("score", teacher) for teacher in run.config.run.teachers))
    return always


def usable_scenes(run: Run, task: Task, scenes: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `scenes` that every teacher has seen and that are partitioned."""
    lifted, cut = set(task.units_of("lift")), set(task.units_of("partition"))
    teachers = run.config.run.teachers
    return tuple(
        scene
        for scene in scenes
        if scene in cut and all(f"{teacher}/{scene}" in lifted for teacher in teachers)
    )


def row_features(run: Run, row: str, scene: str) -> tuple[Tensor, Tensor]:
    """Feature of every point of a scene as a row of the table has it.

    Returns:
        features: (N, D) float32.
        seen: (N,) bool, points that have a feature; a student has one for every point.
    """
    kind, _, name = row.partition(":")
    if kind == "student":
        network, needs = _student(run, name)
        cloud = student_input(run, scene, needs.input)
        features = student_features(
            network, cloud, needs.voxel_size, run.device, looks=looks(run, scene)
        )
        return features, torch.ones(len(cloud.points), dtype=torch.bool)
    features, seen = _lifted_features(run, row, scene)
    if run.protocol.runs != "turned":
        return features, seen
    points = open_scene(run.workspace.scene(scene)).points
    return voxel_features(points, features, seen, run.voxel_size, looks(run, scene))


def _lifted_features(run: Run, row: str, scene: str) -> tuple[Tensor, Tensor]:
    """What was lifted onto the points themselves; see `row_features`."""
    kind, _, name = row.partition(":")
    if kind == "teacher":
        view = teacher_views(run, scene, (name,))
        return view.of_teacher(0), view.seen[0]
    if row == POOLED:
        features, seen = _lifted_features(run, "fused", scene)
        ids = superpoint_ids(run, scene)
        total = torch.zeros(int(ids.max()) + 1, features.shape[1]).index_add_(0, ids, features)
        return total[ids], torch.bincount(ids[seen], minlength=len(total))[ids] > 0
    views = teacher_views(run, scene)
    method = cast(Literal["average", "linear", "fused"], row)
    return fuse_views(run, views, method), views.seen.any(dim=0)


def looks(run: Run, scene: str) -> Looks:
    """How often, and how, a scene is looked at; the same for every row."""
    turned = run.protocol.runs == "turned"
    seed = mixed_seed(run.config.run.seed, zlib.crc32(scene.encode())) if turned else None
    return Looks(run.protocol.votes, seed)


def row_predictions(run: Run, row: str, scene: str) -> Tensor:
    """Best evaluation class of every point: (N,) int64, `NO_FEATURE_LABEL` where it has none."""
    return predicted_labels(run, *row_features(run, row, scene))


def predicted_labels(run: Run, features: Tensor, seen: Tensor) -> Tensor:
    """Best class of features (N, D): (N,) int64, `NO_FEATURE_LABEL` where not `seen` (N,)."""
    labels = run.label_set.to_categories(predict_labels(features, run.label_embeddings))
    return torch.where(seen, labels, NO_FEATURE_LABEL)


def seen_by_frames(run: Run, scene: str) -> Tensor:
    """(N,) bool: points that at least one teacher has a feature for."""
    seen = torch.zeros(len(superpoint_ids(run, scene)), dtype=torch.bool)
    for teacher in run.config.run.teachers:
        seen[points_with_features(run, teacher, scene)] = True
    return seen


def _student(run: Run, name: str) -> Student:
    key = f"student/{name}"
    if key not in run.memory:
        run.memory[key] = load_student(run, name)
    student: Student = run.memory[key]
    return student


def default_row(run: Run) -> str:
    """The row that answers questions, gives labels and is drawn, unless another is asked for.

    It is the best measured one. Where nothing was measured (scans without labels) it is the student
    that learned from superpoints, which knows every point, or else the last one configured.
    """
    best = best_measured(run.workspace, row_names(run))
    students = run.config.distill.student_names
    fallback = f"student:{'superpoint' if 'superpoint' in students else students[-1]}"
    return best if best is not None else fallback


def require_row(run: Run, row: str | None) -> str:
    """The row that was asked for, or the default.

    Raises:
        ConfigError: there is no such row.
    """
    if row is not None and row not in row_names(run):
        raise ConfigError(f"unknown row '{row}'; {suggest(row, row_names(run))}")
    return row or default_row(run)
