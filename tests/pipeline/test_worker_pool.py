"""How tasks are handed out, with workers that are lists: no process begins."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from pcdistill.errors import ConfigError
from pcdistill.pipeline.progress import Progress
from pcdistill.pipeline.stage import Stage, Task
from pcdistill.pipeline.worker_pool import WorkerPool
from pcdistill.pipeline.workers import UnitProgress, Workers
from pcdistill.pipeline.workspace import UnitRecord

ROOM = 3


class WorkerGoneError(Exception):
    pass


class Letters(Stage):
    name = "letters"
    version = 1


class ListedWorkers(Workers):
    """Make the first unit that they hold at each look; a deadly one ends its worker, or all."""

    lost = (WorkerGoneError,)
    elsewhere = False
    advice = "feed it less"

    def __init__(self, deadly: dict[str, int], *, die_together: bool, refused: str = "") -> None:
        self.deadly = deadly
        self.die_together = die_together
        self.refused = refused
        self.held: list[tuple[str, Future]] = []
        self.log: list[tuple[str, ...]] = []
        """Units in flight at each look."""

    def start(self):
        return True

    def room(self, running):
        assert running == len(self.held)
        return ROOM - running

    def submit(self, stage, task, *, alone):
        assert len(self.held) < ROOM
        future = Future()
        self.held.append((task.unit, future))
        return future

    def listen(self, running, seconds):
        assert set(running) == {future for _, future in self.held}
        self.log.append(tuple(unit for unit, _ in self.held))
        unit, future = self.held.pop(0)
        if unit == self.refused:
            future.set_exception(ConfigError("a setting is wrong; mend it"))
        elif self.deadly.get(unit, 0) > 0:
            self.deadly[unit] -= 1
            for other in [future, *(other for _, other in self.held if self.die_together)]:
                other.set_exception(WorkerGoneError())
        else:
            future.set_result(UnitRecord("", "done", f"made {unit}", 0.0, {}, {}))
        return [UnitProgress(unit, 1, 2, "halves")]

    def close(self, *, wait=False):
        self.held.clear()


class Heard(Progress):
    def __init__(self):
        super().__init__(quiet=True)
        self.said = []

    def unit_callback(self, stage, unit):
        return lambda *words: self.said.append((stage, unit, *words))


def tasks(letters, drawn=None):
    for letter in letters:
        if drawn is not None:
            drawn.append(letter)
        yield Task(letter, (), "")


def made(workers, letters, **options):
    outcomes = WorkerPool(workers).outcomes(Letters, tasks(letters), Heard(), **options)
    return [(unit, record.state) for unit, record in outcomes]


def done(letters):
    return [(letter, "done") for letter in letters]


def test_a_task_is_drawn_only_when_a_worker_can_take_it_soon():
    workers = ListedWorkers({}, die_together=False)
    drawn: list[str] = []
    ahead = []
    for number, _ in enumerate(
        WorkerPool(workers).outcomes(Letters, tasks("abcdefgh", drawn), Heard())
    ):
        ahead.append(len(drawn) - number)
    assert max(ahead) == ROOM
    assert drawn == list("abcdefgh")
    assert max(map(len, workers.log)) == ROOM


@pytest.mark.parametrize("letters", ["", "a", "abcdefgh"])
def test_every_unit_has_one_outcome(letters):
    assert made(ListedWorkers({}, die_together=True), letters) == done(letters)


@pytest.mark.parametrize("die_together", [True, False])
def test_only_the_unit_that_kills_twice_fails_however_the_workers_die(die_together):
    workers = ListedWorkers({"b": 9, "e": 1}, die_together=die_together)
    outcomes = made(workers, "abcdefgh")
    assert sorted(outcomes) == sorted([("b", "failed"), *done("acdefgh")])
    assert workers.deadly == {"b": 7, "e": 0}


def test_units_that_were_lost_together_are_tried_again_one_at_a_time():
    workers = ListedWorkers({"b": 9}, die_together=True)
    made(workers, "abcdefgh")
    crash = next(number for number, units in enumerate(workers.log) if units[0] == "b")
    suspected = len(workers.log[crash])
    assert suspected == ROOM
    after = workers.log[crash + 1 :]
    assert [len(units) for units in after[:suspected]] == [1] * suspected
    assert len(after[suspected]) == ROOM  # side by side again, once none is suspected


def test_the_failure_says_what_to_do():
    workers = ListedWorkers({"a": 2}, die_together=False)
    ((_, record),) = WorkerPool(workers).outcomes(Letters, tasks("a"), Heard())
    assert record.summary == "its worker process died twice (out of memory?); feed it less"


def test_a_stage_that_fills_a_machine_has_one_unit_in_flight():
    workers = ListedWorkers({"b": 1}, die_together=False)
    assert sorted(made(workers, "abcd", alone=True)) == done("abcd")
    assert {len(units) for units in workers.log} == {1}


def test_a_wrong_setting_that_a_worker_finds_ends_the_run():
    workers = ListedWorkers({}, die_together=False, refused="b")
    with pytest.raises(ConfigError, match="mend it"):
        made(workers, "abcd")


def test_what_workers_say_is_passed_on():
    heard = Heard()
    list(WorkerPool(ListedWorkers({}, die_together=False)).outcomes(Letters, tasks("ab"), heard))
    assert heard.said == [("letters", unit, 1, 2, "halves") for unit in "ab"]
