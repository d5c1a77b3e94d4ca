"""Of all runs, one has a unit; what a dead one had is taken over by one of the others."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest

from pcdistill.pipeline import heartbeat
from pcdistill.pipeline import unit_claims as module
from pcdistill.pipeline.heartbeat import Heartbeat
from pcdistill.pipeline.unit_claims import UnitClaims
from pcdistill.pipeline.workspace import Workspace
from pcdistill.processes import ProcessName, own_name

ELSEWHERE = ProcessName("other-machine", "abcdef", 7)
DEAD = own_name()._replace(process=4194304)


class Still(Heartbeat):
    """Touches nothing, as a process that stands still."""

    def add(self, handle: int) -> None:
        """Do nothing."""


@pytest.fixture
def claims(tmp_path):
    """Claims of two runs of one process."""
    runs = [UnitClaims(Workspace(tmp_path), Still()) for _ in range(2)]
    yield runs
    for run in runs:
        run.give_back_all()
    left = [path for path in Workspace(tmp_path).claims.rglob("*") if path.is_file()]
    assert left == []


def leave_claim(root: Path, name: object) -> Path:
    path = Workspace(root).claims / "lift" / "a~b.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(["token", *name] if isinstance(name, tuple) else name))
    return path


def test_one_of_two_runs_has_a_unit_until_it_gives_it_back(claims):
    first, second = claims
    assert first.take("lift", "a/b") is None
    assert second.take("lift", "a/b") == own_name()
    assert second.holder("lift", "a/b") == own_name()
    assert second.take("fuse", "a/b") is None
    assert not first.is_lost("lift", "a/b")
    first.give_back("lift", "a/b")
    assert second.holder("lift", "a/b") is None
    assert second.take("lift", "a/b") is None


def test_of_two_that_make_the_folder_of_a_stage_at_once_one_has_the_unit(claims, monkeypatch):
    first, second = claims
    make_folder, others = Path.mkdir, [first]

    def mkdir(path, *arguments, **options):
        make_folder(path, *arguments, **options)
        while others:
            assert others.pop().take("lift", "a/b") is None

    monkeypatch.setattr(Path, "mkdir", mkdir)
    assert second.take("lift", "a/b") == own_name()


def test_what_a_dead_process_of_this_machine_had_is_taken_over_at_once(claims, tmp_path):
    leave_claim(tmp_path, DEAD)
    assert claims[0].holder("lift", "a/b") is None
    assert claims[0].take("lift", "a/b") is None
    assert claims[1].take("lift", "a/b") == own_name()


@pytest.mark.parametrize("content", [ELSEWHERE, own_name(), "", {"process": 7}])
def test_a_claim_that_is_not_touched_is_taken_over_after_a_while(
    claims, tmp_path, monkeypatch, content
):
    """Of another machine, of a process whose number another one has now, or written by halves."""
    monkeypatch.setattr(heartbeat, "TAKEOVER", 0.2)
    path = leave_claim(tmp_path, content)
    for number in range(6):
        os.utime(path, (number, number))
        assert claims[0].take("lift", "a/b") is not None
        time.sleep(0.05)
    time.sleep(0.2)
    assert claims[1].take("lift", "a/b") is not None  # it has not watched for as long
    assert claims[0].take("lift", "a/b") is None


def test_a_run_that_was_only_slow_finds_that_its_claim_is_lost(claims, monkeypatch):
    slow, quick = claims
    slow.take("lift", "a/b")
    monkeypatch.setattr(heartbeat, "TAKEOVER", 0.0)
    assert quick.take("lift", "a/b") is None
    assert slow.is_lost("lift", "a/b")
    slow.give_back("lift", "a/b")
    assert not quick.is_lost("lift", "a/b")
    monkeypatch.setattr(heartbeat, "TAKEOVER", 1000.0)
    assert slow.take("lift", "a/b") == own_name()


def test_of_many_that_would_take_over_one_does(tmp_path):
    runs = [UnitClaims(Workspace(tmp_path), Still()) for _ in range(8)]
    for number in range(20):
        path = Workspace(tmp_path).claims / "lift" / f"{number}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(["token", *DEAD]))
        begin, won = threading.Barrier(len(runs)), []

        def try_it(run, number=number, begin=begin, won=won):
            begin.wait()
            if run.take("lift", str(number)) is None:
                won.append(run)

        threads = [threading.Thread(target=try_it, args=(run,)) for run in runs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert not won[0].is_lost("lift", str(number))
        for run in runs:
            run.give_back_all()
    assert not [path for path in Workspace(tmp_path).claims.rglob("*") if path.is_file()]


def test_a_unit_that_was_given_back_before_it_was_taken_over_has_one_holder(
    claims, tmp_path, monkeypatch
):
    """Between the look at what was left and the takeover, another run ended it and began anew."""
    slow, quick = claims
    path = leave_claim(tmp_path, DEAD)
    successor = module._successor

    def meanwhile(first, found):
        if not quick._held and found.holder == DEAD:
            path.unlink()
            assert quick.take("lift", "a/b") is None
        return successor(first, found)

    monkeypatch.setattr(module, "_successor", meanwhile)
    assert slow.take("lift", "a/b") == own_name()
    assert not quick.is_lost("lift", "a/b")


def test_a_claim_that_cannot_be_written_leaves_nothing(claims, tmp_path, monkeypatch):
    def full(handle, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        claims[0].take("lift", "a")
    monkeypatch.undo()
    assert claims[1].take("lift", "a") is None
