"""Every artefact against its manifest: what is damaged is found, named, and made anew."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import pytest

from pcdistill.pipeline import integrity
from pcdistill.pipeline.artifact_files import read_json, write_json
from pcdistill.pipeline.config import GeneralConfig, RunConfig
from pcdistill.pipeline.context import RunContext
from pcdistill.pipeline.integrity import Finding, mark_damaged, verify_workspace
from pcdistill.pipeline.runner import run_stages
from pcdistill.pipeline.status import stage_states
from pcdistill.pipeline.workspace import Workspace, parse_record
from tests.pipeline.test_runner import Letters, OfRoot, Word, times_worked


class Shelf(OfRoot):
    """A folder of two files."""

    name = "shelf"

    def units(self):
        return ("left",)

    def work(self, task, report):
        (folder,) = self.outputs(task.unit)
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("one", "two"):
            (folder / name).write_text(name)
        return "filled the shelf"


STAGES = (Letters, Word, Shelf)


@pytest.fixture
def config(tmp_path):
    config = RunConfig(run=GeneralConfig(workspace=str(tmp_path / "work")))
    run_stages(config, STAGES)
    return config


def opened(config: RunConfig) -> tuple[Workspace, list]:
    run = RunContext(config)
    return run.workspace, [stage(run) for stage in STAGES]


def verified(config: RunConfig) -> list[Finding]:
    return list(verify_workspace(*opened(config)))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def test_a_whole_workspace_has_nothing_wrong(config):
    told = []
    assert list(verify_workspace(*opened(config), lambda *bytes: told.append(bytes))) == []
    assert told[-1] == (4 + 4 + 6, 4 + 4 + 6)


def test_each_kind_of_damage_is_one_line_with_unit_and_remedy(config, root):
    flip(root / "letters" / "b")
    (root / "letters" / "c").unlink()
    (root / "word").write_text("abc")
    (root / "shelf" / "left" / "three").write_text("3")
    (root / "shelf" / "right").write_text("-")
    (root / "manifest" / "letters" / "d.json").write_text('{"state"')
    assert [str(finding) for finding in verified(config)] == [
        "letters b: letters/b is damaged, its content was changed; the next run makes it anew",
        "letters c: letters/c is missing; the next run makes it anew",
        "letters d: manifest/letters/d.json is damaged, no entry of a unit; the next run makes it "
        "anew",
        "word word: word is damaged, it has 3 bytes and was written with 4; the next run makes it "
        "anew",
        "shelf/right was not written by the run; delete it where you do not need it",
        "shelf left: shelf/left/three was not written by this unit; delete it where you do not "
        "need it",
    ]


def test_a_flipped_bit_is_made_anew_with_what_depends_on_it(config, root):
    """The size is as it was, so that without the mark the next run would skip both."""
    flip(root / "letters" / "b")
    workspace, stages = opened(config)
    assert run_stages(config, STAGES).done == 0
    assert mark_damaged(workspace, stages, verified(config)) == (1, 1)
    states = stage_states(workspace, stages)
    assert (states["letters"]["stale"], states["word"]["stale"]) == (1, 1)
    again = run_stages(config, STAGES)
    assert (again.done, again.skipped) == (2, 4)
    assert (root / "letters" / "b").read_text() == "b"
    assert [times_worked(root, unit) for unit in ("a", "b", "word")] == [1, 2, 2]
    assert verified(config) == []


def test_a_damaged_entry_concerns_its_own_unit_only(config, root):
    (root / "manifest" / "letters" / "b.json").write_text("{")
    assert mark_damaged(*opened(config), verified(config)) == (1, 0)
    assert run_stages(config, STAGES).done == 1


def test_a_missing_file_marks_nobody(config, root):
    (root / "letters" / "b").unlink()
    workspace, stages = opened(config)
    assert mark_damaged(workspace, stages, verified(config)) == (0, 0)
    assert run_stages(config, STAGES).done == 1


def test_entries_of_earlier_versions_are_read_and_have_no_checksum(config, root):
    for file in (root / "manifest").rglob("*.json"):
        entry = read_json(file)
        del entry["checksums"]
        write_json(file, entry)
    (root / "workspace.json").unlink()
    found = verified(config)
    assert {finding.kind for finding in found} == {"no checksum"}
    assert len(found) == 7
    assert run_stages(config, STAGES).skipped == 6
    (root / "word").write_text("abc")
    assert [finding.kind for finding in verified(config) if finding.stage == "word"] == ["damaged"]


def test_a_unit_that_is_made_anew_meanwhile_is_not_called_damaged(config, root, monkeypatch):
    """Its file is replaced first, and its entry after that."""
    entry = root / "manifest" / "letters" / "b.json"
    newer = read_json(entry) | {"checksums": {}, "seconds": 9.0}

    def report(done: int, total: int) -> None:
        if done == 1:  # letter a is compared
            (root / "letters" / "b").write_text("B")
            write_json(entry, newer)

    assert list(verify_workspace(*opened(config), report)) == []


def test_entries_of_units_that_the_run_no_longer_has_count_too(config, root):
    entry = root / "manifest" / "letters" / "old.json"
    write_json(entry, read_json(root / "manifest" / "letters" / "a.json"))
    flip(root / "letters" / "a")
    assert [finding.unit for finding in verified(config)] == ["a", "old"]
    assert mark_damaged(*opened(config), verified(config)) == (2, 1)


def test_a_file_that_cannot_be_read_is_not_called_damaged(config, monkeypatch):
    def bad_sector(path: Path, count) -> str:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(integrity, "file_blake2b", bad_sector)
    found = verified(config)
    assert {finding.kind for finding in found} == {"unreadable"}
    assert found[0].reason.startswith("cannot be read (Input/output error); check its")
    assert mark_damaged(*opened(config), found) == (0, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"outputs": {"../letters/a": 1}},
        {"outputs": {"/etc/passwd": 1}},
        {"outputs": {"letters/../../a": 1}},
        {"outputs": {"": 1}},
        {"outputs": {"letters/a": "1"}},
        {"outputs": None},
        {"checksums": {"letters/b": "0"}},
        {"checksums": ["letters/a"]},
        {"state": "fine"},
        {"fingerprint": 3},
        {"seconds": "long"},
        {"more": 1},
    ],
    ids=str,
)
def test_an_entry_that_no_run_wrote_is_damaged(config, root, change):
    """Names that lead out of the workspace above all: whoever reads an entry opens what it says."""
    file = root / "manifest" / "letters" / "a.json"
    entry = read_json(file)
    parse_record(entry)
    with pytest.raises(ValueError, match="no entry of a unit"):
        parse_record(entry | change)
    write_json(file, entry | change)
    assert [finding.kind for finding in verified(config)] == ["damaged"]
    assert Workspace(root).record("letters", "a") is None
    assert run_stages(config, STAGES).done == 1


def test_half_made_files_are_not_called_extra(config, root):
    (root / "shelf" / ".left.host.1.part").write_text("")
    (root / "shelf" / "a.drawn").mkdir()
    (root / "shelf" / "a.drawn" / "0.safetensors").write_text("")
    (root / "manifest" / "shelf" / "left.json").unlink()  # killed before the entry was written
    assert verified(config) == []


def test_marks_stay_through_another_verification(config, root):
    flip(root / "letters" / "b")
    workspace, stages = opened(config)
    for _ in range(2):
        mark_damaged(workspace, stages, verified(config))
    assert replace(workspace.record("letters", "b"), fingerprint="x").state == "done"
    assert run_stages(config, STAGES).done == 2
