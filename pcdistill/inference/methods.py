"""The rows of the results table, and what each says of a scene."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Literal, cast

import torch
from torch import Tensor

from pcdistill.artifacts import (
    LoadedStudent,
    TeacherFeatureStack,
    load_capability,
    load_seen_points,
    load_student,
    load_student_input,
    load_superpoint_ids,
    load_teacher_features,
    validation_scenes,
)
from pcdistill.capability import binary_capability, shuffled_capability
from pcdistill.distillation import (
    Looks,
    infer_point_features,
    mixed_seed,
    voxel_features,
    voxel_means,
)
from pcdistill.errors import ConfigError
from pcdistill.fusion import average_features, fuse_features, linear_features, predict_labels
from pcdistill.inference.true_capability import true_capability
from pcdistill.labels import NO_FEATURE_LABEL
from pcdistill.pipeline import Dependency, RunContext, Task, best_measured, read_json
from pcdistill.scenes import open_scene
from pcdistill.suggest import suggest

POOLED = "fused+superpoints"
"""The fused features averaged over each superpoint: what the students learn from."""
VOXELS = "fused+voxels"
"""The fused features averaged over the voxels and cuts that a student's answer is read from."""
BINARY, SHUFFLED = "binary", "shuffled"
"""Fusion by a capability that knows less: who finds which class at all; the right strengths in the
wrong places."""
ORACLE = "oracle"
"""Fusion by the teachers' true IoU on the measured scenes: what perfect knowledge would give."""
COMBINED = ("average", "linear", BINARY, SHUFFLED, "fused", ORACLE, VOXELS, POOLED)
FUSED = (BINARY, SHUFFLED, "fused", ORACLE, VOXELS, POOLED)
"""Those that weigh the teachers by a capability."""
_OF_ONE_TEACHER = ("fused", VOXELS, POOLED)
"""A single teacher has the whole weight whatever is known of it."""
_FOR_THE_TABLE = (BINARY, SHUFFLED, ORACLE)
"""What others are compared with; they answer nothing unless they are named."""
CAPABILITY = "capability"
"""No row, but a unit of stage evaluate: how far measured and true capability agree."""
DRAWS = 5
"""Permutations over which `SHUFFLED` is averaged."""


def method_names(run: RunContext) -> tuple[str, ...]:
    """Every row: teachers, their combinations, students."""
    teachers = tuple(f"teacher:{name}" for name in run.config.run.teachers)
    students = tuple(f"student:{name}" for name in run.config.distill.student_names)
    combined = COMBINED if len(teachers) > 1 else _OF_ONE_TEACHER if teachers else ()
    return (*teachers, *combined, *students)


def answering_methods(run: RunContext) -> tuple[str, ...]:
    """The rows of which the best one answers: all but baselines and the oracle."""
    return tuple(row for row in method_names(run) if row not in _FOR_THE_TABLE)


def method_dependencies(
    run: RunContext, row: str, scenes: tuple[str, ...]
) -> tuple[Dependency, ...]:
    """What has to be there before a row can speak; a scene that failed is left out."""
    kind, _, name = row.partition(":")
    if row == ORACLE:  # what it knows is measured on all of them
        scenes = tuple(dict.fromkeys((*scenes, *validation_scenes(run))))
    always = tuple(
        Dependency(stage, unit, required=False)
        for scene in scenes
        for stage, unit in [
            *(("lift", f"{teacher}/{scene}") for teacher in run.config.run.teachers),
            ("partition", scene),
        ]
    )
    if kind == "student":
        return (*always, Dependency("distill", name))
    if row in FUSED or row == CAPABILITY:
        return (*always, *(Dependency("score", teacher) for teacher in run.config.run.teachers))
    return always


