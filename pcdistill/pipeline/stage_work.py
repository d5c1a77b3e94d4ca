"""Work of one run on one stage: units are claimed and made; those of other runs are waited for."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from pcdistill.errors import PcdistillError
from pcdistill.pipeline.disk_space import check_disk_space, estimate_new_bytes
from pcdistill.pipeline.progress import Progress
from pcdistill.pipeline.stage import Dependency, Stage, Task
from pcdistill.pipeline.status import NOT_TRIED, Failure, StatusTracker, UnitStatus
from pcdistill.pipeline.summary import RunSummary
from pcdistill.pipeline.unit_work import run_unit
from pcdistill.pipeline.worker_pool import WorkerPool
from pcdistill.pipeline.workspace import UnitRecord, Workspace
from pcdistill.pipeline.workspace_lock import JoinedRun

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
"""Seconds between looks at units of other runs, at first and in the end."""
_LONGEST_LOOK = 1.0
"""Seconds after which a look at many such units is interrupted; the next one begins there."""
_LINE_EVERY = 60.0
"""Seconds between lines that tell what is waited for."""
_CLAIM_LOOK = 5.0
"""Seconds between looks of a unit that is being made at whether it is still this run's."""


class LostClaimError(PcdistillError):
    """Another run took over a unit, because this one stood still for too long."""


@dataclass
class SharedRun:
    """What the stages of one run have in common."""

    workspace: Workspace
    tracker: StatusTracker
    pool: WorkerPool
    joined: JoinedRun
    show: Progress
    shard: tuple[int, int]
    redo: bool
    summary: RunSummary = field(default_factory=RunSummary)
    marks: dict[str, dict[str, tuple[int, int] | None]] = field(default_factory=dict)
    """By stage and unit that was to be made when the run began: the mark of its record then."""

    def units(self, stage: Stage) -> Sequence[str]:
        """The units of a stage that are this run's."""
        return stage.units()[self.shard[0] :: self.shard[1]]

    def note_units_to_do(self, stage: Stage) -> list[str]:
        """List the units of a stage that are to be made, as the run begins."""
        marks = self.marks[stage.name] = {}
        for unit in self.units(stage):
            state = self.tracker.status(stage, unit).state
            if state != "done" or self.redo:
                is_new = state == "missing"
                marks[unit] = None if is_new else self.workspace.record_mark(stage.name, unit)
        return list(marks)

    def is_tried(self, stage: Stage, unit: str) -> bool:
        """Whether somebody worked on a unit to its end since the run began."""
        now = self.workspace.record_mark(stage.name, unit)
        return now is not None and now != self.marks[stage.name].get(unit)


