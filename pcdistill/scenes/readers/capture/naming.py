"""Names of scans and frames, and the order of numbered files."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from pcdistill.scenes.paths import entries_of
from pcdistill.scenes.readers.base import Scan


def find_scan_folders(folder: Path, is_scan: Callable[[Path], bool]) -> tuple[Scan, ...]:
    """`folder` as the one scan, or the scans among its folders, in the order of their numbers."""
    if is_scan(folder):
        return (Scan(folder.resolve().name or "scan", folder),)
    below = [entry for entry in entries_of(folder) if not entry.name.startswith(".")]
    names = sorted((entry.name for entry in below if is_scan(entry)), key=natural_sort_key)
    return tuple(Scan(name, folder / name) for name in names)


def natural_sort_key(name: str) -> tuple[list[tuple[int, str]], str]:
    """Key that sorts names by the numbers in them, 9 before 10."""
    parts = re.split(r"(\d{1,18})", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts if part], name


def unique_frame_names(paths: Sequence[str]) -> list[str]:
    """A name for each image path of a scan: a valid file name, and no two alike.

    The file's own name without suffix where those differ, else with its folders.
    """
    whole = [_file_name(path.strip("./\\")) for path in paths]
    files = [_file_name(re.split(r"[/\\]", path)[-1]) for path in paths]
    for names in ([_without_suffix(name) for name in files], [_without_suffix(n) for n in whole]):
        if len(set(names)) == len(names):
            return names
    return [f"{place}_{name}" for place, name in enumerate(whole)]


def _file_name(path: str) -> str:
    return re.sub(r"[/\\]|[\x00-\x1f]", "_", path)[-120:].lstrip(".") or "frame"


def _without_suffix(name: str) -> str:
    return name.rsplit(".", 1)[0] or name
