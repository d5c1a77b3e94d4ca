"""Point features of the teachers, as stage lift stores them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pcdistill.artifacts.scene_splits import split_scenes
from pcdistill.artifacts.superpoints import load_superpoint_ids
from pcdistill.callbacks import ProgressCallback
from pcdistill.fusion import MultiViewAccumulator
from pcdistill.lifting import ProjectionRules, count_views, lift_scene
from pcdistill.pipeline import (
    LiftConfig,
    RunContext,
    Workspace,
    read_provenance,
    read_rows,
    read_tensors,
)
from pcdistill.scenes import Scene, open_stored_scene
from pcdistill.teachers import GeometryTeacher, Teacher


def projection_rules(config: LiftConfig) -> ProjectionRules:
    """Take the rules of which points a frame sees from the settings of a run."""
    return ProjectionRules(config.depth_tolerance, config.border, config.occlusion)


class TeacherFeatureStack:
    """Point features of one scene by several teachers: seen points only, in half precision.

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


class PointFeatureStore:
    """Point features of the teachers of a run: as stage lift stored them, else lifted when asked.

    Args:
        workspace: of the run.
        teachers: T names, which are the teacher axis.
        load_teacher: gives a loaded teacher by name.
        config: how features are lifted, and of which scenes they are stored.
        validation: names of the measured scenes, whose features are always stored.
    """

    def __init__(
        self,
        workspace: Workspace,
        teachers: tuple[str, ...],
        load_teacher: Callable[[str], Teacher],
        config: LiftConfig,
        validation: tuple[str, ...],
    ) -> None:
        self.teachers = teachers
        self.load_teacher = load_teacher
        self.rules = projection_rules(config)
        """Which points a frame sees."""
        self._workspace = workspace
        self._config = config
        self._validation = frozenset(validation)

    def stores(self, scene: str) -> bool:
        """Whether the features of a scene's points stay on the disk."""
        return self._config.store_features == "all" or scene in self._validation

    def lift(self, scene: Scene, teacher: str, report: ProgressCallback) -> MultiViewAccumulator:
        """Lift one teacher's features of a scene by the settings of the run; see `lift_scene`."""
        loaded = self.load_teacher(teacher)
        follows = isinstance(loaded, GeometryTeacher)
        return lift_scene(
            scene,
            loaded,
            self.rules,
            report,
            superpoint_ids=load_superpoint_ids(self._workspace, scene.name) if follows else None,
            batch=self._config.batch,
            workers=self._config.workers,
        )

    def count_views(self, scene: Scene, report: ProgressCallback) -> Tensor:
        """(N,) int32: how many frames see each point, without looking at their images."""
        return count_views(scene, self.rules, report, workers=self._config.workers)

    def load(self, teacher: str, scene: str) -> tuple[Tensor, Tensor]:
        """Read one teacher's point features, or lift them now where they are not stored.

        Returns:
            features: (M, D) float16.
            seen: (M,) int64, the points they belong to, ascending.
        """
        if not self.stores(scene):
            stored = open_stored_scene(self._workspace.scene(scene))
            return self.lift(stored, teacher, lambda done, total, words: None).finish()
        path = self._workspace.point_features(teacher, scene)
        tensors = read_tensors(path, ("features", "seen"))
        return tensors["features"], tensors["seen"]

    def load_stack(self, scene: str, teachers: Sequence[str] | None = None) -> TeacherFeatureStack:
        """Read the point features of a scene by several teachers; None takes all of the run."""
        names = self.teachers if teachers is None else teachers
        lifted = [self.load(teacher, scene) for teacher in names]
        return TeacherFeatureStack(lifted, len(load_superpoint_ids(self._workspace, scene)))

    def load_points(self, scene: str, points: Tensor) -> TeacherFeatureStack:
        """Read the features of some points of a scene by all teachers of the run, nothing else.

        Args:
            scene: whose features are stored, see `stores`.
            points: (n,) int64.

        Returns:
            a stack of n points, in their order.
        """
        lifted = []
        for teacher in self.teachers:
            path = self._workspace.point_features(teacher, scene)
            seen = read_tensors(path, ("seen",))["seen"]  # (M,) ascending
            row = torch.searchsorted(seen, points).clamp(max=max(len(seen) - 1, 0))  # (n,)
            there = (
                torch.nonzero(seen[row] == points).flatten() if len(seen) else seen
            )  # (m,) which of the points this teacher saw
            lifted.append((read_rows(path, "features", row[there].tolist()), there))
        return TeacherFeatureStack(lifted, len(points))

    def seen_points(self, teacher: str, scene: str) -> Tensor:
        """(M,) int64, ascending: the points that a teacher has a feature for."""
        if not self.stores(scene):
            return self.load(teacher, scene)[1]
        return read_tensors(self._workspace.point_features(teacher, scene), ("seen",))["seen"]

    def seen_mask(self, scene: str) -> Tensor:
        """(N,) bool: points that at least one teacher has a feature for."""
        points = len(load_superpoint_ids(self._workspace, scene))
        seen = torch.zeros(points, dtype=torch.bool)
        for teacher in self.teachers:
            seen[self.seen_points(teacher, scene)] = True
        return seen

    def view_counts(self, teacher: str, scene: str) -> Tensor:
        """(N,) int32: how many frames see each point."""
        return read_tensors(self._workspace.point_features(teacher, scene), ("views",))["views"]

    def provenance(self, teacher: str, scene: str) -> dict[str, Any]:
        """Read which weights the lifted features of a scene come from."""
        known = read_provenance(self._workspace.point_features(teacher, scene))
        return {key: value for key, value in known.items() if key not in ("teacher", "text_space")}


def open_point_features(run: RunContext) -> PointFeatureStore:
    """Open the point features of the teachers of a run."""
    validation = split_scenes(run).validation
    teachers = run.config.run.teachers
    return PointFeatureStore(run.workspace, teachers, run.teacher, run.config.lift, validation)
