"""Verification of a workspace: every artefact against the checksum of its manifest entry."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

from pcdistill.checksums import file_blake2b
from pcdistill.errors import ArtifactError, UnreadableError
from pcdistill.pipeline.artifact_files import read_json
from pcdistill.pipeline.stage import Stage
from pcdistill.pipeline.workspace import UnitRecord, Workspace, parse_record, slug

FindingKind = Literal["damaged", "missing", "extra", "unreadable", "no checksum"]
_ANEW = "the next run makes it anew"
_WITHOUT_EXTRAS = {"students"}
"""Folders with files that no manifest names: logs of trainings, and states of unfinished ones."""
_MANIFEST = f"manifest{os.sep}"
_HALF_MADE = (".drawn", ".part", ".partial", ".replaced")
"""Endings of what is there while a unit is worked on."""


class Finding(NamedTuple):
    """What is wrong with one file of a workspace."""

    kind: FindingKind
    stage: str
    """Empty where the file belongs to no stage."""
    unit: str
    path: str
    """Below the workspace."""
    reason: str
    """What was found, and what to do."""

    def __str__(self) -> str:
        whose = f"{self.stage} {self.unit}: " if self.stage else ""
        return f"{whose}{self.path} {self.reason}"


class _Entry(NamedTuple):
    """A manifest entry, and the unit that it is of."""

    stage: str
    unit: str
    record: UnitRecord | None
    """None where the entry is damaged."""
    file: Path
    trouble: str


def verify_workspace(
    workspace: Workspace,
    stages: Sequence[Stage],
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Finding]:
    """Compare every file that a finished unit wrote with its manifest entry.

    Entries of units that the run no longer has count as well. A unit that is made anew meanwhile
    is compared with its new entry.

    Args:
        workspace: of the run.
        stages: all, opened.
        report: told how many bytes are compared and how many there are, block by block.

    Gives:
        what is wrong, as it is found: stage by stage, files that no entry names at the end.
    """
    entries = list(_entries(workspace, stages))
    sizes = [sum(e.record.outputs.values()) for e in entries if e.record is not None]
    total, done = sum(sizes), 0

    def count(size: int) -> None:
        nonlocal done
        done += size
        report(done, total)

    known: set[str] = set()
    for entry in entries:
        if entry.record is None:
            kind: FindingKind = "unreadable" if entry.trouble else "damaged"
            reason = entry.trouble or f"is damaged, no entry of a unit; {_ANEW}"
            name = str(entry.file.relative_to(workspace.root))
            yield Finding(kind, entry.stage, entry.unit, name, reason)
            continue
        known |= entry.record.outputs.keys()
        for name in entry.record.outputs:
            finding = _examine(workspace, entry, name, count)
            if finding is not None and _same_record(entry):
                yield finding
    yield from _extra_files(workspace, stages, entries, known)


def mark_damaged(
    workspace: Workspace, stages: Sequence[Stage], findings: Sequence[Finding]
) -> tuple[int, int]:
    """Mark damaged units, and those that depend on them, so that the next run makes them anew.

    What depends on a damaged file may have been made of it. A file that is missing was read by
    nobody: it alone is made anew, without a mark.

    Args:
        workspace: of the run.
        stages: all, opened, in order.
        findings: of `verify_workspace`.

    Returns:
        how many damaged units were marked, and how many others that depend on them.

    Raises:
        OSError: the manifest cannot be written.
    """
    wrong = [f for f in findings if f.kind == "damaged"]
    damaged = {(f.stage, f.unit) for f in wrong}
    affected = {(f.stage, f.unit) for f in wrong if not f.path.startswith(_MANIFEST)}
    for stage in stages:
        pending = list(stage.units())
        grew = True
        while grew:  # units of one stage may depend on each other
            reached = [
                unit
                for unit in pending
                if any((i.stage, i.unit) in affected for i in stage.inputs(unit))
            ]
            affected |= {(stage.name, unit) for unit in reached}
            pending = [unit for unit in pending if unit not in reached]
            grew = bool(reached)
    for stage_name, unit in sorted(affected):
        record = workspace.record(stage_name, unit)
        if record is not None and record.fingerprint:
            workspace.write_record(stage_name, unit, replace(record, fingerprint=""))
    return len(damaged), len(affected - damaged)


def _entries(workspace: Workspace, stages: Sequence[Stage]) -> Iterator[_Entry]:
    for stage in stages:
        units = {slug(unit): unit for unit in stage.units()}
        for name in workspace.record_names(stage.name):
            unit = units.get(name, name)
            file = workspace.root / "manifest" / stage.name / f"{name}.json"
            try:
                record = parse_record(read_json(file))
            except UnreadableError as error:
                yield _Entry(stage.name, unit, None, file, str(error))
            except (ArtifactError, ValueError):
                yield _Entry(stage.name, unit, None, file, "")
            else:
                yield _Entry(stage.name, unit, record, file, "")


def _examine(
    workspace: Workspace, entry: _Entry, name: str, count: Callable[[int], None]
) -> Finding | None:
    """What is wrong with one file; None where nothing is."""
    assert entry.record is not None
    size, expected = entry.record.outputs[name], entry.record.checksums.get(name)

    def finding(kind: FindingKind, reason: str) -> Finding:
        return Finding(kind, entry.stage, entry.unit, name, reason)

    try:
        found = (workspace.root / name).stat().st_size
        if found != size:
            reason = f"is damaged, it has {found} bytes and was written with {size}; {_ANEW}"
            return finding("damaged", reason)
        if expected is None:
            count(size)
            return finding("no checksum", "has no checksum, only its size was compared")
        if file_blake2b(workspace.root / name, count) != expected:
            return finding("damaged", f"is damaged, its content was changed; {_ANEW}")
    except (FileNotFoundError, NotADirectoryError):
        return finding("missing", f"is missing; {_ANEW}")
    except OSError as error:
        reason = f"cannot be read ({error.strerror or error}); check its permissions and the disk"
        return finding("unreadable", reason)
    return None


def _same_record(entry: _Entry) -> bool:
    """Whether the entry is still what it was, so that the unit was not made anew meanwhile."""
    try:
        return parse_record(read_json(entry.file)) == entry.record
    except (ArtifactError, ValueError):
        return False


def _extra_files(
    workspace: Workspace, stages: Sequence[Stage], entries: Sequence[_Entry], known: set[str]
) -> Iterator[Finding]:
    """Files in the folders of artefacts that no manifest entry names."""
    root = workspace.root
    finished = {(e.stage, e.unit) for e in entries if e.record and e.record.state == "done"}
    owners: dict[str, tuple[str, str]] = {}
    unfinished: set[str] = set()
    for stage in stages:
        for unit in stage.units():
            for path in stage.outputs(unit):
                name = str(path.relative_to(root))
                owners[name] = (stage.name, unit)
                if (stage.name, unit) not in finished:
                    unfinished.add(name)
    rooms = {name.split(os.sep)[0] for name in (*owners, *known)} - _WITHOUT_EXTRAS
    for room in sorted(rooms):
        for place, folders, files in os.walk(root / room):
            below = str(Path(place).relative_to(root))
            kept = [f for f in folders if not f.endswith(_HALF_MADE)]
            folders[:] = sorted(f for f in kept if f"{below}/{f}" not in unfinished)
            for file in sorted(files):
                name = f"{below}/{file}"
                if name in known or name in unfinished or file.endswith(_HALF_MADE):
                    continue
                parents = [str(parent) for parent in Path(name).parents]
                owner = next((owners[p] for p in parents if p in owners), ("", ""))
                whose = "this unit" if owner[0] else "the run"
                reason = f"was not written by {whose}; delete it where you do not need it"
                yield Finding("extra", *owner, name, reason)
