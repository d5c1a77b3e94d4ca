"""Point features of the teachers, as stage lift stores them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pcdistill.artifacts.scene_splits import validation_scenes
from pcdistill.artifacts.superpoints import load_superpoint_ids
from pcdistill.callbacks import ProgressCallback
from pcdistill.fusion import MultiViewAccumulator
from pcdistill.lifting import ProjectionRules, lift_scene
from pcdistill.pipeline import LiftConfig, RunContext, read_tensors
from pcdistill.scenes import Scene, open_scene
from pcdistill.teachers import GeometryTeacher


def projection_rules(config: LiftConfig) -> ProjectionRules:
    """Which points a frame sees by the settings of a run."""
    return ProjectionRules(config.depth_tolerance, config.border, config.occlusion)


def lift_stored_scene(
    run: RunContext, scene: Scene, teacher: str, report: ProgressCallback
) -> MultiViewAccumulator:
    """Lift one teacher's features of a scene by the settings of the run; see `lift_scene`."""
    config, looking = run.config.lift, run.teacher(teacher)
    follows = isinstance(looking, GeometryTeacher)
    return lift_scene(
        scene,
        looking,
        projection_rules(config),
        report,
        superpoint_ids=load_superpoint_ids(run, scene.name) if follows else None,
        batch=config.batch,
        workers=config.workers,
    )


def stores_features(run: RunContext, scene: str) -> bool:
    """Whether the features of a scene's points stay on the disk."""
    return run.config.lift.store_features == "all" or scene in validation_scenes(run)


def load_point_features(run: RunContext, teacher: str, scene: str) -> tuple[Tensor, Tensor]:
    """One teacher's point features, read, or lifted now where they are not kept.

    Returns:
        features: (M, D) float16.
        seen: (M,) int64, the points they belong to, ascending.
    """
    if not stores_features(run, scene):
        stored = open_scene(run.workspace.scene(scene))
        return lift_stored_scene(run, stored, teacher, lambda done, total, words: None).finish()
    tensors = read_tensors(run.workspace.point_features(teacher, scene), ("features", "seen"))
    return tensors["features"], tensors["seen"]


def load_seen_points(run: RunContext, teacher: str, scene: str) -> Tensor:
    """(M,) int64, ascending: the points that a teacher has a feature for; no feature is read."""
    if not stores_features(run, scene):
        return load_point_features(run, teacher, scene)[1]
    return read_tensors(run.workspace.point_features(teacher, scene), ("seen",))["seen"]


def load_view_counts(run: RunContext, teacher: str, scene: str) -> Tensor:
    """(N,) int32: how many frames see each point."""
    return read_tensors(run.workspace.point_features(teacher, scene), ("views",))["views"]


class TeacherFeatureStack:
    """What all teachers say of one scene, as it is stored: seen points only, half precision.

    Args:
        lifted: per teacher its features (M, D) and the points (M,) int64 that they belong to.
        points: N.
    """

    def __init__(self, lifted: Sequence[tuple[Tensor, Tensor]], points: int) -> None:
        self._features = [features for features, _ in lifted]
        self._row = torch.full((len(lifted), points), -1, dtype=torch.int32)
        for number, (_, index) in enumerate(lifted):
            self._row[number, index] = torch.arange(len(index), dtype=torch.int32)
        self.seen = self._row >= 0
        """(T, N) bool."""

    def of_points(self, points: Tensor) -> Tensor:
        """(T, n, D) float32 of points (n,) int64; zero where a teacher saw nothing."""
        return torch.stack([self._of(number, points) for number in range(len(self._features))])

    def of_teacher(self, number: int) -> Tensor:
        """(N, D) float32 of one teacher; zero where it saw nothing."""
        return self._of(number, torch.arange(self.seen.shape[1]))

    def _of(self, number: int, points: Tensor) -> Tensor:
        rows = self._row[number, points].long()
        if len(self._features[number]) == 0:
            return torch.zeros(len(points), self._features[number].shape[1])
        values = self._features[number][rows.clamp(min=0)].float()
        return values.masked_fill_((rows < 0)[:, None], 0)


def load_teacher_features(
    run: RunContext, scene: str, teachers: Sequence[str] | None = None
) -> TeacherFeatureStack:
    """Read the point features of one scene, or lift them where they are not kept.

    Args:
        run: context of the run.
        scene: name of a stored scene.
        teachers: their names, which are the teacher axis; None takes all of the run.
    """
    names = run.config.run.teachers if teachers is None else teachers
    lifted = [load_point_features(run, teacher, scene) for teacher in names]
    return TeacherFeatureStack(lifted, len(load_superpoint_ids(run, scene)))
