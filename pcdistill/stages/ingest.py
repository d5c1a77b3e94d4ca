"""Stage ingest: raw data in, stored scenes out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pcdistill.errors import ConfigError, SceneError
from pcdistill.homes import home_scene
from pcdistill.scenes import Scene, is_scene_folder, open_scene, write_scene
from pcdistill.stages.run import Run
from pcdistill.stages.stage import Report, Stage, Task, no_inputs

_HOMES_PER_SEED = 1000
"""Runs of different seeds furnish different homes."""
_BYTES_PER_FRAME = 120_000
"""Orientation for the disk estimate: a JPEG and a depth PNG of 320 x 240 pixels."""


def scene_names(run: Run) -> tuple[str, ...]:
    """Names of all scenes, training scenes first.

    Raises:
        ConfigError: the folder of scans is missing or has no scan in it.
    """
    return training_scenes(run) + tuple(
        name for name in validation_scenes(run) if name not in training_scenes(run)
    )


def training_scenes(run: Run) -> tuple[str, ...]:
    """Scenes that the student learns from; a user's own scans are all used."""
    if run.config.ingest.source == "homes":
        return tuple(f"home-train-{i}" for i in range(run.config.ingest.train))
    return tuple(_scans(run))


def validation_scenes(run: Run) -> tuple[str, ...]:
    """Scenes that are measured and drawn; of a user's own scans all of them."""
    if run.config.ingest.source == "homes":
        return tuple(f"home-validation-{i}" for i in range(run.config.ingest.validation))
    return tuple(_scans(run))


def _scans(run: Run) -> dict[str, Path]:
    if "scans" not in run.memory:
        run.memory["scans"] = _find_scans(run)
    found: dict[str, Path] = run.memory["scans"]
    return found


def _find_scans(run: Run) -> dict[str, Path]:
    if run.config.ingest.path is None:
        raise ConfigError("ingest.path is not set; give the folder of a scan with --scan")
    folder = Path(run.config.ingest.path)
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; give the folder of a scan with --scan")
    if is_scene_folder(folder):
        return {folder.resolve().name: folder}
    inside = {child.name: child for child in sorted(folder.iterdir()) if child.is_dir()}
    scans = {name: child for name, child in inside.items() if is_scene_folder(child)}
    if not scans:
        return {folder.resolve().name: folder}  # opening it says what is missing
    return scans


def _home_seed(run: Run, scene: str) -> tuple[int, str]:
    _, split, number = scene.split("-")
    return run.config.run.seed * _HOMES_PER_SEED + int(number), split


def _settings(run: Run, scene: str) -> Mapping[str, Any]:
    config = run.config.ingest
    if config.source == "homes":
        seed, split = _home_seed(run, scene)
        return {
            "home": seed,
            "split": split,
            "frames": config.frames,
            "image_size": config.image_size,
        }
    return {
        "files": _listing(_scans(run)[scene]),
        "frame_step": config.frame_step,
        "depth_scale": config.depth_scale,
        "up": config.up,
        "poses": config.poses,
        "geometry": _geometry(run, scene),
        "fuse_voxel_size": config.fuse_voxel_size,
    }


def _listing(folder: Path) -> str:
    """Changes when a file of the scan comes, goes, or is written again."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            status = path.stat()
            name = path.relative_to(folder)
            digest.update(f"{name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _geometry(run: Run, scene: str) -> str | None:
    """The mesh a user points at, with what tells that it was written again."""
    geometry = run.config.ingest.geometry
    if geometry is None:
        return None
    path = _scans(run)[scene] / geometry
    if not path.is_file():
        return geometry  # opening the scan says that it is missing
    status = path.stat()
    return f"{geometry} {status.st_size} {status.st_mtime_ns}"


def _work(run: Run, task: Task, report: Report) -> str:
    scene = replace(_open(run, task.unit), name=task.unit)
    if scene.labels is not None and scene.label_set not in (None, run.label_set.name):
        raise SceneError(
            f"scene {scene.name}: labelled with '{scene.label_set}' but run.label_set is "
            f"'{run.label_set.name}'; set run.label_set to the scene's"
        )
    if scene.labels is not None:
        run.label_set.require_labels(f"scene {scene.name}", scene.labels)
    write_scene(scene, run.workspace.scene(task.unit))
    lost = int(scene.provenance.get("skipped_frames", 0))
    skipped = f" ({lost} without a valid pose or file left out)" if lost else ""
    mesh = "mesh" if scene.faces is not None else "cloud"
    return f"{mesh} of {len(scene.points)} points, {len(scene.frames)} frames{skipped}"


def _open(run: Run, scene: str) -> Scene:
    config = run.config.ingest
    if config.source == "homes":
        seed, split = _home_seed(run, scene)
        return home_scene(seed, split, frames=config.frames, image_size=config.image_size)
    folder = _scans(run)[scene]
    return open_scene(
        folder,
        frame_step=config.frame_step,
        depth_scale=config.depth_scale,
        up=config.up,
        poses=config.poses,
        geometry=config.geometry,
        fuse_voxel_size=config.fuse_voxel_size,
    )


def _outputs(run: Run, scene: str) -> tuple[Path, ...]:
    return (run.workspace.scene(scene),)


def _estimate(run: Run, scene: str) -> int:
    return run.config.ingest.frames * _BYTES_PER_FRAME


INGEST = Stage(
    name="ingest",
    version=1,
    units=scene_names,
    settings=_settings,
    inputs=no_inputs,
    outputs=_outputs,
    work=_work,
    estimate=_estimate,
)
