"""Detection of the layout of a scan by its files, and opening it as a scene."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from pcdistill.errors import ConfigError, SceneError
from pcdistill.scenes.checks.fit_requirement import require_fitting_scene
from pcdistill.scenes.paths import (
    entries_of,
    is_existing_file,
    is_folder,
    leaving_out_unreadable,
    require_readable,
)
from pcdistill.scenes.reader_settings import ReaderSettings
from pcdistill.scenes.readers.arkitscenes import ARKITSCENES
from pcdistill.scenes.readers.base import Reader, Scan
from pcdistill.scenes.readers.cloud_file import CLOUD_FILE
from pcdistill.scenes.readers.colmap.reader import COLMAP
from pcdistill.scenes.readers.matterport.region import MATTERPORT
from pcdistill.scenes.readers.nerfstudio.reader import NERFSTUDIO
from pcdistill.scenes.readers.nuscenes.keyframe import NUSCENES
from pcdistill.scenes.readers.nuscenes.openscene import NUSCENES_CLIPS
from pcdistill.scenes.readers.record3d import RECORD3D
from pcdistill.scenes.readers.replica import REPLICA, replica_files
from pcdistill.scenes.readers.rgbd import RGBD
from pcdistill.scenes.readers.scannet.openscene import SCANNET_EXTRACTED
from pcdistill.scenes.readers.scannet.scan import SCANNET
from pcdistill.scenes.readers.scannetpp import SCANNETPP
from pcdistill.scenes.readers.stored import STORED
from pcdistill.scenes.readers.tum import TUM
from pcdistill.scenes.scene import Scene
from pcdistill.suggest import suggest

_LOG = logging.getLogger(__name__)

_MAX_LISTED = 8


READERS: Mapping[str, Reader] = {
    "nuscenes": NUSCENES,  # its tables have a scene.json too
    "stored": STORED,
    "scannet": SCANNET,
    "scannet_extracted": SCANNET_EXTRACTED,
    "scannetpp": SCANNETPP,  # its folders hold nerfstudio and COLMAP captures
    "arkitscenes": ARKITSCENES,
    "matterport": MATTERPORT,
    "replica": REPLICA._replace(files=replica_files),
    "nuscenes_clips": NUSCENES_CLIPS,
    "tum": TUM,
    "record3d": RECORD3D,
    "nerfstudio": NERFSTUDIO,
    "colmap": COLMAP,
    "rgbd": RGBD,
    "bare": CLOUD_FILE,
}
"""Tried in this order; the one that takes any cloud comes last."""


class DetectedScan(NamedTuple):
    """A scan, and who reads it."""

    layout: str
    """Key of `READERS`."""
    scan: Scan


def is_scene_folder(path: str | Path) -> bool:
    """Whether some reader recognises the folder; opening it may still find it broken."""
    return bool(_recognize_here(Path(path)))


def find_scans(path: str | Path) -> tuple[Scan, ...]:
    """Scans of a data set, of a folder of scans, or the one scan that `path` is.

    Looks at names only. A folder that no reader recognises may hold scans of any layout.

    Args:
        path: root of a data set, folder of scans, folder of one scan, or a file with a cloud.

    Returns:
        Scans of different names; none where no reader recognises anything.

    Raises:
        SceneError: there is nothing at `path`, or it may not be read.
    """
    return tuple(found.scan for found in detect_scans(path))


def detect_scans(path: str | Path) -> tuple[DetectedScan, ...]:
    """`find_scans`, with the layout of each scan."""
    path = Path(path)
    if not (is_folder(path) or is_existing_file(path)):
        raise SceneError(f"{path}: no such folder; check the path of the scan")
    require_readable(path)
    with leaving_out_unreadable() as left_out:
        found = _recognize_here(path)
        known = {detected.scan.folder for detected in found}
        if is_folder(path) and all(f.parent == path and is_folder(f) for f in known):
            others = [
                place for place in entries_of(path) if place not in known and _may_hold_scans(place)
            ]
            found += [scan for place in others for scan in _recognize_here(place)]
    if left_out and not found:
        raise left_out[0]
    for unreadable in dict.fromkeys(map(str, left_out)):
        _LOG.warning("left out while looking for scans: %s", unreadable)
    return tuple(_with_different_names(found))


def open_scan(detected: DetectedScan, settings: ReaderSettings) -> Scene:
    """Read a scan that `detect_scans` found.

    Raises:
        ConfigError: a setting does not fit the layout.
        SceneError: the content is missing or unusable.
    """
    reader = READERS[detected.layout]
    reader.require_taken(detected.scan, settings)
    scene = reader.open(detected.scan, settings)
    if detected.layout != "stored":  # was looked at when it was read
        require_fitting_scene(detected.scan.folder, scene)
    return scene


def open_scene(path: str | Path, part: str = "", **settings: Any) -> Scene:
    """Open a stored scene, or a raw scan whose layout is recognised by its contents.

    Args:
        path: the folder of a scan, a file with a cloud, or a folder with several scans.
        part: which of several scans, by its name or in the layout's own words.
        settings: how to read raw data, the fields of `ReaderSettings`; a stored scene takes none
            but `label_set`, which then must be its own.

    Raises:
        ConfigError: a setting is unknown or has no possible value.
        SceneError: there is nothing at `path`, no reader recognises it, it holds several scans and
            `part` names none of them, or its content is unusable.
    """
    known = [field.name for field in fields(ReaderSettings)]
    for key in settings:
        if key not in known:
            raise ConfigError(f"unknown scene setting '{key}', {suggest(key, known)}")
    parsed = ReaderSettings(**settings)
    return open_scan(_the_one(Path(path), part), parsed)


def require_scans(path: str | Path) -> tuple[DetectedScan, ...]:
    """`detect_scans` where there must be one.

    Raises:
        SceneError: there is nothing at `path`, or no reader recognises it.
    """
    path = Path(path)
    found = detect_scans(path)
    if found:
        return found
    looked = "; ".join(reader.required_files for reader in READERS.values())
    if not is_folder(path):
        raise SceneError(
            f"{path}: is a file, expected the folder of a scan or a file that can be read "
            f"({looked}); give one of these"
        )
    names = [entry.name for entry in entries_of(path)]
    listed = _listed(names, 5) if names else "nothing"
    raise SceneError(
        f"{path}: is not a scan that can be read: looked for {looked}; found {listed}; "
        "arrange the scan as one of these"
    )


def _the_one(path: Path, part: str) -> DetectedScan:
    found = require_scans(path)
    chosen = [scan for scan in found if part in ("", scan.scan.name, scan.scan.part)]
    if len(chosen) == 1:
        return chosen[0]
    names = [scan.scan.part or scan.scan.name for scan in found]
    if not chosen:
        hint = suggest(part, names) if len(names) <= _MAX_LISTED else _suggested(part, names)
        raise SceneError(f"{path}: has no scan '{part}'; {hint}")
    raise SceneError(
        f"{path}: holds {len(chosen)} scans ({_listed(names, _MAX_LISTED)}), expected one; choose "
        f'it with part="{names[0]}", or give its own folder'
    )


def _suggested(part: str, names: list[str]) -> str:
    hint = suggest(part, names)
    return hint if not hint.startswith("expected") else f"there are {_listed(names, _MAX_LISTED)}"


def _listed(names: list[str], limit: int) -> str:
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")


def _may_hold_scans(entry: Path) -> bool:
    return is_folder(entry) and not entry.name.startswith(".")


def _recognize_here(path: Path) -> list[DetectedScan]:
    """What the first reader that knows the place finds there."""
    for layout, reader in READERS.items():
        scans = reader.find(path)
        if scans:
            return [DetectedScan(layout, scan) for scan in scans]
    return []


def _with_different_names(found: list[DetectedScan]) -> list[DetectedScan]:
    """Put the folder before names that several scans share."""
    times = Counter(detected.scan.name for detected in found)
    different = []
    for detected in found:
        scan = detected.scan
        if times[scan.name] > 1:
            scan = scan._replace(name=f"{scan.folder.resolve().parent.name}-{scan.name}")
        different.append(DetectedScan(detected.layout, scan))
    return different
