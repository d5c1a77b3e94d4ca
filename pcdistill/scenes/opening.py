"""Any folder with a scan as a scene, recognised by what is in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from pcdistill.choices import suggest
from pcdistill.errors import ConfigError, SceneError
from pcdistill.scenes.rgbd import RgbdSettings, is_rgbd_folder, open_rgbd
from pcdistill.scenes.scene import Scene
from pcdistill.scenes.store import is_stored_scene, open_stored_scene


class Reader(NamedTuple):
    """One layout of a scan on disk."""

    looks_for: str
    """What the folder must have, for the message where no reader fits."""
    recognises: Callable[[Path], bool]
    open: Callable[[Path, RgbdSettings], Scene]


def _open_stored(folder: Path, settings: RgbdSettings) -> Scene:
    for field in fields(settings):
        if getattr(settings, field.name) != field.default:
            raise ConfigError(
                f"{folder}: is a stored scene, `{field.name}` was decided when it was written; "
                "leave the setting out, or give the raw scan"
            )
    return open_stored_scene(folder)


READERS: Mapping[str, Reader] = {
    "stored": Reader("scene.json (a stored scene)", is_stored_scene, _open_stored),
    "rgbd": Reader(
        "color/ depth/ pose/ and intrinsics.txt (posed RGB-D frames)", is_rgbd_folder, open_rgbd
    ),
}
"""Tried in this order."""


def is_scene_folder(path: str | Path) -> bool:
    """Whether some reader recognises the folder; opening it may still find it broken."""
    return any(reader.recognises(Path(path)) for reader in READERS.values())


def open_scene(path: str | Path, **settings: Any) -> Scene:
    """Open a stored scene, or a raw scan whose layout is recognised by its contents.

    Args:
        path: the folder of a scene.
        settings: how to read raw data, the fields of `RgbdSettings`; a stored scene takes none.

    Raises:
        ConfigError: a setting is unknown or has no possible value.
        SceneError: the folder is missing, no reader recognises it, or its content is unusable.
    """
    folder = Path(path)
    known = [field.name for field in fields(RgbdSettings)]
    for key in settings:
        if key not in known:
            raise ConfigError(f"unknown scene setting '{key}', {suggest(key, known)}")
    parsed = RgbdSettings(**settings)
    if not folder.exists():
        raise SceneError(f"{folder}: no such folder; check the path of the scan")
    if not folder.is_dir():
        raise SceneError(f"{folder}: is a file, expected the folder of a scan")
    for reader in READERS.values():
        if reader.recognises(folder):
            return reader.open(folder, parsed)
    found = sorted(entry.name for entry in folder.iterdir())
    listed = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "") if found else "nothing"
    raise SceneError(
        f"{folder}: is not a scan that can be read: looked for "
        f"{'; '.join(reader.looks_for for reader in READERS.values())}; found {listed}; "
        "arrange the scan as one of these"
    )
