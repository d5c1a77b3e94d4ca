"""Stage partition: a scan is cut into superpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pcdistill.errors import SceneError
from pcdistill.geometry import mesh_superpoints, point_superpoints
from pcdistill.scenes import Scene, open_scene
from pcdistill.stages.config import PartitionConfig
from pcdistill.stages.files import read_tensors, write_tensors
from pcdistill.stages.ingest import scene_names
from pcdistill.stages.run import Run
from pcdistill.stages.stage import Input, Report, Stage, Task


def scene_superpoints(scene: Scene, config: PartitionConfig) -> tuple[Tensor, str]:
    """Superpoint of each point, (N,) int32, and the method that found them.

    Raises:
        SceneError: the mesh is asked for where there is none.
    """
    method = config.method
    if method == "auto":
        method = "mesh" if scene.faces is not None and len(scene.faces) else "neighbours"
    if method == "none":
        return torch.arange(len(scene.points), dtype=torch.int32), method
    if method == "mesh":
        if scene.faces is None or len(scene.faces) == 0:
            raise SceneError(
                f"scene {scene.name}: partition.method is mesh but the scene has no faces; "
                "use auto or neighbours"
            )
        return mesh_superpoints(
            scene.points, scene.faces, threshold=config.threshold, min_size=config.min_size
        ), method
    return point_superpoints(
        scene.points,
        scene.normals,
        neighbours=config.neighbours,
        threshold=config.threshold,
        min_size=config.min_size,
    ), method


def superpoint_ids(run: Run, scene: str) -> Tensor:
    """Read the superpoint of each point: (N,) int64 from 0."""
    return read_tensors(run.workspace.superpoints(scene), ("superpoint_ids",))[
        "superpoint_ids"
    ].long()


def _settings(run: Run, scene: str) -> Mapping[str, Any]:
    return vars(run.config.partition)


def _work(run: Run, task: Task, report: Report) -> str:
    scene = open_scene(run.workspace.scene(task.unit))
    ids, method = scene_superpoints(scene, run.config.partition)
    sizes = torch.bincount(ids.long())
    write_tensors(
        run.workspace.superpoints(task.unit),
        {"superpoint_ids": ids},
        {"method": method, **vars(run.config.partition)},
    )
    return f"{len(sizes)} superpoints by {method}, median {int(sizes.median())} points"


def _inputs(run: Run, scene: str) -> tuple[Input, ...]:
    return (Input("ingest", scene),)


def _outputs(run: Run, scene: str) -> tuple[Path, ...]:
    return (run.workspace.superpoints(scene),)


PARTITION = Stage(
    name="partition",
    version=1,
    units=scene_names,
    settings=_settings,
    inputs=_inputs,
    outputs=_outputs,
    work=_work,
)
