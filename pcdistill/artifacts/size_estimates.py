"""Estimates of points and superpoints of a scene, from file headers or by what is usual."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError, safe_open

from pcdistill.artifacts.scan_sources import ScanSources, open_scan_sources
from pcdistill.errors import ArtifactError
from pcdistill.pipeline import PartitionConfig, RunContext, Workspace, read_provenance

_POINTS_OF_A_HOME = 70_000
_POINTS_OF_A_SCAN = 100_000
"""Where nothing tells before the scan is read: a room whose depth images are fused."""
_POINTS_OF_A_SWEEP = {"nuscenes": 35_000, "nuscenes_clips": 35_000}
"""Layout -> points of one turn of its LiDAR."""
_MIN_SUPERPOINTS = 4
"""A superpoint has this many times the fewest points that it may have, about, in any scan."""


class SizeEstimates:
    """Points and superpoints of the scenes of a run.

    Args:
        workspace: of the run.
        scans: where the scenes come from; None for generated homes.
        partition: how they are cut into superpoints.
    """

    def __init__(
        self, workspace: Workspace, scans: ScanSources | None, partition: PartitionConfig
    ) -> None:
        self._workspace = workspace
        self._scans = scans
        self._partition = partition

    def points(self, scene: str) -> int:
        """N of a scene: as it is stored, else as its scan's PLY says, else as is usual."""
        stored = self._workspace.scene(scene) / "points.safetensors"
        known = count_tensor_rows(stored, "points")
        if known:
            return known
        if self._scans is None:
            return _POINTS_OF_A_HOME
        detected = self._scans.index.found.get(scene)
        if detected is None:
            return 0
        usual = _POINTS_OF_A_SWEEP.get(detected.layout, _POINTS_OF_A_SCAN)
        return self._scans.files(detected).points or usual

    def superpoints(self, scene: str) -> int:
        """S of a scene: as it was cut, else as is usual for its points and the smallest size."""
        path = self._workspace.superpoints(scene)
        if path.exists():
            with suppress(ArtifactError):  # what is damaged will be made anew
                return int(read_provenance(path).get("superpoints", 0))
        points = self.points(scene)
        if self._partition.method == "none":
            return points
        return points // (_MIN_SUPERPOINTS * self._partition.min_size) + 1


def estimate_sizes(run: RunContext) -> SizeEstimates:
    """Estimate the sizes of a run's scenes."""
    scans = None if run.config.ingest.source == "homes" else open_scan_sources(run)
    return SizeEstimates(run.workspace, scans, run.config.partition)


def count_tensor_rows(path: Path, name: str) -> int:
    """Rows of one tensor of a safetensors file; 0 where file or tensor is not there."""
    try:
        with safe_open(path, framework="pt") as archive:
            if name not in set(archive.keys()):
                return 0
            return int(archive.get_slice(name).get_shape()[0])
    except (OSError, SafetensorError):
        return 0
