"""The text of an error is one printable line of a length that can be read."""

from __future__ import annotations

import pytest

from pcdistill.errors import ConfigError, SceneError


def test_what_has_no_end_is_cut_in_the_middle():
    error = SceneError(
        f"own.json: unknown key 'cat{'9' * 5000}gories', expected one of: name, note"
    )
    begin, _, end = str(error).partition("...")
    assert begin.startswith("own.json: unknown key 'cat9999")
    assert end.endswith("99gories', expected one of: name, note")
    assert len(str(error)) < 150


@pytest.mark.parametrize("name", ["a" * 255, "ü" * 127, "/".join(["b" * 255] * 15)])
def test_paths_stay_whole(name):
    assert str(SceneError(f"/data/{name}: no such folder")) == f"/data/{name}: no such folder"


def test_a_long_text_keeps_its_beginning_and_its_advice():
    error = str(ConfigError(f"run.yaml: 'note' is '{'a word ' * 9000}', expected less; shorten it"))
    assert error.startswith("run.yaml: 'note' is 'a word a word")
    assert error.endswith("expected less; shorten it")
    assert len(error) < 7000


def test_line_ends_and_orders_to_a_terminal_are_written_out():
    assert str(SceneError("a\nb\x1b[31m")) == "a\\nb\\x1b[31m"
