"""Default split of scans into training and validation, where the run has no lists."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pcdistill.scenes import READERS, DetectedScan, Division

_PART = re.compile(r"(.*scene\d{4})_\d{2}|(.*scene-\d{4})_\d+|(.+)_region\d+")
"""A scan of a room of ScanNet, a keyframe of a drive of nuScenes, a region of a house of
Matterport3D."""
HELD_OUT = 5
"""One place in so many is held out where the data set does not say what is measured."""


class Split(NamedTuple):
    """Scenes by name, and in words what decided it; empty where nothing had to."""

    training: tuple[str, ...]
    validation: tuple[str, ...]
    why: str = ""
    side: str = ""
    """Side of the data set's own division that is measured: `val` or `test`; empty where it is not
    such a division."""


def default_split(path: Path, found: Mapping[str, DetectedScan], *, trains: bool) -> Split:
    """Split scans as their data set does, else hold some out; where neither can be, all do both.

    Only scans with true labels are measured, so only of them some are kept apart. Published lists
    are looked for beside the data, in the folder `path` or the one above it. A place is what
    several scans may show: a room, a drive, a house; none is on both sides.

    Args:
        path: where the scans were found.
        found: scene name -> scan, in order.
        trains: whether a student learns from the scans; for one that is trained already only the
            data set's own division counts.
    """
    everything = tuple(found)
    divisions = {name: _division(scan) for name, scan in found.items()}
    labelled = [name for name, division in divisions.items() if division.labelled]
    published = _published(path, found, divisions) if labelled else None
    if published is not None:
        return published
    if not trains:
        return Split(everything, everything)
    places = list(dict.fromkeys(place_of(name) for name in labelled))
    if len(places) < 2:
        return Split(everything, everything)
    held = set(places[HELD_OUT - 1 :: HELD_OUT] or places[-1:])
    validation = tuple(name for name in labelled if place_of(name) in held)
    training = tuple(name for name in everything if place_of(name) not in held)
    apart = f"{len(held)} of {len(places)} places" if len(places) < len(labelled) else ""
    count = apart or f"{len(validation)} of {len(labelled)} scans"
    return Split(training, validation, f"{count} held out of the training, as no list says which")


def place_of(name: str) -> str:
    """Name what a scan shows, by its scene name: its room, drive or house, else the scan itself."""
    found = _PART.fullmatch(name)
    return next(filter(None, found.groups())) if found else name


def counted(scans: int) -> str:
    """Write a number of scans in words."""
    return f"{scans} scan" if scans == 1 else f"{scans} scans"


def _division(detected: DetectedScan) -> Division:
    division = READERS[detected.layout].division
    return Division(labelled=False) if division is None else division(detected.scan)


def _published(
    path: Path, found: Mapping[str, DetectedScan], divisions: Mapping[str, Division]
) -> Split | None:
    """The data set's own division, where both sides have a scan with labels."""
    labelled = {name for name, division in divisions.items() if division.labelled}
    sides = {name: division.side for name, division in divisions.items() if division.side}
    layouts = dict.fromkeys(scan.layout for scan in found.values())
    lists = {
        side: file
        for layout in layouts
        for side, name in READERS[layout].lists.items()
        if (file := _beside(path, name)) is not None
    }
    for side, file in lists.items():
        listed = set(file.read_text(encoding="utf-8", errors="replace").split())
        sides |= {n: side for n in found if n in listed or place_of(n) in listed}
    train = {name for name in found if sides.get(name) == "train"}
    if not train and "train" not in lists:
        train = {name for name in found if name not in sides}
    for side in dict.fromkeys(side for layout in layouts for side in READERS[layout].measured):
        measured = {name for name in found if sides.get(name) == side}
        if labelled & measured and labelled & train:
            source = lists[side].name if side in lists else "the data set's own division"
            return Split(
                _in_order(found, train),
                _in_order(found, measured),
                f"{counted(len(measured))} of {source}",
                side,
            )
    return None


def _in_order(found: Mapping[str, DetectedScan], names: set[str]) -> tuple[str, ...]:
    return tuple(name for name in found if name in names)


def _beside(path: Path, name: str) -> Path | None:
    """A published list in a folder of scans or above it."""
    place = path.absolute()
    return next((f for p in (place, place.parent) if (f := p / name).is_file()), None)