def ready_scenes(run: RunContext, task: Task, scenes: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `scenes` that every teacher has seen and that are partitioned."""
    lifted, cut = set(task.units_of("lift")), set(task.units_of("partition"))
    teachers = run.config.run.teachers
    return tuple(
        scene
        for scene in scenes
        if scene in cut and all(f"{teacher}/{scene}" in lifted for teacher in teachers)
    )


def method_capabilities(run: RunContext, row: str, scenes: tuple[str, ...]) -> tuple[Tensor, ...]:
    """The tables that a row fuses by, each (T, K) float32 in [0, 1].

    Args:
        run: context of the run.
        row: one of `method_names`.
        scenes: the measured ones, whose labels tell the oracle what is true.

    Returns:
        one for each draw that the row's numbers are averaged over; none for a row that does not
        fuse by capability, and for the oracle where no label tells anything.
    """
    if row not in FUSED:
        return ()
    measured = load_capability(run)
    if row == BINARY:
        return (binary_capability(measured),)
    if row == SHUFFLED:
        seed = run.config.run.seed
        return tuple(shuffled_capability(measured, seed, draw) for draw in range(DRAWS))
    if row == ORACLE:
        true = true_capability(run, scenes)
        known = torch.where(true.isnan(), measured, true)
        return () if bool(true.isnan().all()) else (known,)
    return (measured,)


def method_features(
    run: RunContext, row: str, scene: str, capability: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Feature of every point of a scene as a row of the table has it.

    Args:
        run: context of the run.
        row: one of `method_names`.
        scene: a stored scene.
        capability: (T, K), one of `method_capabilities`; by default the first.

    Returns:
        features: (N, D) float32.
        seen: (N,) bool, points that have a feature; a student has one for every point.

    Raises:
        ConfigError: it is the oracle, and no label told it anything.
    """
    kind, _, name = row.partition(":")
    if kind == "student":
        network, needs = _student(run, name)
        cloud = load_student_input(run, scene, needs.input)
        features = infer_point_features(
            network, cloud, needs.voxel_size, run.device, looks=looks(run, scene)
        )
        return features, torch.ones(len(cloud.points), dtype=torch.bool)
    features, seen = _lifted_features(run, "fused" if row == VOXELS else row, scene, capability)
    if row != VOXELS and run.protocol.runs != "turned":
        return features, seen
    points = open_scene(run.workspace.scene(scene)).points
    average = voxel_means if row == VOXELS else voxel_features
    return average(points, features, seen, run.voxel_size, looks(run, scene))


def _lifted_features(
    run: RunContext, row: str, scene: str, capability: Tensor | None
) -> tuple[Tensor, Tensor]:
    """What was lifted onto the points themselves; see `method_features`."""
    kind, _, name = row.partition(":")
    if kind == "teacher":
        view = load_teacher_features(run, scene, (name,))
        return view.of_teacher(0), view.seen[0]
    if row == POOLED:
        features, seen = _lifted_features(run, "fused", scene, capability)
        ids = load_superpoint_ids(run, scene)
        total = torch.zeros(int(ids.max()) + 1, features.shape[1]).index_add_(0, ids, features)
        return total[ids], torch.bincount(ids[seen], minlength=len(total))[ids] > 0
    if row in FUSED and capability is None:
        capability = _first_capability(run, row)
    views = load_teacher_features(run, scene)
    method = cast(Literal["average", "linear", "fused"], "fused" if row in FUSED else row)
    return fuse_points(run, views, method, capability), views.seen.any(dim=0)


def _first_capability(run: RunContext, row: str) -> Tensor:
    """The table (T, K) of a row's predictions; the oracle's is told by the scenes it measured."""
    if row != ORACLE:
        return method_capabilities(run, row, ())[0]
    if ORACLE not in run.memory:
        measured = read_json(run.workspace.result(row))["scenes"]
        run.memory[ORACLE] = method_capabilities(run, row, tuple(measured))
    tables: tuple[Tensor, ...] = run.memory[ORACLE]
    if not tables:
        raise ConfigError(
            f"row '{row}' says nothing, because no validation scene has a true label that names a "
            "word of run.vocabulary; name another row"
        )
    return tables[0]


def looks(run: RunContext, scene: str) -> Looks:
    """How often, and how, a scene is looked at; the same for every row."""
    turned = run.protocol.runs == "turned"
    seed = mixed_seed(run.config.run.seed, zlib.crc32(scene.encode())) if turned else None
    return Looks(run.protocol.votes, seed)


def predict_scene_labels(run: RunContext, row: str, scene: str) -> Tensor:
    """Best evaluation class of every point: (N,) int64, `NO_FEATURE_LABEL` where it has none."""
    return predicted_labels(run, *method_features(run, row, scene))


def predicted_labels(run: RunContext, features: Tensor, seen: Tensor) -> Tensor:
    """Best class of features (N, D): (N,) int64, `NO_FEATURE_LABEL` where not `seen` (N,)."""
    labels = run.label_set.to_categories(predict_labels(features, run.label_embeddings))
    return torch.where(seen, labels, NO_FEATURE_LABEL)


def load_seen_mask(run: RunContext, scene: str) -> Tensor:
    """(N,) bool: points that at least one teacher has a feature for."""
    seen = torch.zeros(len(load_superpoint_ids(run, scene)), dtype=torch.bool)
    for teacher in run.config.run.teachers:
        seen[load_seen_points(run, teacher, scene)] = True
    return seen


def _student(run: RunContext, name: str) -> LoadedStudent:
    key = f"student/{name}"
    if key not in run.memory:
        run.memory[key] = load_student(run, name)
    student: LoadedStudent = run.memory[key]
    return student


def default_method(run: RunContext) -> str:
    """The row that answers questions, gives labels and is drawn, unless another is asked for.

    It is the best measured one, baselines and the oracle aside. Where nothing was measured (scans
    without labels) it is the student that learned from superpoints, which knows every point, or
    else the last one configured.
    """
    best = best_measured(run.workspace, answering_methods(run))
    students = run.config.distill.student_names
    fallback = f"student:{'superpoint' if 'superpoint' in students else students[-1]}"
    return best if best is not None else fallback


def require_method(run: RunContext, row: str | None) -> str:
    """The row that was asked for, or the default.

    Raises:
        ConfigError: there is no such row.
    """
    if row is not None and row not in method_names(run):
        raise ConfigError(f"unknown method '{row}'; {suggest(row, method_names(run))}")
    return row or default_method(run)


Method = Literal["average", "linear", "fused"]
_POINTS_AT_A_TIME = 16384


def fuse_points(
    run: RunContext, views: TeacherFeatureStack, method: Method, capability: Tensor | None = None
) -> Tensor:
    """One feature per point, (N, D) float32; zero where no teacher saw it.

    Args:
        run: context of the run.
        views: of one scene.
        method: `fused` takes the teachers' capability into account.
        capability: (T, K) float in [0, 1]; by default what stage score measured.
    """
    every = torch.arange(views.seen.shape[1])
    chunks = fuse_in_chunks(run, views, method, every, capability)
    return torch.cat([fused for _, fused in chunks])


def fuse_in_chunks(
    run: RunContext,
    views: TeacherFeatureStack,
    method: Method,
    points: Tensor,
    capability: Tensor | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Fuse some points at a time, so that no table of all of them is needed.

    Args:
        run: context of the run.
        views: features of all teachers.
        method: how they are fused.
        points: (M,) int64.
        capability: (T, K), where the method weighs by it.

    Yields:
        the next points, (n,) int64, and their features, (n, D) float32.
    """
    if method == "fused" and capability is None:
        capability = load_capability(run)
    for chunk in torch.split(points, _POINTS_AT_A_TIME):
        seen = views.seen[:, chunk]
        yield chunk, _fuse(run, views.of_points(chunk), seen, method, capability)


def _fuse(
    run: RunContext, features: Tensor, seen: Tensor, method: Method, capability: Tensor | None
) -> Tensor:
    """(n, D) of the teachers' features (T, n, D); every point is fused by itself."""
    if method == "average":
        return average_features(features, seen)
    if method == "linear":
        return linear_features(features, run.vocabulary_embeddings, seen)
    if capability is None:
        raise ValueError(f"method is '{method}', which needs a capability table")
    return fuse_features(
        features,
        predict_labels(features, run.vocabulary_embeddings),
        capability,
        run.config.fuse.temperature,
        seen=seen,
        mode=run.config.fuse.mode,
    )
