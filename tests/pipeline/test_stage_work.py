"""Several runs in one workspace share its units, wait for each other, and try nothing twice."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from pcdistill.errors import SceneError
from pcdistill.pipeline import heartbeat, stage_work
from pcdistill.pipeline.context import RunContext
from pcdistill.pipeline.progress import Progress
from pcdistill.pipeline.runner import run_stages
from pcdistill.pipeline.stage_work import LostClaimError
from pcdistill.pipeline.unit_claims import UnitClaims
from pcdistill.pipeline.workspace import Workspace
from pcdistill.pipeline.workspace_lock import joined_workspace
from pcdistill.processes import own_name
from tests.pipeline.test_runner import LETTERS, STAGES, Chain, Letters, Word, times_worked


class Meeting(Letters):
    """Letters during whose first one another run has to begin."""

    begun: threading.Event
    go_on: threading.Event

    def work(self, task, report):
        self.begun.set()
        assert self.go_on.wait(30)
        return super().work(task, report)


class Sequential(Letters):
    def parallel(self):
        return False


class Listening(Progress):
    def __init__(self):
        super().__init__(quiet=True)
        self.lines = []

    def print_line(self, text):
        self.lines.append(text)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(stage_work, "_FIRST_PAUSE", 0.02)
    monkeypatch.setattr(stage_work, "_LONGEST_PAUSE", 0.1)
    Meeting.begun, Meeting.go_on = threading.Event(), threading.Event()


class Other:
    """Another run, in a thread of this process."""

    def __init__(self, config, stages, **options):
        self.summary = None
        self._thread = threading.Thread(target=self._run, args=(config, stages, options))
        self._thread.start()

    def _run(self, config, stages, options):
        self.summary = run_stages(config, stages, **options)

    def end(self):
        self._thread.join(60)
        assert self.summary is not None
        return self.summary


def work_of_all(root: Path) -> list[int]:
    return [times_worked(root, unit) for unit in (*LETTERS, "word")]


def test_a_run_leaves_to_another_what_it_is_at_and_waits_for_it(config, root):
    """The second makes what is free, tells once what it waits for, and ends well."""
    first, heard = Other(config, (Meeting, Word)), Listening()
    assert Meeting.begun.wait(30)
    second = Other(config, STAGES, progress=heard)
    while sum(work_of_all(root)) < 3:
        time.sleep(0.01)
    time.sleep(0.1)
    Meeting.go_on.set()
    one, two = first.end(), second.end()
    assert (one.exit_status, two.exit_status) == (0, 0)
    assert work_of_all(root) == [1, 1, 1, 1, 1]
    assert one.done + two.done == 5
    assert one.done + one.by_others == two.done + two.by_others == 5
    assert one.skipped == two.skipped == 0
    assert heard.lines[0] == f"  letters: waits for letters a, which {own_name()} makes"
    assert heard.lines[1] == "  letters: 1 made by other runs"
    assert (root / "word").read_text() == "abcd"


def test_a_stage_waits_for_what_another_run_makes_of_an_earlier_stage(config, root):
    first, heard = Other(config, (Meeting, Word), only=["letters"]), Listening()
    assert Meeting.begun.wait(30)
    second = Other(config, STAGES, only=["word"], progress=heard)
    while not heard.lines:
        time.sleep(0.01)
    Meeting.go_on.set()
    assert (first.end().done, second.end().done) == (4, 1)
    assert heard.lines == [f"  word: waits for letters a, which {own_name()} makes"]
    assert (root / "word").read_text() == "abcd"


def test_a_shard_ends_well_where_another_shard_still_works(config, root):
    """It waits for what it needs of the other's units."""
    other = Other(config, (Meeting, Word), shard=(1, 2))
    assert Meeting.begun.wait(30)
    first = Other(config, STAGES, shard=(0, 2))
    while times_worked(root, "c") == 0:
        time.sleep(0.01)
    Meeting.go_on.set()
    assert (first.end().exit_status, other.end().exit_status) == (0, 0)
    assert (root / "word").read_text() == "abcd"
    assert work_of_all(root) == [1, 1, 1, 1, 1]


def test_what_nobody_makes_is_not_waited_for(config):
    with joined_workspace(Workspace(Path(config.run.workspace)), config, (0, 1), ("word",)):
        summary = run_stages(config, STAGES, only=["word"])
    assert summary.failures[0].reason == "not tried, because letters a is not there yet"


