"""Names of units map one to one onto names of files."""

from __future__ import annotations

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcdistill.pipeline.workspace import (
    MAX_NAME,
    UnitRecord,
    Workspace,
    question_slug,
    slug,
)

TRICKY = [
    *("客厅", "卧室", "room 1", "room-1", "room_1", "room/1", "room:1", "room~1", "room=1"),
    *("", ".", "..", ".hidden", "-", "--", "a" * 245, "a" * 246, "é", "e", "CON", "a.b", "a\nb"),
]


@pytest.mark.parametrize("name_file", [slug, question_slug])
def test_names_that_look_alike_get_files_of_their_own(name_file):
    files = [name_file(name) for name in TRICKY]
    assert len(set(files)) == len(TRICKY)


@given(st.lists(st.text(alphabet="ab-_:/~= .é", max_size=6), unique=True, max_size=30))
def test_different_names_have_different_files(names):
    assert len({slug(name) for name in names}) == len(names)
    assert len({question_slug(name) for name in names}) == len(names)


@given(st.text(max_size=300))
def test_every_name_is_one_that_file_systems_take(name):
    for file in (slug(name), question_slug(name)):
        assert re.fullmatch(r"[A-Za-z0-9_+=~-][A-Za-z0-9._+=~-]*", file)
        assert len(file) <= MAX_NAME


def test_usual_names_stay_readable():
    assert slug("scene0011_00") == "scene0011_00"
    assert slug("student:superpoint+ensemble") == "student=superpoint+ensemble"
    assert slug("demo-dense/home-train-0") == "demo-dense~home-train-0"
    assert question_slug("a place to sleep") == "a-place-to-sleep"
    assert slug("living room").startswith("living-room-")


@pytest.mark.parametrize(("seconds", "flushed"), [(0.2, 0), (2.0, 2)])
def test_the_entry_of_a_quick_unit_does_not_wait_for_the_disk(
    tmp_path, monkeypatch, seconds, flushed
):
    """A file and its folder are flushed for one that took long."""
    calls = []
    monkeypatch.setattr(os, "fsync", calls.append)
    workspace = Workspace(tmp_path)
    record = UnitRecord("mark", "done", "made", seconds, {"a": 1}, {})
    workspace.write_record("lift", "a/b", record)
    assert workspace.record("lift", "a/b") == record
    assert len(calls) == flushed


def test_the_mark_of_an_entry_changes_when_it_is_written_anew(tmp_path):
    workspace = Workspace(tmp_path)
    marks = [workspace.record_mark("lift", "a")]
    for _ in range(2):
        workspace.write_record("lift", "a", UnitRecord("mark", "done", "made", 0.0, {}, {}))
        marks.append(workspace.record_mark("lift", "a"))
    assert marks[0] is None
    assert len(set(marks)) == 3
