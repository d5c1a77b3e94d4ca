"""Stage fuse: the teachers' point features become one, weighted by measured skill."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pcdistill.fusion import average_features, fuse_features, linear_features, predict_labels
from pcdistill.pipeline.artifact_files import read_tensors, write_tensors
from pcdistill.pipeline.context import Run
from pcdistill.pipeline.stage import Input, Report, Stage, Task
from pcdistill.stages.ingest import scene_names
from pcdistill.stages.lift import lifted_features
from pcdistill.stages.partition import superpoint_ids
from pcdistill.stages.score import capability_table
from pcdistill.stages.sizes import expected_points, expected_superpoints

Method = Literal["average", "linear", "fused"]
_POINTS_AT_A_TIME = 16384


class TeacherViews:
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


def teacher_views(run: Run, scene: str, teachers: Sequence[str] | None = None) -> TeacherViews:
    """Read the point features of one scene, or lift them where they are not kept.

    Args:
        teachers: their names, which are the teacher axis; None takes all of the run.
    """
    names = run.config.run.teachers if teachers is None else teachers
    lifted = [lifted_features(run, teacher, scene) for teacher in names]
    return TeacherViews(lifted, len(superpoint_ids(run, scene)))


def fuse_views(
    run: Run, views: TeacherViews, method: Method, capability: Tensor | None = None
) -> Tensor:
    """One feature per point, (N, D) float32; zero where no teacher saw it.

    Args:
        views: of one scene.
        method: `fused` takes the teachers' capability into account.
        capability: (T, K) float in [0, 1]; by default what stage score measured.
    """
    every = torch.arange(views.seen.shape[1])
    chunks = fuse_in_chunks(run, views, method, every, capability)
    return torch.cat([fused for _, fused in chunks])


def fuse_in_chunks(
    run: Run,
    views: TeacherViews,
    method: Method,
    points: Tensor,
    capability: Tensor | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Fuse some points at a time, so that no table of all of them is needed.

    Args:
        views, method, capability: as in `fuse_views`.
        points: (M,) int64.

    Yields:
        the next points, (n,) int64, and their features, (n, D) float32.
    """
    if method == "fused" and capability is None:
        capability = capability_table(run)
    for chunk in torch.split(points, _POINTS_AT_A_TIME):
        seen = views.seen[:, chunk]
        yield chunk, _fuse(run, views.of_points(chunk), seen, method, capability)


def _fuse(
    run: Run, features: Tensor, seen: Tensor, method: Method, capability: Tensor | None
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


def fused_targets(run: Run, scene: str) -> FusedTargets:
    """Read the targets of one scene."""
    tensors = read_tensors(run.workspace.fused(scene))
    return FusedTargets(
        tensors["superpoint_means"],
        tensors["superpoint_seen"].bool(),
        _unpacked(tensors["seen_bits"]),
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
    seen = views.seen.any(dim=0).nonzero()[:, 0]
    dimensions = run.text_encoder.dimensions
    sums = torch.zeros(int(ids.max()) + 1, dimensions)
    keep_points = run.config.fuse.keep_points
    kept = torch.zeros(len(seen) if keep_points else 0, dimensions, dtype=torch.float16)
    done = 0
    for points, fused in fuse_in_chunks(run, views, "fused", seen):
        sums.index_add_(0, ids[points], fused)
        if keep_points:
            kept[done : done + len(points)] = fused
        done += len(points)
        report(done, len(seen), "points")
    members = torch.bincount(ids[seen], minlength=len(sums))
    tensors = {
        "superpoint_means": (sums / members.clamp(min=1)[:, None]).half(),
        "superpoint_seen": (members > 0).to(torch.uint8),
        "seen_bits": _packed(seen, len(ids)),
    }
    if keep_points:
        tensors["features"] = kept
    provenance = {
        "teachers": run.config.run.teachers,
        "text_space": run.text_encoder.text_space,
        "vocabulary": run.vocabulary,
        **vars(run.config.fuse),
    }
    write_tensors(run.workspace.fused(scene), tensors, provenance)
    return f"{len(seen)} seen points in {int(tensors['superpoint_seen'].sum())} superpoints"


def _packed(seen: Tensor, points: int) -> Tensor:
    """(ceil(N / 8),) uint8: one bit for each of N points, set for the seen ones (M,) int64."""
    flags = np.zeros(points, np.uint8)
    flags[seen.numpy()] = 1
    return torch.from_numpy(np.packbits(flags))


def _unpacked(bits: Tensor) -> Tensor:
    """(M,) int64, ascending: the points whose bit is set."""
    return torch.from_numpy(np.unpackbits(bits.numpy())).nonzero()[:, 0]


def _estimate(run: Run, scene: str) -> int:
    """Bytes: means in half precision and a flag per superpoint, a bit per point."""
    points, dimensions = expected_points(run, scene), run.text_encoder.dimensions
    size = expected_superpoints(run, scene) * (2 * dimensions + 1) + points // 8
    return size + (points * 2 * dimensions if run.config.fuse.keep_points else 0)


def _units(run: Run) -> tuple[str, ...]:
    return scene_names(run) if run.config.run.teachers else ()


def _outputs(run: Run, scene: str) -> tuple[Path, ...]:
    return (run.workspace.fused(scene),)


FUSE = Stage(
    name="fuse",
    version=2,
    units=_units,
    settings=_settings,
    inputs=_inputs,
    outputs=_outputs,
    work=_work,
    estimate=_estimate,
)
