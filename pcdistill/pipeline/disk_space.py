"""Whether what a run will write fits on its disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping

from pcdistill.errors import ConfigError
from pcdistill.pipeline.stage import Stage
from pcdistill.pipeline.workspace import Workspace

SPARE_BYTES = 200 * 2**20
"""Disk that a run leaves free for logs and small files."""


def estimate_new_bytes(workspace: Workspace, stage: Stage, units: Iterable[str]) -> int:
    """Bytes that some units of a stage will add to the disk; what they replace is taken off."""
    return sum(max(0, stage.estimate(unit) - _stored(workspace, stage, unit)) for unit in units)


def check_disk_space(workspace: Workspace, needs: Mapping[str, int]) -> str:
    """Check that what a run will write fits.

    Args:
        workspace: what the run writes to.
        needs: name of a stage -> bytes.

    Returns:
        Bytes to write and bytes free in one line; empty where nothing is to be written.

    Raises:
        ConfigError: the disk is too small.
    """
    parts = ", ".join(f"{name} {_readable(size)}" for name, size in needs.items() if size)
    if not parts:
        return ""
    total, free = sum(needs.values()), shutil.disk_usage(workspace.root).free
    if total + SPARE_BYTES > free:
        raise ConfigError(
            f"{workspace.root}: the run will write about {_readable(total)} ({parts}) but only "
            f"{_readable(free)} are free; free some space, set run.workspace to a larger disk, or "
            "keep less (lift.store_features, fuse.store_point_features)"
        )
    return f"will write about {_readable(total)} ({parts}); {_readable(free)} are free"


def _stored(workspace: Workspace, stage: Stage, unit: str) -> int:
    """Bytes of the outputs of a unit that are there from before."""
    record = workspace.record(stage.name, unit)
    if record is None:
        return 0
    paths = (workspace.root / name for name in record.outputs)
    return sum(path.stat().st_size for path in paths if path.is_file())


def _readable(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
