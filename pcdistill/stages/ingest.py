"""Stage ingest: raw data in, stored scenes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pcdistill.artifacts import (
    attributed_bytes,
    check_colors,
    estimate_points,
    get_scan,
    get_scan_index,
    labels_in_memory,
    projection_rules,
    reader_settings,
    scene_names,
    summarize_scan_files,
)
from pcdistill.callbacks import ProgressCallback
from pcdistill.lifting import average_frame_colors
from pcdistill.pipeline import HOME_IMAGE_SIZE, LiftConfig, RunContext, Stage, Task, no_inputs
from pcdistill.scenes import DetectedScan, Scene, open_scan, write_scene
from pcdistill.scenes.checks import metric_unit_warning

_HOMES_PER_SEED = 1000
"""Runs of different seeds furnish different homes."""
_BYTES_PER_PIXEL = 1.1
"""Orientation for the disk estimate: a JPEG and a depth PNG of a generated frame."""
_BYTES_PER_POINT = 56
"""The same: position, normal, colour, labels, and its share of the faces."""
_MAX_BYTES = 100_000_000
"""The same for a scan: most layouts keep some frames of many, so large files say little."""

_LABELS_AS_THEY_ARE = {
    *("stored", "scannet_extracted", "nuscenes", "nuscenes_clips"),
    *("scannetpp", "arkitscenes", "replica", "tum", "record3d"),
    *("nerfstudio", "colmap", "rgbd", "bare"),
}
"""Layouts without labels, or whose labels are those of one label set: with another `run.label_set`
the same is read from them, and stage evaluate refuses what does not fit."""


def _home_seed(run: RunContext, scene: str) -> tuple[int, str]:
    _, part, number = scene.split("-")
    split = part if run.config.ingest.homes == "development" else f"test-{part}"
    return run.config.run.seed * _HOMES_PER_SEED + int(number), split


def _settings(run: RunContext, scene: str) -> Mapping[str, Any]:
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
    recognised = get_scan_index(run).found.get(scene)
    if recognised is not None:
        source = {
            "layout": recognised.layout,
            "part": recognised.scan.part,
            "files": summarize_scan_files(run, recognised).mark,
            "surface_file": _geometry(run, recognised),
        }
    else:
        source = {} if get_scan_index(run).is_there else _source_of_old(run, scene)
    if not source:
        return {"missing": scene}
    settings = {**vars(reader_settings(run)), **source}
    if source["layout"] in _LABELS_AS_THEY_ARE:
        del settings["label_set"]
        own = source["layout"] == "stored"  # the only labels that a user may have written
        return {**settings, "ignore_label": run.label_set.ignore_label} if own else settings
    return {**settings, "label_ids": run.label_set.ids, "labels": run.label_set.released_names}


def _source_of_old(run: RunContext, scene: str) -> dict[str, Any]:
    """What the manifest says of raw data that has moved away; nothing where it was never there."""
    record = run.workspace.record("ingest", scene)
    known = {} if record is None else record.details.get("settings", {})
    geometry = known.get("surface_file")
    asked_for = None if geometry is None else geometry.rsplit(" ", 2)[0]
    if "files" not in known or asked_for != run.config.ingest.surface_file:
        return {}
    return {key: known[key] for key in ("layout", "part", "files", "surface_file")}


def _geometry(run: RunContext, recognised: DetectedScan) -> str | None:
    """The mesh a user points at, with what tells that it was written again."""
    geometry = run.config.ingest.surface_file
    if geometry is None:
        return None
    path = recognised.scan.folder / geometry
    if not path.is_file():
        return geometry  # opening the scan says that it is missing
    status = path.stat()
    return f"{geometry} {status.st_size} {status.st_mtime_ns}"


def _work(run: RunContext, task: Task, report: ProgressCallback) -> str:
    scene = replace(_open(run, task.unit), name=task.unit)
    if scene.labels is not None:
        scene = replace(scene, labels=labels_in_memory(run, scene, scene.labels))
    source = ""
    if scene.colors is None and scene.frames:
        scene = replace(scene, colors=average_frame_colors(scene, projection_rules(LiftConfig())))
        source = ", coloured from its frames"
    sees = run.config.distill.input if run.pretrained is None else run.pretrained.needs.input
    check_colors(scene.name, scene.colors, sees)
    write_scene(scene, run.workspace.scene(task.unit))
    missing = int(scene.provenance.get("skipped_frames", 0))
    skipped = f" ({missing} without a valid pose or file left out)" if missing else ""
    mesh = "mesh" if scene.faces is not None else "cloud"
    known = f"{mesh} of {len(scene.points)} points, {len(scene.frames)} frames{skipped}{source}"
    if run.pretrained is not None and not scene.frames:
        doubt = metric_unit_warning(scene.points, run.pretrained.needs.voxel_size)
        return f"{known}; {doubt}" if doubt else known
    return known


def _open(run: RunContext, scene: str) -> Scene:
    config = run.config.ingest
    if config.source == "homes":
        seed, split = _home_seed(run, scene)
        size = config.image_size or HOME_IMAGE_SIZE
        from pcdistill.homes import home_scene

        return home_scene(seed, split, frames=config.frames, image_size=size)
    return open_scan(get_scan(run, scene), reader_settings(run))


def _outputs(run: RunContext, scene: str) -> tuple[Path, ...]:
    return (run.workspace.scene(scene),)


def _estimate(run: RunContext, scene: str) -> int:
    if run.config.ingest.source == "homes":
        height, width = run.config.ingest.image_size or HOME_IMAGE_SIZE
        pixels = run.config.ingest.frames * height * width
        return int(_BYTES_PER_PIXEL * pixels) + _BYTES_PER_POINT * estimate_points(run, scene)
    recognised = get_scan_index(run).found.get(scene)
    if recognised is None:
        return 0
    return min(attributed_bytes(run, recognised), _MAX_BYTES)


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