class StageWork:
    """The units of one stage, until each of them is made or cannot be made."""

    def __init__(self, shared: SharedRun, stage: Stage) -> None:
        self._shared = shared
        self._stage = stage
        self._open: set[str] = set()
        """Units that are neither made nor given up."""
        self._by_others = 0
        self._waits_for: list[str] = []
        """What the last look found other runs at."""
        self._numbers: dict[str, dict[str, int]] = {}
        """Of units among those of an earlier stage."""
        self._last_line: tuple[str, float] = ("", 0.0)
        self._finished = 0

    def run(self) -> None:
        """Bring the stage up to date, as far as that can be done."""
        shared, stage, show = self._shared, self._stage, self._shared.show
        units = shared.units(stage)
        left = [unit for unit in units if not self._was_done(unit)]
        if left:
            needed = {stage.name: estimate_new_bytes(shared.workspace, stage, left)}
            check_disk_space(shared.workspace, needed)  # sizes are known by now
        show.start_stage(stage.name, len(units), len(units) - len(left))
        self._open = set(left)
        if not shared.joined.is_first and left:  # others begin elsewhere
            start = random.randrange(len(left))
            left = [*left[start:], *left[:start]]
        self._work_on(left)
        shared.joined.leave_behind(stage.name)
        if units and (self._by_others or self._finished):
            shared.tracker.forget_after(stage)
        if self._by_others:
            show.print_line(f"  {stage.name}: {self._by_others} made by other runs")
        shared.summary.by_others += self._by_others
        show.end_stage(stage.name)

    def _was_done(self, unit: str) -> bool:
        """Whether a unit needs nothing now that the earlier stages are done; counts it then."""
        shared, stage = self._shared, self._stage
        if shared.tracker.status(stage, unit).state != "done":
            return False
        if unit in shared.marks[stage.name] and shared.is_tried(stage, unit):
            self._by_others += 1
            return True
        if not shared.redo:
            shared.summary.skipped += 1
        return not shared.redo

    def _work_on(self, left: list[str]) -> None:
        pause = _FIRST_PAUSE
        while left:
            finished = self._finished
            waiting = self._pass(left)
            left = waiting
            if self._finished > finished:
                pause = _FIRST_PAUSE
            elif left:
                self._tell()
                time.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(1.5 * pause, _LONGEST_PAUSE)

    def _pass(self, left: Sequence[str]) -> list[str]:
        """Make every unit that can be made now; returns those to wait for."""
        shared, stage, waiting = self._shared, self._stage, list[str]()
        self._waits_for = []
        tasks = self._claimed(left, waiting)
        many, pool = len(left) > 1 and stage.parallel(), shared.pool
        if (many or pool.takes_single_units) and pool.can_work():
            results = pool.outcomes(type(stage), tasks, shared.show, alone=not many)
        else:
            results = map(self._make, tasks)
        for unit, record in results:
            self._finish(unit, record, waiting)
        return waiting

    def _make(self, task: Task) -> tuple[str, UnitRecord]:
        """Make a unit in this process; stops when another run has taken it over."""
        stage, claims = self._stage, self._shared.joined.claims
        callback = self._shared.show.unit_callback(stage.name, task.unit)
        looked = time.monotonic()

        def report(done: int, total: int, words: str) -> None:
            nonlocal looked
            if time.monotonic() - looked > _CLAIM_LOOK:
                looked = time.monotonic()
                if claims.is_lost(stage.name, task.unit):
                    raise LostClaimError("another run took it over")
            callback(done, total, words)

        return task.unit, run_unit(self._shared.workspace, stage, task, report)

    def _claimed(self, units: Sequence[str], waiting: list[str]) -> Iterator[Task]:
        """Claim units one by one, when they are asked for; those that have to wait are listed."""
        begin, worked = time.monotonic(), self._finished
        for number, unit in enumerate(units):
            is_idle = self._finished == worked and len(waiting) == number
            if is_idle and time.monotonic() - begin > _LONGEST_LOOK and waiting:
                waiting[:0] = units[number:]
                return
            task = self._claim(unit, waiting)
            if task is not None:
                yield task

    def _claim(self, unit: str, waiting: list[str]) -> Task | None:
        """Claim a unit; None where it is settled, or has to wait."""
        shared, stage, claims = self._shared, self._stage, self._shared.joined.claims
        status = shared.tracker.status(stage, unit)
        if status.lacks is not None or shared.is_tried(stage, unit):
            status = shared.tracker.look_again(stage, unit)
        if self._is_settled(unit, status):
            return None
        if status.obstacle:
            if self._may_come(status):
                waiting.append(unit)
                return None
            status = shared.tracker.look_again(stage, unit)  # it may just have come
            if status.obstacle:
                self._fail(unit, f"{NOT_TRIED} {status.obstacle}")
                return None
        holder = claims.take(stage.name, unit)
        if holder is not None:
            self._waits_for.append(f"{stage.name} {unit}, which {holder} makes")
            waiting.append(unit)
            return None
        status = shared.tracker.look_again(stage, unit)  # another run may just have made it
        if self._is_settled(unit, status):
            claims.give_back(stage.name, unit)
            return None
        return status.task

    def _is_settled(self, unit: str, status: UnitStatus) -> bool:
        """Whether nothing is left to do for a unit, because another run did it; counts it then."""
        shared, name = self._shared, self._stage.name
        if status.state not in ("done", "failed"):
            return False
        tried = shared.is_tried(self._stage, unit)
        if status.state == "done":
            if shared.redo and not tried:
                return False
            if tried:
                self._by_others += 1
            else:
                shared.summary.skipped += 1
            self._close(unit)
            return True
        record = shared.workspace.record(name, unit)
        if record is None or record.state != "failed":
            return False
        of_session = record.details.get("session") == shared.joined.session
        if tried or (of_session and not shared.redo):
            self._fail(unit, record.summary)
            return True
        return False

    def _may_come(self, status: UnitStatus) -> bool:
        """Whether somebody makes what a unit lacks, or will."""
        needed, shared = status.lacks, self._shared
        if needed is None:
            return False
        if needed.stage == self._stage.name and needed.unit in self._open:
            return True  # sooner or later in this run
        maker = shared.joined.claims.holder(needed.stage, needed.unit)
        if maker is None and not status.obstacle.endswith("failed"):
            maker = shared.joined.maker(needed.stage, self._number(needed))
        if maker is not None:
            self._waits_for.append(f"{needed.stage} {needed.unit}, which {maker} makes")
        return maker is not None

    def _number(self, needed: Dependency) -> int:
        if needed.stage not in self._numbers:
            units = self._shared.tracker.units(needed.stage)
            self._numbers[needed.stage] = {unit: number for number, unit in enumerate(units)}
        return self._numbers[needed.stage][needed.unit]

    def _finish(self, unit: str, record: UnitRecord, waiting: list[str]) -> None:
        """Write down how a unit ended, unless another run was quicker."""
        shared, stage, claims = self._shared, self._stage, self._shared.joined.claims
        self._finished += 1
        lost = claims.is_lost(stage.name, unit)
        if lost or record.state == "failed":
            status = shared.tracker.look_again(stage, unit)
            if status.state == "done" and self._is_settled(unit, status):
                claims.give_back(stage.name, unit)
                return
            if lost and record.state == "failed":
                claims.give_back(stage.name, unit)
                waiting.append(unit)
                return
        details = {**record.details, "session": shared.joined.session}
        record = replace(record, details=details)
        shared.workspace.write_record(stage.name, unit, record)
        shared.tracker.note(stage, unit, record)
        claims.give_back(stage.name, unit)
        self._open.discard(unit)
        if record.state == "done":
            shared.summary.done += 1
        else:
            shared.summary.failures.append(Failure(stage.name, unit, record.summary))
        shared.show.finish_unit(stage.name, unit, record.state, record.summary, record.seconds)

    def _fail(self, unit: str, reason: str) -> None:
        """Give up a unit that this run does not try."""
        self._open.discard(unit)
        self._shared.summary.failures.append(Failure(self._stage.name, unit, reason))
        self._shared.show.finish_unit(self._stage.name, unit, "failed", reason, 0.0)

    def _close(self, unit: str) -> None:
        self._open.discard(unit)
        self._shared.show.pass_unit()

    def _tell(self) -> None:
        """Say what is waited for, when that is new and not too often."""
        if not self._waits_for:
            return
        first, now = self._waits_for[0], time.monotonic()
        told, when = self._last_line
        if told and (told == first or now - when < _LINE_EVERY):
            return
        self._last_line = first, now
        more = f", and for {len(self._waits_for) - 1} more" if len(self._waits_for) > 1 else ""
        self._shared.show.print_line(f"  {self._stage.name}: waits for {first}{more}")
