"""A file is there whole or not at all."""

from __future__ import annotations

import os
import socket

import pytest

from pcdistill.stages.files import read_json, write_json
from pcdistill.storage import remove_leftovers, whole_file


def test_an_exception_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "table.json"
    write_json(path, {"kept": 1})
    with pytest.raises(RuntimeError), whole_file(path) as temporary:
        temporary.write_text("half of")
        raise RuntimeError
    assert read_json(path) == {"kept": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["table.json"]


def test_leftovers_of_dead_processes_go_and_those_of_living_ones_stay(tmp_path):
    host = socket.gethostname()
    dead = tmp_path / "a" / f".x.json.{host}.4194304.part"
    living = tmp_path / f".x.json.{host}.{os.getpid()}.part"
    elsewhere = tmp_path / ".x.json.another-host.1.part"
    dead.parent.mkdir()
    for path in (dead, living, elsewhere):
        path.write_text("half")
    assert remove_leftovers(tmp_path) == 1
    assert not dead.exists()
    assert living.exists()
    assert elsewhere.exists()
