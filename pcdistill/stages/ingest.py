"""Stage ingest: stored scenes of raw scans or generated homes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pcdistill.artifacts import (
    check_colors,
    estimate_sizes,
    labels_in_memory,
    open_scan_sources,
    projection_rules,
    split_scenes,
)
from pcdistill.callbacks import ProgressCallback
from pcdistill.lifting import average_frame_colors
from pcdistill.pipeline import HOME_IMAGE_SIZE, LiftConfig, RunContext, Stage, Task
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


class IngestStage(Stage):
    """A unit is a scene."""

    name = "ingest"
    version = 6

    def __init__(self, run: RunContext) -> None:
        self._workspace = run.workspace
        self._config = run.config.ingest
        self._seed = run.config.run.seed
        self._label_set = run.label_set
        self._scans = open_scan_sources(run)
        self._scenes = split_scenes(run).all
        self._sizes = estimate_sizes(run)
        self._pretrained = run.pretrained
        self._input = run.config.distill.input

    def units(self) -> tuple[str, ...]:
        """All scenes."""
        return self._scenes

    def settings(self, unit: str) -> Mapping[str, Any]:
        """The home and its generator, or the files of the scan and how they are read."""
        if self._config.source == "homes":
            from pcdistill.homes import GENERATION

            seed, split = self._home_seed(unit)
            return {
                "generation": GENERATION,
                "home": seed,
                "split": split,
                "frames": self._config.frames,
                "image_size": self._config.image_size or HOME_IMAGE_SIZE,
            }
        source = self._source(unit)
        if not source:
            return {"missing": unit}
        labels, settings = self._label_set, {**vars(self._scans.settings), **source}
        if source["layout"] in _LABELS_AS_THEY_ARE:
            del settings["label_set"]
            own = source["layout"] == "stored"  # the only labels that a user may have written
            return {**settings, "ignore_label": labels.ignore_label} if own else settings
        return {**settings, "label_ids": labels.ids, "labels": labels.released_names}

    def outputs(self, unit: str) -> tuple[Path, ...]:
        """Folder of the stored scene."""
        return (self._workspace.scene(unit),)

    def work(self, task: Task, report: ProgressCallback) -> str:
        """Read or generate a scene, colour it where its frames can tell, and store it."""
        scene = replace(self._open(task.unit), name=task.unit)
        if scene.labels is not None:
            scene = replace(scene, labels=labels_in_memory(self._label_set, scene, scene.labels))
        source = ""
        if scene.colors is None and scene.frames:
            rules = projection_rules(LiftConfig())
            scene = replace(scene, colors=average_frame_colors(scene, rules))
            source = ", coloured from its frames"
        given = self._pretrained
        check_colors(scene.name, scene.colors, self._input if given is None else given.needs.input)
        write_scene(scene, self._workspace.scene(task.unit))
        missing = int(scene.provenance.get("skipped_frames", 0))
        skipped = f" ({missing} without a valid pose or file left out)" if missing else ""
        mesh = "mesh" if scene.faces is not None else "cloud"
        known = f"{mesh} of {len(scene.points)} points, {len(scene.frames)} frames{skipped}{source}"
        if given is not None and not scene.frames:
            doubt = metric_unit_warning(scene.points, given.needs.voxel_size)
            return f"{known}; {doubt}" if doubt else known
        return known

    def estimate(self, unit: str) -> int:
        """Bytes of the frames and points of a home, or of a scan's own files."""
        if self._config.source == "homes":
            height, width = self._config.image_size or HOME_IMAGE_SIZE
            pixels = self._config.frames * height * width
            return int(_BYTES_PER_PIXEL * pixels) + _BYTES_PER_POINT * self._sizes.points(unit)
        detected = self._scans.index.found.get(unit)
        return 0 if detected is None else min(self._scans.attributed_bytes(detected), _MAX_BYTES)

    def _open(self, scene: str) -> Scene:
        config = self._config
        if config.source == "homes":
            from pcdistill.homes import home_scene

            seed, split = self._home_seed(scene)
            size = config.image_size or HOME_IMAGE_SIZE
            return home_scene(seed, split, frames=config.frames, image_size=size)
        return open_scan(self._scans.scan(scene), self._scans.settings)

    def _home_seed(self, scene: str) -> tuple[int, str]:
        _, part, number = scene.split("-")
        split = part if self._config.homes == "development" else f"test-{part}"
        return self._seed * _HOMES_PER_SEED + int(number), split

    def _source(self, scene: str) -> dict[str, Any]:
        """What tells that a scan is another than it was; nothing where it was never there."""
        detected = self._scans.index.found.get(scene)
        if detected is not None:
            return {
                "layout": detected.layout,
                "part": detected.scan.part,
                "files": self._scans.files(detected).mark,
                "surface_file": _surface_mark(detected, self._config.surface_file),
            }
        return {} if self._scans.index.is_there else self._source_of_old(scene)

    def _source_of_old(self, scene: str) -> dict[str, Any]:
        """What the manifest says of raw data that has moved away."""
        record = self._workspace.record("ingest", scene)
        known = {} if record is None else record.details.get("settings", {})
        surface = known.get("surface_file")
        asked_for = None if surface is None else surface.rsplit(" ", 2)[0]
        if "files" not in known or asked_for != self._config.surface_file:
            return {}
        return {key: known[key] for key in ("layout", "part", "files", "surface_file")}


def _surface_mark(detected: DetectedScan, surface_file: str | None) -> str | None:
    """The mesh a user points at, with what tells that it was written again."""
    if surface_file is None:
        return None
    path = detected.scan.folder / surface_file
    if not path.is_file():
        return surface_file  # opening the scan says that it is missing
    status = path.stat()
    return f"{surface_file} {status.st_size} {status.st_mtime_ns}"
