"""Raw scans of a run: where they are, their files, and the lists that split them."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from pcdistill.artifacts.default_split import default_split
from pcdistill.errors import ArtifactError, ConfigError, SceneError
from pcdistill.pipeline import (
    IngestConfig,
    RunContext,
    Workspace,
    once_per_run,
    read_json,
    write_json,
)
from pcdistill.scenes import READERS, DetectedScan, ReaderSettings, require_scans
from pcdistill.suggest import suggest

_HEADER_BYTES = 4096
_VERTICES = re.compile(rb"\nelement +vertex +(\d+)")


class ScanIndex(NamedTuple):
    """The scans of a run."""

    found: dict[str, DetectedScan]
    """Scene name -> scan, of all that are there."""
    training: tuple[str, ...]
    """Names of scenes; one that a list names may be missing among those found."""
    validation: tuple[str, ...]
    is_there: bool = True
    """False where the raw data has moved away since the workspace was made; nothing is found then,
    and the names are those of the time."""
    why: str = ""
    """What decided which scenes are measured, where no list of the run did; see `Split`."""
    side: str = ""
    """Side of the data set's own division that is measured; see `Split`."""


class FileSummary(NamedTuple):
    """Summary of the files below a place, made without reading them."""

    mark: str
    """Changes when one comes, goes, or is written again."""
    size: int
    """Bytes."""
    points: int
    """Of the PLY file that has most of them, as its header says; 0 where there is none."""


class ScanSources:
    """The raw scans of a run; each place is looked at once.

    Args:
        config: where the scans are, how they are read, and the lists of their names.
        label_set: name of the evaluation classes.
        workspace: of the run; its own files are not counted among those of a scan.
        trains: whether a student learns from the scans.
    """

    def __init__(
        self, config: IngestConfig, label_set: str, workspace: Workspace, *, trains: bool
    ) -> None:
        self._config = config
        self._label_set = label_set
        self._workspace = workspace
        self._trains = trains
        self._known: dict[Path, FileSummary] = {}

    @cached_property
    def index(self) -> ScanIndex:
        """The scans, looked up once.

        Raises:
            ConfigError: no scan is given or found, or a list is missing or names none of them.
        """
        return _look_up(self._config, self._workspace, trains=self._trains)

    def scan(self, scene: str) -> DetectedScan:
        """Find the scan of a scene.

        Raises:
            SceneError: a list names it but it is not there, or the raw data has moved away.
            ConfigError: the raw data has moved away, and the scene that was made of it would be
                lost.
        """
        path, scans = self._config.path, self.index.found
        if not self.index.is_there:
            record = self._workspace.record("ingest", scene)
            gone = f"from {path}, which is gone; bring it back, or give its new place"
            if record is not None and record.state == "done":
                raise ConfigError(
                    f"scene {scene}: has to be read again {gone} with --scan, or leave the "
                    "settings of ingest as they were"
                )
            raise SceneError(f"scene {scene}: has to be read {gone} with --scan")
        if scene not in scans:
            named = {"train_list": self.index.training, "validation_list": self.index.validation}
            lists = " and ".join(
                f"{getattr(self._config, key)}" for key, names in named.items() if scene in names
            )
            raise SceneError(
                f"scene {scene}: is in {lists} but not among the {len(scans)} scans of {path}; "
                "download it, or take it out of the list"
            )
        return scans[scene]

    @property
    def settings(self) -> ReaderSettings:
        """How the scans are read.

        Raises:
            ConfigError: a value that cannot be.
        """
        return self._config.with_label_set(self._label_set)

    def files(self, detected: DetectedScan) -> FileSummary:
        """Sum up the files that a scan is read from."""
        digest, size, points = hashlib.sha256(), 0, 0
        for place in _places(detected):
            known = self._look_at(place)
            digest.update(known.mark.encode())
            size += known.size
            points = max(points, known.points)
        return FileSummary(digest.hexdigest()[:16], size, points)

    def attributed_bytes(self, detected: DetectedScan) -> int:
        """Bytes of the files of a scan, of those it shares with other scans its part."""
        return sum(
            self._look_at(place).size // max(1, self._scans_of_place[place])
            for place in _places(detected)
        )

    @cached_property
    def _scans_of_place(self) -> Counter[Path]:
        """How many scans are read from each place."""
        return Counter(place for scan in self.index.found.values() for place in _places(scan))

    def _look_at(self, place: Path) -> FileSummary:
        if place not in self._known:
            self._known[place] = _look_at(place, self._workspace.root)
        return self._known[place]

    def save_index(self) -> None:
        """Write to the workspace which scans these are, for when the raw data has moved away.

        Raises:
            ConfigError: see `index`.
        """
        if self._config.path is None or not self.index.is_there:
            return
        names = {
            "training": self.index.training,
            "validation": self.index.validation,
            "why": self.index.why,
            "side": self.index.side,
        }
        write_json(self._workspace.scans, {**_places_of(self._config), **names})


@once_per_run
def open_scan_sources(run: RunContext) -> ScanSources:
    """Open the raw scans of a run, in one object for all that ask."""
    return ScanSources(
        run.config.ingest,
        run.config.run.label_set,
        run.workspace,
        trains=run.config.distill.pretrained is None,
    )


