"""Workspace of a run: paths of its artefacts, and the manifest of finished units."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pcdistill.errors import ArtifactError, UnreadableError
from pcdistill.pipeline.artifact_files import read_json, write_json

_FLUSHED_SECONDS = 1.0
"""Units that took so long are not lost with the power of the machine, once they are finished."""
MAX_NAME = 100
"""Characters of a file name without its ending; file systems take 255 bytes with everything."""


def slug(name: str) -> str:
    """Make a file name of the name of a unit, different for different names.

    Letters, digits and `._+-` stay, `:` becomes `=` and `/` becomes `~`. Whatever else there is
    becomes a dash, and the name ends with eight digits of its hash; so does one that is too long.
    """
    kept = name.translate({ord(":"): "=", ord("/"): "~"})
    usual = re.fullmatch(r"[A-Za-z0-9_+=~-][A-Za-z0-9._+=~-]*", kept)
    if usual and not re.search("[=~]", name) and len(kept) <= MAX_NAME:
        return kept
    return f"{_readable(kept)}-{_digest(name)}"


def question_slug(text: str) -> str:
    """Make a folder name of a question: words joined by dashes, different for each question."""
    joined = text.replace(" ", "-")
    if re.fullmatch(r"[A-Za-z0-9_]+( [A-Za-z0-9_]+)*", text) and len(joined) <= MAX_NAME:
        return joined
    return f"{_readable(joined)}-{_digest(text)}"


def _readable(name: str) -> str:
    """Keep the letters of a name that may be in a file name, to recognise it by."""
    return re.sub(r"[^A-Za-z0-9_+-]+", "-", name)[: MAX_NAME - 9].strip("-") or "name"


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]


@dataclass(frozen=True)
class UnitRecord:
    """Manifest entry of one unit of one stage."""

    fingerprint: str
    """Hash of everything the outputs depend on."""
    state: Literal["done", "failed"]
    summary: str
    """One line worth reading; for a failed unit its reason."""
    seconds: float
    outputs: dict[str, int]
    """Path below the workspace -> size in bytes."""
    details: dict[str, Any]
    """Versions, device and settings at the time."""
    checksums: dict[str, str] = field(default_factory=dict)
    """Path below the workspace -> BLAKE2b of the content; earlier versions wrote none."""


def parse_record(value: Any) -> UnitRecord:
    """Turn the JSON value of a manifest entry into a record.

    Raises:
        ValueError: it is no entry, or names a file outside of the workspace.
    """
    try:
        record = UnitRecord(**value)
        outputs, checksums = record.outputs.items(), record.checksums.items()
        sound = (
            record.state in ("done", "failed")
            and all(isinstance(text, str) for text in (record.fingerprint, record.summary))
            and isinstance(record.seconds, int | float)
            and isinstance(record.details, dict)
            and all(_is_below(name) and type(size) is int for name, size in outputs)
            and all(name in record.outputs and isinstance(sum_, str) for name, sum_ in checksums)
        )
    except (TypeError, AttributeError) as error:
        raise ValueError(f"is no entry of a unit: {error}") from None
    if not sound:
        raise ValueError("is no entry of a unit")
    return record


def _is_below(name: str) -> bool:
    """Whether a path of a manifest stays below the workspace."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


