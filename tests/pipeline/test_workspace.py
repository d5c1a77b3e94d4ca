"""Names of units map one to one onto names of files."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcdistill.pipeline.workspace import MAX_NAME, question_slug, slug

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
