"""Stage ingest: raw data in, stored scenes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pcdistill.artifacts import (
    expected_points,
    labels_in_memory,
    projection_rules,
    read_settings,
    require_colors,
    require_scan,
    scan_files,
    scans_of,
    scene_names,
    size_share,
)
from pcdistill.callbacks import Report
from pcdistill.lifting import colors_from_frames
from pcdistill.pipeline import HOME_IMAGE_SIZE, LiftConfig, Run, Stage, Task, no_inputs
from pcdistill.scenes import Recognised, Scene, open_scan, write_scene
from pcdistill.scenes.checks import unit_doubt

_HOMES_PER_SEED = 1000
"""Runs of different seeds furnish different homes."""
_BYTES_PER_PIXEL = 1.1
"""Orientation for the disk estimate: a JPEG and a depth PNG of a generated frame."""
_BYTES_PER_POINT = 56
"""The same: position, normal, colour, labels, and its share of the faces."""
_MOST_BYTES = 100_000_000
"""The same for a scan: most layouts keep some frames of many, so large files say little."""

_LABELS_AS_THEY_ARE = {
    *("stored", "scannet_extracted", "nuscenes", "nuscenes_clips"),
    *("scannetpp", "arkitscenes", "replica", "tum", "record3d"),
    *("nerfstudio", "colmap", "rgbd", "bare"),
}
"""Layouts without labels, or whose labels are those of one label set: with another `run.label_set`
the same is read from them, and stage evaluate refuses what does not fit."""


def _home_seed(run: Run, scene: str) -> tuple[int, str]:
    _, part, number = scene.split("-")
    split = part if run.config.ingest.homes == "development" else f"test-{part}"
    return run.config.run.seed * _HOMES_PER_SEED + int(number), split


def _settings(run: Run, scene: str) -> Mapping[str, Any]:
    config = run.config.ingest
    if config.source == "homes":
        from pcdistill.homes import GENERATION

        seed, split = _home_seed(run, scene)
        return {
            "generation": GENERATION,
            "home": seed,
            "split": split,
            "frames": config.frames,
            "image_size": config.image_size or HOME_IMAGE_SIZE,
        }
    recognised = scans_of(run).found.get(scene)
    if recognised is not None:
        source = {
            "layout": recognised.layout,
            "part": recognised.scan.part,
            "files": scan_files(run, recognised).mark,
            "geometry": _geometry(run, recognised),
        }
    else:
        source = {} if scans_of(run).is_there else _source_of_old(run, scene)
    if not source:
        return {"missing": scene}
    settings = {**vars(read_settings(run)), **source}
    if source["layout"] in _LABELS_AS_THEY_ARE:
        del settings["label_set"]
        own = source["layout"] == "stored"  # the only labels that a user may have written
        return {**settings, "ignore_label": run.label_set.ignore_label} if own else settings
    return {**settings, "label_ids": run.label_set.ids, "labels": run.label_set.released_names}


def _source_of_old(run: Run, scene: str) -> dict[str, Any]:
    """What the manifest says of raw data that has moved away; nothing where it was never there."""
    record = run.workspace.record("ingest", scene)
    known = {} if record is None else record.details.get("settings", {})
    geometry = known.get("geometry")
    asked_for = None if geometry is None else geometry.rsplit(" ", 2)[0]
    if "files" not in known or asked_for != run.config.ingest.geometry:
        return {}
    return {key: known[key] for key in ("layout", "part", "files", "geometry")}


def _geometry(run: Run, recognised: Recognised) -> str | None:
    """The mesh a user points at, with what tells that it was written again."""
    geometry = run.config.ingest.geometry
    if geometry is None:
        return None
    path = recognised.scan.folder / geometry
    if not path.is_file():
        return geometry  # opening the scan says that it is missing
    status = path.stat()
    return f"{geometry} {status.st_size} {status.st_mtime_ns}"


def _work(run: Run, task: Task, report: Report) -> str:
    scene = replace(_open(run, task.unit), name=task.unit)
    if scene.labels is not None:
        scene = replace(scene, labels=labels_in_memory(run, scene, scene.labels))
    source = ""
    if scene.colors is None and scene.frames:
        scene = replace(scene, colors=colors_from_frames(scene, projection_rules(LiftConfig())))
        source = ", coloured from its frames"
    sees = run.config.distill.input if run.trained is None else run.trained.needs.input
    require_colors(scene.name, scene.colors, sees)
    write_scene(scene, run.workspace.scene(task.unit))
    lost = int(scene.provenance.get("skipped_frames", 0))
    skipped = f" ({lost} without a valid pose or file left out)" if lost else ""
    mesh = "mesh" if scene.faces is not None else "cloud"
    known = f"{mesh} of {len(scene.points)} points, {len(scene.frames)} frames{skipped}{source}"
    if run.trained is not None and not scene.frames:
        doubt = unit_doubt(scene.points, run.trained.needs.voxel_size)
        return f"{known}; {doubt}" if doubt else known
    return known


def _open(run: Run, scene: str) -> Scene:
    config = run.config.ingest
    if config.source == "homes":
        seed, split = _home_seed(run, scene)
        size = config.image_size or HOME_IMAGE_SIZE
        from pcdistill.homes import home_scene

        return home_scene(seed, split, frames=config.frames, image_size=size)
    return open_scan(require_scan(run, scene), read_settings(run))


def _outputs(run: Run, scene: str) -> tuple[Path, ...]:
    return (run.workspace.scene(scene),)


def _estimate(run: Run, scene: str) -> int:
    if run.config.ingest.source == "homes":
        height, width = run.config.ingest.image_size or HOME_IMAGE_SIZE
        pixels = run.config.ingest.frames * height * width
        return int(_BYTES_PER_PIXEL * pixels) + _BYTES_PER_POINT * expected_points(run, scene)
    recognised = scans_of(run).found.get(scene)
    if recognised is None:
        return 0
    return min(size_share(run, recognised), _MOST_BYTES)


INGEST = Stage(
    name="ingest",
    version=6,
    units=scene_names,
    settings=_settings,
    inputs=no_inputs,
    outputs=_outputs,
    work=_work,
    estimate=_estimate,
)
