"""Status of every unit of a run: done, failed, stale, missing or blocked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pcdistill.pipeline.context import Run
from pcdistill.pipeline.stage import Input, Stage, Task, fingerprint
from pcdistill.pipeline.workspace import Record

NOT_TRIED = "not tried, because"
State = Literal["done", "failed", "stale", "missing", "blocked"]


@dataclass(frozen=True)
class Failure:
    """A unit that did not finish."""

    stage: str
    unit: str
    reason: str

    @property
    def is_consequence(self) -> bool:
        """Whether it was not tried, because a unit that it needs failed."""
        return self.reason.startswith(NOT_TRIED) and self.reason.endswith("failed")


class Outlook(NamedTuple):
    """What is known of one unit before anything is done about it."""

    state: State
    task: Task
    obstacle: str
    """Why it cannot be worked on now; empty where it can."""


class Ledger:
    """Knows the state of every unit; asks the disk at most once for each."""

    def __init__(self, run: Run, stages: Sequence[Stage]) -> None:
        self._run = run
        self._stages = {stage.name: stage for stage in stages}
        self._known: dict[tuple[str, str], Outlook] = {}

    def look(self, stage: Stage, unit: str) -> Outlook:
        """State of a unit, the task it would be, and what stands in its way."""
        key = (stage.name, unit)
        if key not in self._known:
            self._known[key] = self._examine(stage, unit)
        return self._known[key]

    def forget(self, stage: Stage) -> None:
        """Ask the disk again about this stage and everything after it."""
        order = list(self._stages)
        changed = set(order[order.index(stage.name) :])
        self._known = {key: value for key, value in self._known.items() if key[0] not in changed}

    def _examine(self, stage: Stage, unit: str) -> Outlook:
        finished: list[Input] = []
        marks: dict[str, str] = {}
        lost: list[str] = []
        waiting: list[str] = []
        wanted = stage.inputs(self._run, unit)
        for needed in wanted:
            outlook = self.look(self._stages[needed.stage], needed.unit)
            name = f"{needed.stage} {needed.unit}"
            if outlook.state == "done":
                finished.append(needed)
                marks[name] = outlook.task.fingerprint
            elif outlook.state not in ("failed", "blocked"):
                waiting.append(name)
            elif needed.required:
                lost.append(name)
        if wanted and not finished and not waiting and not lost:
            lost.append(f"every unit of {wanted[0].stage}")
        mark = fingerprint(stage, stage.settings(self._run, unit), marks)
        if lost:
            obstacle = f"{lost[0]} failed"
        else:
            obstacle = f"{waiting[0]} is not there yet" if waiting else ""
        record = self._run.workspace.record(stage.name, unit)
        state = self._state(record, mark, lost=bool(lost), waiting=bool(waiting))
        return Outlook(state, Task(unit, tuple(finished), mark, marks), obstacle)

    def _state(self, record: Record | None, mark: str, *, lost: bool, waiting: bool) -> State:
        if lost:
            return "blocked"
        if record is None:
            return "missing"
        if waiting or record.fingerprint != mark:
            return "stale"
        if record.state == "failed":
            return "failed"
        return "done" if self._run.workspace.outputs_intact(record) else "stale"


def stage_states(run: Run, stages: Sequence[Stage]) -> dict[str, Counter[State]]:
    """How many units of each stage are done, failed, stale, missing or blocked."""
    ledger = Ledger(run, stages)
    return {
        stage.name: Counter(ledger.look(stage, unit).state for unit in stage.units(run))
        for stage in stages
    }


def failures(run: Run, stages: Sequence[Stage]) -> list[Failure]:
    """Every unit whose last try failed, with its reason."""
    found = []
    for stage in stages:
        for unit in stage.units(run):
            record = run.workspace.record(stage.name, unit)
            if record is not None and record.state == "failed":
                found.append(Failure(stage.name, unit, record.summary))
    return found
