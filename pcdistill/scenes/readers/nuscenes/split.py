"""The official division of nuScenes' drives into training, validation and test."""

from __future__ import annotations

import re

_DRIVE = re.compile(r"scene-(\d{4})")
_VALIDATION = (
    "3 12-18 35-36 38-39 92-110 221 268-278 329-332 344-346 519-524 552-565 625-627 629-630 "
    "632-638 770-771 775 777-778 780-784 794-800 802 904-917 919-931 962-963 966-969 971-972 "
    "1059-1073"
)
"""Numbers of the 150 validation drives of v1.0-trainval, first and last of each run."""
_MINI_VALIDATION = "103 916"
"""The same of v1.0-mini, whose other eight drives are for training."""


def official_side(version: str, drive: str) -> str:
    """Which side a drive is on: `train`, `val` or `test`; empty for a version of one's own.

    Args:
        version: `v1.0-trainval`, `v1.0-mini` or `v1.0-test`.
        drive: such as `scene-0061`.

    Source: the nuScenes devkit's `splits.py`.
    """
    found = _DRIVE.fullmatch(drive)
    if found is None:
        return ""
    if version == "v1.0-test":
        return "test"
    validation = {"v1.0-trainval": _VALIDATION, "v1.0-mini": _MINI_VALIDATION}.get(version)
    if validation is None:
        return ""
    return "val" if int(found[1]) in _numbers(validation) else "train"


def _numbers(runs: str) -> set[int]:
    numbers: set[int] = set()
    for run in runs.split():
        first, _, last = run.partition("-")
        numbers |= set(range(int(first), int(last or first) + 1))
    return numbers