class Workspace:
    """The folder holding all artefacts of one run."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def scene(self, scene: str) -> Path:
        """Folder of a stored scene."""
        return self.root / "scenes" / slug(scene)

    def point_features(self, teacher: str, scene: str) -> Path:
        """One teacher's point features of one scene."""
        return self.root / "features" / slug(teacher) / f"{slug(scene)}.safetensors"

    def reference_images(self, category: str) -> Path:
        """Synthesised images and pseudo masks of one vocabulary class."""
        return self.root / "synthesis" / f"{slug(category)}.safetensors"

    def drawn_images(self, category: str) -> Path:
        """Folder of the images of a class while not all of them are drawn."""
        return self.root / "synthesis" / f"{slug(category)}.drawn"

    def capability(self, teacher: str) -> Path:
        """One teacher's skill per vocabulary class."""
        return self.root / "capability" / f"{slug(teacher)}.json"

    def fused(self, scene: str) -> Path:
        """Fused features of one scene."""
        return self.root / "fused" / f"{slug(scene)}.safetensors"

    def superpoints(self, scene: str) -> Path:
        """Superpoint of each point of one scene."""
        return self.root / "superpoints" / f"{slug(scene)}.safetensors"

    def student(self, student: str) -> Path:
        """Folder of one distilled student."""
        return self.root / "students" / slug(student)

    def checkpoint(self, student: str) -> Path:
        """File of one distilled student, once it is trained."""
        return self.student(student) / "checkpoint.safetensors"

    def evaluation(self, row: str) -> Path:
        """Folder of one row of the results."""
        return self.root / "evaluation" / slug(row)

    def result(self, row: str) -> Path:
        """Metrics of a row, JSON."""
        return self.evaluation(row) / "result.json"

    def halfway_counts(self, row: str) -> Path:
        """Folder of a row's counts of scenes while not all of them are measured."""
        return self.evaluation(row) / "counts"

    def prediction(self, row: str, scene: str) -> Path:
        """The labels that a row gives to a scene."""
        return self.evaluation(row) / f"{slug(scene)}.safetensors"

    @property
    def true_capability(self) -> Path:
        """Every teacher's measured and true skill per vocabulary class."""
        return self.root / "evaluation" / "capability.json"

    @property
    def report(self) -> Path:
        """Folder of the report."""
        return self.root / "report"

    @property
    def config(self) -> Path:
        """The run's configuration as it was last used."""
        return self.root / "config.yaml"

    @property
    def scans(self) -> Path:
        """Names of the raw scans that the run is about."""
        return self.root / "scans.json"

    @property
    def running(self) -> Path:
        """Folder of the runs that work here now."""
        return self.root / "running"

    @property
    def claims(self) -> Path:
        """Folder of the units that runs work on now; a folder for each stage."""
        return self.root / "claims"

    def record_path(self, stage: str, unit: str) -> Path:
        """File of one manifest entry."""
        return Path(f"{self.root}/manifest/{stage}/{slug(unit)}.json")

    def record(self, stage: str, unit: str) -> UnitRecord | None:
        """Read the manifest entry of a unit; None where it was never tried.

        Raises:
            UnreadableError: the entry cannot be read.
        """
        path = self.record_path(stage, unit)
        if self.record_mark(stage, unit) is None:
            return None
        try:
            return parse_record(read_json(path))
        except UnreadableError:
            raise
        except (ArtifactError, ValueError):
            return None  # a damaged entry counts as never tried: the unit is made anew

    def record_names(self, stage: str) -> Iterator[str]:
        """File names, without ending, of all manifest entries of a stage, in their order."""
        yield from sorted(path.stem for path in (self.root / "manifest" / stage).glob("*.json"))

    def record_mark(self, stage: str, unit: str) -> tuple[int, int] | None:
        """What changes when the manifest entry of a unit is written anew; None where it has none.

        Raises:
            OSError: it cannot be told, because a folder cannot be read.
        """
        try:
            found = os.stat(self.record_path(stage, unit))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found.st_ino, found.st_mtime_ns

    def write_record(self, stage: str, unit: str, record: UnitRecord) -> None:
        """Write the manifest entry of a unit, after its outputs are on the disk.

        For a unit that took a moment it does not wait for the disk: where a machine loses its
        power just then, the entry is missing or empty, and the unit is made again.

        Args:
            stage: name.
            unit: name.
            record: how it ended.
        """
        flush = record.seconds >= _FLUSHED_SECONDS
        write_json(self.record_path(stage, unit), vars(record), flush=flush)

    def outputs_intact(self, record: UnitRecord) -> bool:
        """Whether every output of a finished unit is still there with its size.

        Raises:
            OSError: it cannot be told, because a folder cannot be read.
        """
        for name, size in record.outputs.items():
            try:
                if os.stat(f"{self.root}/{name}").st_size != size:
                    return False
            except (FileNotFoundError, NotADirectoryError):
                return False
        return True
