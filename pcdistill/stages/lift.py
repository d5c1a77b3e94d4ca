"""Stage lift: features of each teacher, carried from the frames onto the points."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pcdistill.artifacts import estimate_sizes, open_point_features, split_scenes
from pcdistill.callbacks import ProgressCallback
from pcdistill.errors import SceneError
from pcdistill.pipeline import Dependency, RunContext, Stage, Task, write_tensors
from pcdistill.scenes import open_stored_scene
from pcdistill.teachers import GeometryTeacher, encoder_revision, teacher_revision


class LiftStage(Stage):
    """A unit is a teacher and a scene, `teacher/scene`."""

    name = "lift"
    version = 2
    memory_advice = "lower lift.batch"

    def __init__(self, run: RunContext) -> None:
        self._workspace = run.workspace
        self._scenes = split_scenes(run).all
        self._features = open_point_features(run)
        self._sizes = estimate_sizes(run)
        revision = encoder_revision(run.text_encoder)  # teachers may embed captions by it
        self._embedded_by = {} if revision is None else {"text_encoder": revision}

    def units(self) -> tuple[str, ...]:
        """Every teacher with every scene."""
        return tuple(f"{t}/{s}" for t in self._features.teachers for s in self._scenes)

    def settings(self, unit: str) -> Mapping[str, Any]:
        """The teacher and its weights, which points a frame sees, what is stored."""
        name, scene = _parts(unit)
        teacher = self._features.load_teacher(name)
        return {
            "teacher": name,
            "revision": teacher_revision(teacher),
            "text_space": teacher.text_space,
            **self._embedded_by,
            **self._features.rules._asdict(),
            "features": self._features.stores(scene),
        }

    def inputs(self, unit: str) -> tuple[Dependency, ...]:
        """The stored scene, and its superpoints for a teacher that looks at the geometry."""
        teacher, scene = _parts(unit)
        if isinstance(self._features.load_teacher(teacher), GeometryTeacher):
            return (Dependency("ingest", scene), Dependency("partition", scene))
        return (Dependency("ingest", scene),)

    def outputs(self, unit: str) -> tuple[Path, ...]:
        """The teacher's point features of the scene."""
        return (self._workspace.point_features(*_parts(unit)),)

    def work(self, task: Task, report: ProgressCallback) -> str:
        """Lift the features of all frames, or only count the frames that see each point.

        Raises:
            SceneError: there are no frames, or they see nothing.
        """
        name, scene_name = _parts(task.unit)
        scene = open_stored_scene(self._workspace.scene(scene_name))
        if not scene.frames:
            raise SceneError(f"scene {scene_name}: has no frames, so no teacher can look at it")
        teacher = self._features.load_teacher(name)
        tensors: dict[str, Tensor] = {}
        if self._features.stores(scene_name):
            accumulator = self._features.lift(scene, name, report)
            tensors["views"] = accumulator.views
            tensors["features"], tensors["seen"] = accumulator.finish()
            points_with_features = len(tensors["seen"])
            left_out = "" if points_with_features else ", the teacher finds nothing that it knows"
        else:
            tensors["views"] = self._features.count_views(scene, report)
            points_with_features = int((tensors["views"] > 0).sum())
            left_out = ", features are lifted again when they are fused"
        if not bool((tensors["views"] > 0).any()):
            raise SceneError(
                f"scene {scene_name}: no frame sees any of its {len(scene.points)} points; "
                "check poses, intrinsics and depth_scale of the scan"
            )
        provenance = {"teacher": name, "text_space": teacher.text_space, **teacher.provenance}
        write_tensors(self._workspace.point_features(name, scene_name), tensors, provenance)
        unseen = 100 * (1 - points_with_features / len(scene.points))
        counts = tensors["views"]
        mean = counts[counts > 0].float().mean()
        return (
            f"{len(scene.points)} points, {unseen:.1f} % unseen, {mean:.1f} views per seen point"
            f"{left_out}"
        )

    def estimate(self, unit: str) -> int:
        """Bytes if every point is seen: two per channel and 8 for the index, 4 for the count."""
        teacher, scene = _parts(unit)
        points = self._sizes.points(scene)
        if not self._features.stores(scene):
            return 4 * points
        return points * (2 * self._features.load_teacher(teacher).dimensions + 12)


def _parts(unit: str) -> tuple[str, str]:
    """(teacher, scene)."""
    teacher, _, scene = unit.partition("/")
    return teacher, scene
