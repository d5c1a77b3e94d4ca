"""Point features and labels of a scene by each method of the results table."""

from __future__ import annotations

import zlib
from itertools import repeat
from typing import Literal, cast

import torch
from torch import Tensor

from pcdistill.artifacts import (
    LoadedStudent,
    RunArtifacts,
    load_capability,
    load_result,
    load_student_input,
    load_superpoint_ids,
)
from pcdistill.capability import binary_capability, shuffled_capability
from pcdistill.distillation import (
    Looks,
    features_by_look,
    infer_point_features,
    mixed_seed,
    speaking_points,
    voxel_features,
    voxel_means,
)
from pcdistill.errors import ConfigError
from pcdistill.fusion import ensemble_features
from pcdistill.inference.fuse_points import FusionRule, fuse_points
from pcdistill.inference.fusion_diagnosis import FusionDiagnosis, diagnose_fusion
from pcdistill.inference.methods import (
    BINARY,
    ENSEMBLE,
    FUSED,
    ORACLE,
    POOLED,
    SHUFFLED,
    VOXELS,
    MethodTable,
    weighs_by_capability,
)
from pcdistill.inference.true_capability import true_capability
from pcdistill.scenes import open_stored_scene

DRAWS = 5
"""Permutations over which `SHUFFLED` is averaged."""


