"""Stage fuse: point features of the teachers, fused by measured capability."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pcdistill.artifacts import (
    estimate_sizes,
    load_capability,
    load_superpoint_ids,
    open_point_features,
    pack_mask,
    split_scenes,
)
from pcdistill.callbacks import ProgressCallback
from pcdistill.inference import FusionRule, fuse_in_chunks
from pcdistill.pipeline import Dependency, RunContext, Stage, Task, write_tensors


class FuseStage(Stage):
    """A unit is a scene."""

    name = "fuse"
    version = 2
    memory_advice = "lower lift.batch"

    def __init__(self, run: RunContext) -> None:
        self._workspace = run.workspace
        self._config = run.config.fuse
        self._text_encoder = run.text_encoder_mark
        self._words = run.words
        self._scenes = split_scenes(run).all
        self._features = open_point_features(run)
        self._sizes = estimate_sizes(run)

    def units(self) -> tuple[str, ...]:
        """All scenes; none without teachers."""
        return self._scenes if self._features.teachers else ()

    def settings(self, unit: str) -> Mapping[str, Any]:
        """How features are fused, whose, and by which words."""
        return {
            **vars(self._config),
            "teachers": self._features.teachers,
            "vocabulary": self._words.prompts(self._words.vocabulary),
            "text_encoder": self._text_encoder,
        }

    def inputs(self, unit: str) -> tuple[Dependency, ...]:
        """Every teacher's features of the scene and its capability, and the superpoints."""
        teachers = self._features.teachers
        return (
            *(Dependency("lift", f"{teacher}/{unit}") for teacher in teachers),
            *(Dependency("score", teacher) for teacher in teachers),
            Dependency("partition", unit),
        )

    def outputs(self, unit: str) -> tuple[Path, ...]:
        """The fused features."""
        return (self._workspace.fused(unit),)

    def work(self, task: Task, report: ProgressCallback) -> str:
        """Fuse the features of every seen point and average them over superpoints (Eq. 5 to 8)."""
        scene, teachers, vocabulary = task.unit, self._features.teachers, self._words.vocabulary
        ids = load_superpoint_ids(self._workspace, scene)  # (N,)
        views = self._features.load_stack(scene)
        seen = views.seen.any(dim=0).nonzero()[:, 0]  # (M,)
        rule = FusionRule(
            "fused",
            self._words.vocabulary_embeddings,
            load_capability(self._workspace, teachers, vocabulary),
            self._config.temperature,
            self._config.mode,
        )
        dimensions = self._words.text_encoder.dimensions
        sums = torch.zeros(int(ids.max()) + 1, dimensions)  # (S, D)
        stores_points = self._config.store_point_features
        stored = torch.zeros(len(seen) if stores_points else 0, dimensions, dtype=torch.float16)
        done = 0
        for points, fused in fuse_in_chunks(views, rule, seen):
            sums.index_add_(0, ids[points], fused)
            if stores_points:
                stored[done : done + len(points)] = fused
            done += len(points)
            report(done, len(seen), "points")
        members = torch.bincount(ids[seen], minlength=len(sums))  # (S,)
        tensors = {
            "superpoint_means": (sums / members.clamp(min=1)[:, None]).half(),
            "superpoint_seen": (members > 0).to(torch.uint8),
            "seen_bits": pack_mask(seen, len(ids)),
        }
        if stores_points:
            tensors["features"] = stored
        provenance = {
            "teachers": teachers,
            "weights": {t: self._features.provenance(t, scene) for t in teachers},
            "text_space": self._words.text_encoder.text_space,
            "text_encoder": self._text_encoder,
            "vocabulary": vocabulary,
            **vars(self._config),
        }
        write_tensors(self._workspace.fused(scene), tensors, provenance)
        return f"{len(seen)} seen points in {int(tensors['superpoint_seen'].sum())} superpoints"

    def estimate(self, unit: str) -> int:
        """Bytes: means in half precision and a flag per superpoint, a bit per point."""
        points, dimensions = self._sizes.points(unit), self._words.text_encoder.dimensions
        size = self._sizes.superpoints(unit) * (2 * dimensions + 1) + points // 8
        return size + (points * 2 * dimensions if self._config.store_point_features else 0)
