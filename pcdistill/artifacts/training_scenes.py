"""Scenes that a student learns from, mapped from files of earlier stages when a step needs them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pcdistill.artifacts.fused_targets import load_fused_targets
from pcdistill.artifacts.students import check_colors
from pcdistill.artifacts.superpoints import load_superpoint_ids
from pcdistill.distillation import SceneSource, StudentInput, TrainingScene
from pcdistill.errors import ArtifactError
from pcdistill.geometry import estimate_normals
from pcdistill.pipeline import (
    Workspace,
    read_provenance,
    read_shapes,
    read_tensors,
    write_tensors,
)
from pcdistill.scenes import load_stored_points


def open_training_scenes(
    workspace: Workspace, scenes: Sequence[str], kind: str, *, per_point: bool, scratch: Path
) -> SceneSource:
    """Open the scenes of a training; their files are mapped when a step needs them.

    Only the heads of the files are read here, which tell most of what may be wrong at once.

    Args:
        workspace: of the run.
        scenes: names of fused scenes.
        kind: what the student sees of a voxel, as `distill.input`.
        per_point: whether it learns from the features of points.
        scratch: folder for normals that have to be estimated, so that this is done once a scene.

    Raises:
        ArtifactError: a file is missing or damaged, or features per point are asked for but were
            not stored.
        SceneError: the student needs colours and there are none.
    """
    counts, superpoint_counts = [], []
    for scene in scenes:
        parts = read_shapes(workspace.scene(scene) / "points.safetensors")
        if kind == "color" and "colors" not in parts:
            check_colors(scene, None, kind)
        fused = read_shapes(workspace.fused(scene))
        if per_point and "features" not in fused:
            raise _no_point_features(workspace, scene)
        counts.append(parts["points"][0] if "points" in parts else 0)
        superpoint_counts.append(fused["superpoint_means"][0] if "superpoint_means" in fused else 0)

    def load(number: int) -> TrainingScene:
        name = scenes[number]
        return load_training_scene(workspace, name, kind, per_point=per_point, scratch=scratch)

    return SceneSource(scenes, counts, superpoint_counts, load)


def load_training_scene(
    workspace: Workspace, scene: str, kind: str, *, per_point: bool, scratch: Path
) -> TrainingScene:
    """Read what the student learns from in one scene; what is stored as it is needed stays mapped.

    Args and errors as in `open_training_scenes`, and SceneError: the scene is damaged.
    """
    targets = load_fused_targets(workspace, scene)
    cloud = _student_input(workspace, scene, kind, scratch)
    seen = torch.zeros(len(cloud.points), dtype=torch.bool)  # (N,)
    seen[targets.seen] = True
    features = None
    if per_point:
        if targets.features is None:
            raise _no_point_features(workspace, scene)
        features = torch.zeros(len(cloud.points), targets.features.shape[1], dtype=torch.float16)
        features[targets.seen] = targets.features
    return TrainingScene(
        name=scene,
        points=cloud.points,
        superpoint_ids=load_superpoint_ids(workspace, scene),
        superpoint_means=targets.superpoint_means,
        seen=seen,
        features=features,
        normals=cloud.normals,
        colors=cloud.colors,
    )


def _student_input(workspace: Workspace, scene: str, kind: str, scratch: Path) -> StudentInput:
    """The same as `load_student_input` gives, without a look at frames, labels and faces."""
    wanted = ("points",) if kind == "constant" else ("points", "normals", "colors")
    parts = load_stored_points(workspace.scene(scene), wanted)
    if kind == "constant":
        return StudentInput(parts["points"])
    colors = parts.get("colors")
    check_colors(scene, colors, kind)
    normals = parts.get("normals")
    if normals is None:
        normals = _estimated_normals(parts["points"], scratch / workspace.fused(scene).name)
    return StudentInput(parts["points"], normals, colors if kind == "color" else None)


def _estimated_normals(points: Tensor, path: Path) -> Tensor:
    """(N, 3) float32 normals of (N, 3) points, from a file where these were estimated before."""
    known = {"points": len(points), "sum": float(points.double().sum())}
    try:
        if path.exists() and read_provenance(path) == known:
            return read_tensors(path, ("normals",))["normals"]
    except ArtifactError:
        pass  # made anew
    normals = estimate_normals(points)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, {"normals": normals}, known)
    return normals


def _no_point_features(workspace: Workspace, scene: str) -> ArtifactError:
    return ArtifactError(
        f"{workspace.fused(scene)} has no features per point; the student 'point' "
        "needs fuse.store_point_features: true"
    )