class ScenePredictor:
    """What each method predicts for the scenes of a run; loaded students are kept."""

    def __init__(self, artifacts: RunArtifacts) -> None:
        self.methods = MethodTable(
            artifacts.teachers, artifacts.students, artifacts.measures_ensembles
        )
        self._artifacts = artifacts
        self._students: dict[str, LoadedStudent] = {}
        self._oracle: tuple[Tensor, ...] | None = None

    def features(
        self, method: str, scene: str, capability: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Compute the feature of every point of a scene.

        Args:
            method: a name of the results table.
            scene: a stored scene.
            capability: (T, K), one of `capabilities`; by default the first.

        Returns:
            features: (N, D) float32.
            seen: (N,) bool, points that have a feature; a student has one for every point.

        Raises:
            ConfigError: it is the oracle, and no label told it anything.
        """
        run, looks = self._artifacts, self.looks(scene)
        kind, _, name = method.partition(":")
        if kind == ENSEMBLE:
            features = self._ensemble(name, scene, capability)
            return features, features.any(dim=1)
        if kind == "student":
            network, needs = self._student(name)
            cloud = load_student_input(run.workspace, scene, needs.input)
            features = infer_point_features(
                network, cloud, needs.voxel_size, run.find_device(), looks=looks
            )
            return features, torch.ones(len(cloud.points), dtype=torch.bool)
        lifted = "fused" if method == VOXELS else method
        features, seen = self._lifted_features(lifted, scene, capability)
        if method != VOXELS and run.protocol.runs != "turned":
            return features, seen
        points = open_stored_scene(run.workspace.scene(scene)).points
        average = voxel_means if method == VOXELS else voxel_features
        return average(points, features, seen, run.voxel_size, looks)

    def labels(self, method: str, scene: str) -> Tensor:
        """(N,) int64: evaluation class of each point, `NO_FEATURE_LABEL` where it has none."""
        return self._artifacts.words.classify(*self.features(method, scene))

    def looks(self, scene: str) -> Looks:
        """How often, and how, a scene is looked at; the same for every method."""
        turned = self._artifacts.protocol.runs == "turned"
        mixed = mixed_seed(self._artifacts.seed, zlib.crc32(scene.encode()))
        return Looks(self._artifacts.protocol.votes, mixed if turned else None)

    def capabilities(self, method: str, scenes: tuple[str, ...]) -> tuple[Tensor, ...]:
        """Make the tables that a method fuses by, each (T, K) float32 in [0, 1].

        Args:
            method: a name of the results table.
            scenes: the measured ones, whose labels tell the oracle what is true.

        Returns:
            one for each draw that the method's numbers are averaged over; none for a method that
            does not fuse by capability, and for the oracle where no label tells anything.
        """
        if not weighs_by_capability(method):
            return ()
        run = self._artifacts
        measured = load_capability(run.workspace, run.teachers, run.words.vocabulary)
        if method == BINARY:
            return (binary_capability(measured),)
        if method == SHUFFLED:
            return tuple(shuffled_capability(measured, run.seed, draw) for draw in range(DRAWS))
        if method == ORACLE:
            true = true_capability(run.workspace, run.words, run.point_features, scenes)
            known = torch.where(true.isnan(), measured, true)
            return () if bool(true.isnan().all()) else (known,)
        return (measured,)

    def diagnose_fusion(self, scene: str) -> FusionDiagnosis:
        """Tell who decides on each point of a scene where the teachers are fused as measured."""
        run = self._artifacts
        views = run.point_features.load_stack(scene)
        return diagnose_fusion(views, self._rule("fused", None), run.teachers)

    def _ensemble(self, student: str, scene: str, capability: Tensor | None) -> Tensor:
        """(N, D) float32: mean over the looks of what each takes of the two; see `features`."""
        run, looks = self._artifacts, self.looks(scene)
        network, needs = self._student(student)
        cloud = load_student_input(run.workspace, scene, needs.input)
        fused, seen = self._lifted_features("fused", scene, capability)
        total = torch.zeros_like(fused)
        said = features_by_look(network, cloud, needs.voxel_size, run.find_device(), looks=looks)
        by_voxel = run.protocol.runs == "turned"  # as the protocol looks at fused features alone
        same = torch.arange(len(seen))
        speaking = (
            speaking_points(cloud.points, run.voxel_size, looks) if by_voxel else repeat(same)
        )
        for features, rows in zip(said, speaking, strict=False):
            total += ensemble_features(
                fused[rows], seen[rows], features, run.words.label_embeddings
            )
        return total / looks.count

    def _rule(self, method: str, capability: Tensor | None) -> FusionRule:
        """How the teachers are fused by a method; (T, K) `capability` as in `features`."""
        run = self._artifacts
        if method in FUSED and capability is None:
            capability = self._first_capability(method)
        return FusionRule(
            cast(Literal["average", "linear", "fused"], "fused" if method in FUSED else method),
            run.words.vocabulary_embeddings,
            capability,
            run.temperature,
            run.fusion_mode,
        )

    def _lifted_features(
        self, method: str, scene: str, capability: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """What was lifted onto the points themselves; see `features`."""
        run = self._artifacts
        kind, _, name = method.partition(":")
        if kind == "teacher":
            view = run.point_features.load_stack(scene, (name,))
            return view.of_teacher(0), view.seen[0]
        if method == POOLED:
            features, seen = self._lifted_features("fused", scene, capability)  # (N, D), (N,)
            ids = load_superpoint_ids(run.workspace, scene)  # (N,)
            total = torch.zeros(int(ids.max()) + 1, features.shape[1]).index_add_(0, ids, features)
            return total[ids], torch.bincount(ids[seen], minlength=len(total))[ids] > 0
        views = run.point_features.load_stack(scene)
        return fuse_points(views, self._rule(method, capability)), views.seen.any(dim=0)

    def _first_capability(self, method: str) -> Tensor:
        """Table (T, K) of a method; the oracle's is told by the scenes it measured."""
        if method != ORACLE:
            return self.capabilities(method, ())[0]
        if self._oracle is None:
            measured = load_result(self._artifacts.workspace, method)["scenes"]
            self._oracle = self.capabilities(method, tuple(measured))
        if not self._oracle:
            raise ConfigError(
                f"row '{method}' says nothing, because no validation scene has a true label that "
                "names a word of run.vocabulary; name another row"
            )
        return self._oracle[0]

    def _student(self, name: str) -> LoadedStudent:
        if name not in self._students:
            self._students[name] = self._artifacts.load_student(name)
        return self._students[name]
