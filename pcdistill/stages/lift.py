"""Stage lift: what a teacher sees in the frames is carried onto the points."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pcdistill.artifacts import (
    estimate_points,
    lift_stored_scene,
    projection_rules,
    scene_names,
    stores_features,
)
from pcdistill.callbacks import ProgressCallback
from pcdistill.errors import SceneError
from pcdistill.lifting import count_views
from pcdistill.pipeline import Dependency, RunContext, Stage, Task, write_tensors
from pcdistill.scenes import open_scene
from pcdistill.teachers import GeometryTeacher


def _units(run: RunContext) -> tuple[str, ...]:
    return tuple(f"{t}/{s}" for t in run.config.run.teachers for s in scene_names(run))


def _split(unit: str) -> tuple[str, str]:
    teacher, _, scene = unit.partition("/")
    return teacher, scene


def _settings(run: RunContext, unit: str) -> Mapping[str, Any]:
    teacher, scene = _split(unit)
    return {
        "teacher": teacher,
        "revision": run.teacher_revision(teacher),
        "text_space": run.teacher(teacher).text_space,
        **projection_rules(run.config.lift)._asdict(),
        "features": stores_features(run, scene),
    }


def _work(run: RunContext, task: Task, report: ProgressCallback) -> str:
    name, scene_name = _split(task.unit)
    scene = open_scene(run.workspace.scene(scene_name))
    if not scene.frames:
        raise SceneError(f"scene {scene_name}: has no frames, so no teacher can look at it")
    teacher = run.teacher(name)
    tensors: dict[str, Tensor] = {}
    if stores_features(run, scene_name):
        accumulator = lift_stored_scene(run, scene, name, report)
        tensors["views"] = accumulator.views
        tensors["features"], tensors["seen"] = accumulator.finish()
        points_with_features, left_out = len(tensors["seen"]), ""
    else:
        rules, workers = projection_rules(run.config.lift), run.config.lift.workers
        tensors["views"] = count_views(scene, rules, report, workers=workers)
        points_with_features = int((tensors["views"] > 0).sum())
        left_out = ", features are lifted again when they are fused"
    if points_with_features == 0:
        raise SceneError(
            f"scene {scene_name}: no frame sees any of its {len(scene.points)} points; "
            "check poses, intrinsics and depth_scale of the scan"
        )
    provenance = {"teacher": name, "text_space": teacher.text_space, **teacher.provenance}
    write_tensors(run.workspace.point_features(name, scene_name), tensors, provenance)
    unseen = 100 * (1 - points_with_features / len(scene.points))
    counts = tensors["views"]
    mean = counts[counts > 0].float().mean()
    return (
        f"{len(scene.points)} points, {unseen:.1f} % unseen, {mean:.1f} views per seen point"
        f"{left_out}"
    )


def _estimate(run: RunContext, unit: str) -> int:
    """Bytes if every point is seen: two per channel and 8 for the index, 4 for the count."""
    teacher, scene = _split(unit)
    points = estimate_points(run, scene)
    if not stores_features(run, scene):
        return 4 * points
    return points * (2 * run.teacher(teacher).dimensions + 12)


def _inputs(run: RunContext, unit: str) -> tuple[Dependency, ...]:
    teacher, scene = _split(unit)
    if isinstance(run.teacher(teacher), GeometryTeacher):
        return (Dependency("ingest", scene), Dependency("partition", scene))
    return (Dependency("ingest", scene),)


def _outputs(run: RunContext, unit: str) -> tuple[Path, ...]:
    return (run.workspace.point_features(*_split(unit)),)


LIFT = Stage(
    name="lift",
    version=2,
    units=_units,
    settings=_settings,
    inputs=_inputs,
    outputs=_outputs,
    work=_work,
    estimate=_estimate,
)