def test_a_run_that_ends_without_what_another_waits_for_ends_the_waiting(config, root):
    with joined_workspace(Workspace(root), config, (0, 1), ("letters", "word")):
        second, heard = Other(config, STAGES, only=["word"], progress=(told := Listening())), told
        while not heard.lines:
            time.sleep(0.01)
    reason = "not tried, because letters a is not there yet"
    assert [failure.reason for failure in second.end().failures] == [reason]


@pytest.mark.parametrize("redo", [False, True])
def test_a_unit_that_failed_is_not_tried_by_every_run_that_works_then(config, root, redo):
    """Whether it failed while a run works or before that one began; a later run tries it again."""
    (root / "refuse-b").touch()
    with joined_workspace(Workspace(root), config):
        first = run_stages(config, STAGES)
        second = run_stages(config, STAGES, redo=redo, only=["letters"])
    assert first.failures[0].reason == second.failures[0].reason
    assert second.failures[0].reason == "letter b is unreadable; remove refuse-b"
    assert second.exit_status == 1
    assert times_worked(root, "b") == (2 if redo else 1)
    run_stages(config, STAGES, only=["letters"])
    assert times_worked(root, "b") == (3 if redo else 2)


def test_runs_that_make_everything_anew_at_once_do_so_once(config, root):
    run_stages(config, STAGES)
    first = Other(config, (Meeting, Word), redo=True)
    assert Meeting.begun.wait(30)
    second = Other(config, STAGES, redo=True)
    while sum(work_of_all(root)) < 5 + 3:
        time.sleep(0.01)
    Meeting.go_on.set()
    one, two = first.end(), second.end()
    assert work_of_all(root) == [2, 2, 2, 2, 2]
    assert (one.done + two.done, one.exit_status, two.exit_status) == (5, 0, 0)
    assert run_stages(config, STAGES, redo=True).done == 5  # one that begins later


@pytest.mark.parametrize("stage", [Letters, Sequential])
def test_the_units_of_a_run_that_died_are_taken_over(config, root, stage):
    """Also those of a stage whose units use the whole machine."""
    name = own_name()._replace(process=4194304)
    with joined_workspace(Workspace(root), config):
        claim = Workspace(root).claims / "letters" / "b.json"
        claim.parent.mkdir(parents=True)
        claim.write_text(json.dumps(["token", *name]))
        assert run_stages(config, [stage, Word]).done == 5
    assert not [path for path in Workspace(root).claims.rglob("*") if path.is_file()]


def test_a_run_that_stood_still_for_too_long_leaves_the_unit_to_the_other(
    config, root, monkeypatch
):
    """It notices when the unit tells how far it is, and counts it as the other's."""
    monkeypatch.setattr(stage_work, "_CLAIM_LOOK", 0.0)

    class Slow(Chain):
        def units(self):
            return ("a",)

        def work(self, task, report):
            if not (root / "stood").exists():
                (root / "stood").touch()
                with monkeypatch.context() as patch:
                    patch.setattr(heartbeat, "TAKEOVER", 0.0)
                    other = UnitClaims(Workspace(root), heartbeat.Heartbeat())
                    assert other.take("chain", "a") is None
                try:
                    report(1, 2, "halves")
                except LostClaimError:
                    other.give_back("chain", "a")
                    raise
            return super().work(task, report)

    summary = run_stages(config, [Slow])
    assert (summary.done, summary.failures) == (1, [])
    assert RunContext(config).workspace.record("chain", "a").state == "done"


def test_a_unit_that_another_run_finished_meanwhile_is_no_failure(config, root):
    """What both wrote half-way, the quicker one has removed."""

    class Late(Letters):
        def work(self, task, report):
            super().work(task, report)
            if task.unit == "b":
                record = {"fingerprint": task.fingerprint, "state": "done", "summary": "quicker"}
                path = Workspace(root).record_path("letters", "b")
                path.parent.mkdir(parents=True, exist_ok=True)
                record |= {"seconds": 0.0, "outputs": {}, "details": {}}
                path.write_text(json.dumps(record))
                raise SceneError("the half-way state is gone")
            return "done"

    summary = run_stages(config, [Late, Word])
    assert (summary.done, summary.by_others, summary.failures) == (4, 1, [])
    assert Workspace(root).record("letters", "b").summary == "quicker"


def test_many_units_of_others_are_looked_at_by_parts(config, monkeypatch):
    """None is forgotten for that."""
    monkeypatch.setattr(stage_work, "_LONGEST_LOOK", -1.0)
    with joined_workspace(Workspace(Path(config.run.workspace)), config) as joined:
        for letter in LETTERS:
            joined.claims.take("letters", letter)
        second = Other(config, STAGES)
        time.sleep(0.1)
        for letter in LETTERS:
            joined.claims.give_back("letters", letter)
        assert second.end().done == 5
