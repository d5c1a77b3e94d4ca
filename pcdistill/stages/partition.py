"""Stage partition: superpoints of each scene."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pcdistill.artifacts import (
    MAX_SHORT_ID,
    compact_ids,
    estimate_sizes,
    split_scenes,
)
from pcdistill.callbacks import ProgressCallback
from pcdistill.errors import SceneError
from pcdistill.geometry import (
    SuperpointStatistics,
    mesh_edges,
    mesh_superpoints,
    neighbor_edges,
    point_superpoints,
    superpoint_statistics,
    weld_faces,
)
from pcdistill.labels import IGNORE_LABEL
from pcdistill.pipeline import Dependency, PartitionConfig, RunContext, Stage, Task, write_tensors
from pcdistill.scenes import Scene, open_stored_scene


class Partition(NamedTuple):
    """The superpoints of one scene and how they were found."""

    superpoint_ids: Tensor
    """(N,) int32."""
    edges: Tensor
    """(E, 2) integer, pairs of points that touch; none where every point stands for itself."""
    method: str


def partition_scene(scene: Scene, config: PartitionConfig) -> Partition:
    """Cut a scene into superpoints.

    Raises:
        SceneError: the mesh is asked for where there is none, or colour where there is none.
    """
    method = config.method
    if method == "auto":
        method = "mesh" if scene.faces is not None and len(scene.faces) else "neighbors"
    if method == "none":
        ids = torch.arange(len(scene.points), dtype=torch.int32)
        return Partition(ids, torch.zeros(0, 2, dtype=torch.int64), method)
    if config.color_weight > 0 and scene.colors is None:
        raise SceneError(
            f"scene {scene.name}: has no colours but partition.color_weight is "
            f"{config.color_weight}; set it to 0"
        )
    rule: dict[str, Any] = {
        "threshold": config.threshold,
        "min_size": config.min_size,
        "colors": scene.colors,
        "color_weight": config.color_weight,
    }
    if method == "mesh":
        if scene.faces is None or len(scene.faces) == 0:
            raise SceneError(
                f"scene {scene.name}: partition.method is mesh but the scene has no faces; "
                "use auto or neighbors"
            )
        ids = mesh_superpoints(scene.points, scene.faces, **rule)
        return Partition(ids, mesh_edges(weld_faces(scene.points, scene.faces)), method)
    edges = neighbor_edges(scene.points, config.neighbors)
    return Partition(
        point_superpoints(scene.points, scene.normals, edges=edges, **rule), edges, method
    )


def format_summary(found: SuperpointStatistics, method: str) -> str:
    """One line worth reading."""
    few, middle, many, largest = found.sizes
    text = (
        f"{found.superpoints} superpoints by {method} of {few} / {middle} / {many} points "
        f"(10 / 50 / 90 %), largest {largest}"
    )
    if found.small:
        text += f", {found.small} small islands"
    if found.boundary is not None:
        text += f", {100 * found.boundary:.1f} % of edges on borders"
    for kind, fidelity in (("labels", found.labels), ("objects", found.instances)):
        if fidelity is not None and fidelity.purity is not None:
            text += f", {100 * fidelity.purity:.1f} % pure by {kind}"
            text += _borders(fidelity.boundary_recall, fidelity.boundary_precision)
    return text


def _borders(recall: float | None, precision: float | None) -> str:
    if recall is None or precision is None:
        return ""
    return f" (borders: {100 * recall:.0f} % found, {100 * precision:.0f} % of those cut are true)"


def stored_facts(found: SuperpointStatistics) -> dict[str, Any]:
    """What the provenance of a partition says of it: JSON values."""
    facts = found._asdict()
    for kind in ("labels", "instances"):
        fidelity = facts[kind]
        facts[kind] = None if fidelity is None else fidelity._asdict()
    return facts


class PartitionStage(Stage):
    """A unit is a scene."""

    name = "partition"
    version = 4

    def __init__(self, run: RunContext) -> None:
        self._workspace = run.workspace
        self._config = run.config.partition
        self._scenes = split_scenes(run).all
        self._sizes = estimate_sizes(run)

    def units(self) -> tuple[str, ...]:
        """All scenes."""
        return self._scenes

    def settings(self, unit: str) -> Mapping[str, Any]:
        """How a scene is cut."""
        return vars(self._config)

    def inputs(self, unit: str) -> tuple[Dependency, ...]:
        """The stored scene."""
        return (Dependency("ingest", unit),)

    def outputs(self, unit: str) -> tuple[Path, ...]:
        """The superpoint ids."""
        return (self._workspace.superpoints(unit),)

    def work(self, task: Task, report: ProgressCallback) -> str:
        """Cut a scene into superpoints and measure what came out."""
        scene = open_stored_scene(self._workspace.scene(task.unit))
        ids, edges, method = partition_scene(scene, self._config)
        found = superpoint_statistics(
            ids,
            edges,
            scene.labels,
            scene.instances,
            min_size=1 if method == "none" else self._config.min_size,
            ignore_label=IGNORE_LABEL,
        )
        write_tensors(
            self._workspace.superpoints(task.unit),
            {"superpoint_ids": compact_ids(ids)},
            {**vars(self._config), **stored_facts(found), "method": method},
        )
        return format_summary(found, method)

    def estimate(self, unit: str) -> int:
        """Bytes: an id per point."""
        short = self._sizes.superpoints(unit) - 1 <= MAX_SHORT_ID
        return (2 if short else 4) * self._sizes.points(unit)
