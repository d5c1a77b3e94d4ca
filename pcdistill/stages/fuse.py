"""Stage fuse: the teachers' point features become one, weighted by measured skill."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pcdistill.artifacts import (
    expected_points,
    expected_superpoints,
    pack_mask,
    scene_names,
    superpoint_ids,
    teacher_views,
)
from pcdistill.callbacks import Report
from pcdistill.inference import fuse_in_chunks
from pcdistill.pipeline import Input, Run, Stage, Task, write_tensors


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
        "seen_bits": pack_mask(seen, len(ids)),
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
