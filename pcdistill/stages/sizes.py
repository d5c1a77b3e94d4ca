"""How large stored artefacts are, read from file headers only."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open

from pcdistill.stages.run import Run


def stored_points(run: Run, scene: str) -> int:
    """Points of an ingested scene; 0 where it is not there yet."""
    return rows_of(run.workspace.scene(scene) / "points.safetensors", "points")


def rows_of(path: Path, name: str) -> int:
    """Rows of one tensor of a safetensors file; 0 where file or tensor is not there."""
    try:
        with safe_open(path, framework="pt") as archive:
            if name not in set(archive.keys()):
                return 0
            return int(archive.get_slice(name).get_shape()[0])
    except (OSError, SafetensorError):
        return 0
