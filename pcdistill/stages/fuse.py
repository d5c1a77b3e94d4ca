"""Stage fuse: the teachers' point features become one, weighted by measured skill."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pcdistill.artifacts import (
    estimate_points,
    estimate_superpoints,
    load_superpoint_ids,
    load_teacher_features,
    pack_mask,
    scene_names,
)
from pcdistill.callbacks import ProgressCallback
from pcdistill.inference import fuse_in_chunks
from pcdistill.pipeline import Dependency, RunContext, Stage, Task, write_tensors


def _settings(run: RunContext, scene: str) -> Mapping[str, Any]:
    return {
        **vars(run.config.fuse),
        "teachers": run.config.run.teachers,
        "vocabulary": run.prompts(run.vocabulary),
        "text_encoder": run.config.run.text_encoder,
    }


def _inputs(run: RunContext, scene: str) -> tuple[Dependency, ...]:
    teachers = run.config.run.teachers
    return (
        *(Dependency("lift", f"{teacher}/{scene}") for teacher in teachers),
        *(Dependency("score", teacher) for teacher in teachers),
        Dependency("partition", scene),
    )


def _work(run: RunContext, task: Task, report: ProgressCallback) -> str:
    scene = task.unit
    ids = load_superpoint_ids(run, scene)
    views = load_teacher_features(run, scene)
    seen = views.seen.any(dim=0).nonzero()[:, 0]
    dimensions = run.text_encoder.dimensions
    sums = torch.zeros(int(ids.max()) + 1, dimensions)
    store_point_features = run.config.fuse.store_point_features
    kept = torch.zeros(len(seen) if store_point_features else 0, dimensions, dtype=torch.float16)
    done = 0
    for points, fused in fuse_in_chunks(run, views, "fused", seen):
        sums.index_add_(0, ids[points], fused)
        if store_point_features:
            kept[done : done + len(points)] = fused
        done += len(points)
        report(done, len(seen), "points")
    members = torch.bincount(ids[seen], minlength=len(sums))
    tensors = {
        "superpoint_means": (sums / members.clamp(min=1)[:, None]).half(),
        "superpoint_seen": (members > 0).to(torch.uint8),
        "seen_bits": pack_mask(seen, len(ids)),
    }
    if store_point_features:
        tensors["features"] = kept
    provenance = {
        "teachers": run.config.run.teachers,
        "text_space": run.text_encoder.text_space,
        "vocabulary": run.vocabulary,
        **vars(run.config.fuse),
    }
    write_tensors(run.workspace.fused(scene), tensors, provenance)
    return f"{len(seen)} seen points in {int(tensors['superpoint_seen'].sum())} superpoints"


def _estimate(run: RunContext, scene: str) -> int:
    """Bytes: means in half precision and a flag per superpoint, a bit per point."""
    points, dimensions = estimate_points(run, scene), run.text_encoder.dimensions
    size = estimate_superpoints(run, scene) * (2 * dimensions + 1) + points // 8
    return size + (points * 2 * dimensions if run.config.fuse.store_point_features else 0)


def _units(run: RunContext) -> tuple[str, ...]:
    return scene_names(run) if run.config.run.teachers else ()


def _outputs(run: RunContext, scene: str) -> tuple[Path, ...]:
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
