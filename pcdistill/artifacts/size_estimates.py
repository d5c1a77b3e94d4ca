"""How many points and superpoints a scene has, from file headers, or a guess before it is there."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError, safe_open

from pcdistill.artifacts.scan_sources import get_scan_index, summarize_scan_files
from pcdistill.errors import ArtifactError
from pcdistill.pipeline import RunContext, read_provenance

_POINTS_OF_A_HOME = 70_000
_POINTS_OF_A_SCAN = 100_000
"""Where nothing tells before the scan is read: a room whose depth images are fused."""
_POINTS_OF_A_SWEEP = {"nuscenes": 35_000, "nuscenes_clips": 35_000}
"""Layout -> points of one turn of its LiDAR."""
_MIN_SUPERPOINTS = 4
"""A superpoint has this many times the fewest points that it may have, about, in any scan."""


def estimate_points(run: RunContext, scene: str) -> int:
    """N of a scene: as it is stored, else as its scan's PLY says, else as is usual."""
    known = count_tensor_rows(run.workspace.scene(scene) / "points.safetensors", "points")
    if known:
        return known
    if run.config.ingest.source == "homes":
        return _POINTS_OF_A_HOME
    recognised = get_scan_index(run).found.get(scene)
    if recognised is None:
        return 0
    usual = _POINTS_OF_A_SWEEP.get(recognised.layout, _POINTS_OF_A_SCAN)
    return summarize_scan_files(run, recognised).points or usual


def estimate_superpoints(run: RunContext, scene: str) -> int:
    """S of a scene: as it was cut, else as is usual for its points and the smallest size."""
    path = run.workspace.superpoints(scene)
    if path.exists():
        with suppress(ArtifactError):  # what is damaged will be made anew
            return int(read_provenance(path).get("superpoints", 0))
    points, config = estimate_points(run, scene), run.config.partition
    if config.method == "none":
        return points
    return points // (_MIN_SUPERPOINTS * config.min_size) + 1


def count_tensor_rows(path: Path, name: str) -> int:
    """Rows of one tensor of a safetensors file; 0 where file or tensor is not there."""
    try:
        with safe_open(path, framework="pt") as archive:
            if name not in set(archive.keys()):
                return 0
            return int(archive.get_slice(name).get_shape()[0])
    except (OSError, SafetensorError):
        return 0