def save_scan_index(run: RunContext) -> None:
    """Write to the workspace which scans the run is about; see `ScanSources.save_index`."""
    if run.config.ingest.source == "scan":
        open_scan_sources(run).save_index()


def _places(detected: DetectedScan) -> Sequence[Path]:
    files = READERS[detected.layout].files
    return [detected.scan.folder] if files is None else files(detected.scan)


def _look_at(place: Path, workspace: Path) -> FileSummary:
    digest, size, points = hashlib.sha256(), 0, 0
    for path, status in _below(place, workspace):
        relative = path.relative_to(place) if path != place else path.name
        digest.update(f"{relative} {status.st_size} {status.st_mtime_ns}\n".encode())
        size += status.st_size
        if path.suffix.lower() == ".ply":
            points = max(points, _vertices(path))
    return FileSummary(digest.hexdigest()[:16], size, points)


def _vertices(path: Path) -> int:
    """Vertices that the header of a PLY file tells of; 0 where it cannot be read."""
    try:
        with path.open("rb") as stream:
            found = _VERTICES.search(stream.read(_HEADER_BYTES))
    except OSError:
        return 0
    return int(found[1]) if found else 0


def _below(place: Path, workspace: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Files below a place, but for those of a workspace in it, which every run changes."""
    if not place.is_dir():
        if place.exists():
            yield place, place.stat()
        return
    for folder, folders, names in os.walk(place):
        folders[:] = sorted(name for name in folders if Path(folder, name).absolute() != workspace)
        for name in sorted(names):
            path = Path(folder, name)
            if path.exists():  # a link may lead nowhere
                yield path, path.stat()


def _look_up(config: IngestConfig, workspace: Workspace, *, trains: bool) -> ScanIndex:
    if config.path is None:
        raise ConfigError("ingest.path is not set; give the folder of a scan with --scan")
    path = Path(config.path)
    if _is_gone(path) and (remembered := _remembered(config, workspace)) is not None:
        return remembered
    if not path.exists():
        raise ConfigError(f"{path}: no such folder; give the folder of a scan with --scan")
    try:
        detected = require_scans(path)
    except SceneError as error:
        raise ConfigError(str(error)) from None
    found = {scan.scan.name: scan for scan in detected}
    everything = tuple(found)
    lists = config.train_list, config.validation_list
    training, validation = (
        None if given is None else _named(Path(given), found, key)
        for given, key in zip(lists, ("train_list", "validation_list"), strict=True)
    )
    if training is None and validation is None:
        split = default_split(path, found, trains=trains)
        return ScanIndex(found, split.training, split.validation, why=split.why, side=split.side)
    if training is None:
        training = tuple(name for name in everything if name not in set(validation or ()))
    if validation is None:
        validation = tuple(name for name in everything if name not in set(training))
    return ScanIndex(found, training or everything, validation or everything)


def _remembered(config: IngestConfig, workspace: Workspace) -> ScanIndex | None:
    """What `save_index` noted of the same places; None where it did not."""
    try:
        noted = read_json(workspace.scans)
        if {key: noted[key] for key in _places_of(config)} != _places_of(config):
            return None
        training, validation = tuple(noted["training"]), tuple(noted["validation"])
        why, side = noted.get("why", ""), noted.get("side", "")
        return ScanIndex({}, training, validation, is_there=False, why=why, side=side)
    except (ArtifactError, KeyError, TypeError):
        return None


def _places_of(config: IngestConfig) -> dict[str, str | None]:
    given = {"path": config.path, "train": config.train_list, "validate": config.validation_list}
    return {
        key: None if value is None else str(Path(value).absolute()) for key, value in given.items()
    }


def _is_gone(path: Path) -> bool:
    """Whether nothing is there, or what an unmounted disk leaves."""
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))


def _named(file: Path, found: dict[str, DetectedScan], key: str) -> tuple[str, ...]:
    """Scenes that a list names: by their own name, or several by what their names begin with.

    Data sets list houses and drives, whose parts are our scenes: `HOUSE` stands for all of
    `HOUSE_region0` and so on, and for all scenes in a folder of that name.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise ConfigError(
            f"ingest.{key}: {file} does not exist; give a text file with one scene name a line"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"ingest.{key}: {file} cannot be read ({error}); give a text file with one scene name "
            "a line"
        ) from None
    wanted = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    wholes: dict[str, list[str]] = {}
    for name, detected in found.items():
        for whole in {detected.scan.folder.name, name.rpartition("_")[0]}:
            wholes.setdefault(whole, []).append(name)
    names: dict[str, None] = {}
    for entry in wanted:
        names |= dict.fromkeys([entry] if entry in found else wholes.get(entry, [entry]))
    if not any(name in found for name in names):
        example = wanted[0] if wanted else ""
        raise ConfigError(
            f"ingest.{key}: {file} names {len(wanted)} scenes, none of which is among the "
            f"{len(found)} scans"
            + (f" ('{example}': {suggest(example, list(found)[:8])})" if wanted else "")
            + "; give a list of scene names"
        )
    return tuple(names)
