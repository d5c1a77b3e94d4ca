"""Status of every unit of a run: done, failed, stale, missing or blocked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pcdistill.pipeline.context import RunContext
from pcdistill.pipeline.stage import Dependency, Stage, Task, fingerprint
from pcdistill.pipeline.workspace import UnitRecord

NOT_TRIED = "not tried, because"
UnitState = Literal["done", "failed", "stale", "missing", "blocked"]


@dataclass(frozen=True)
class Failure:
    """A unit that did not finish."""

    stage: str
    unit: str
    reason: str

    @property
    def blocked_by_dependency(self) -> bool:
        """Whether it was not tried, because a unit that it needs failed."""
        return self.reason.startswith(NOT_TRIED) and self.reason.endswith("failed")


class UnitStatus(NamedTuple):
    """What is known of one unit before anything is done about it."""

    state: UnitState
    task: Task
    obstacle: str
    """Why it cannot be worked on now; empty where it can."""


class StatusTracker:
    """Knows the state of every unit; asks the disk at most once for each."""

    def __init__(self, run: RunContext, stages: Sequence[Stage]) -> None:
        self._run = run
        self._stages = {stage.name: stage for stage in stages}
        self._known: dict[tuple[str, str], UnitStatus] = {}

    def status(self, stage: Stage, unit: str) -> UnitStatus:
        """State of a unit, the task it would be, and what stands in its way."""
        key = (stage.name, unit)
        if key not in self._known:
            self._known[key] = self._examine(stage, unit)
        return self._known[key]

    def invalidate(self, stage: Stage) -> None:
        """Ask the disk again about this stage and everything after it."""
        order = list(self._stages)
        changed = set(order[order.index(stage.name) :])
        self._known = {key: value for key, value in self._known.items() if key[0] not in changed}

    def _examine(self, stage: Stage, unit: str) -> UnitStatus:
        finished: list[Dependency] = []
        marks: dict[str, str] = {}
        missing: list[str] = []
        waiting: list[str] = []
        wanted = stage.inputs(self._run, unit)
        for needed in wanted:
            outlook = self.status(self._stages[needed.stage], needed.unit)
            name = f"{needed.stage} {needed.unit}"
            if outlook.state == "done":
                finished.append(needed)
                marks[name] = outlook.task.fingerprint
            elif outlook.state not in ("failed", "blocked"):
                waiting.append(name)
            elif needed.required:
                missing.append(name)
        if wanted and not finished and not waiting and not missing:
            missing.append(f"every unit of {wanted[0].stage}")
        mark = fingerprint(stage, stage.settings(self._run, unit), marks)
        if missing:
            obstacle = f"{missing[0]} failed"
        else:
            obstacle = f"{waiting[0]} is not there yet" if waiting else ""
        record = self._run.workspace.record(stage.name, unit)
        state = self._state(record, mark, missing=bool(missing), waiting=bool(waiting))
        return UnitStatus(state, Task(unit, tuple(finished), mark, marks), obstacle)

    def _state(
        self, record: UnitRecord | None, mark: str, *, missing: bool, waiting: bool
    ) -> UnitState:
        if missing:
            return "blocked"
        if record is None:
            return "missing"
        if waiting or record.fingerprint != mark:
            return "stale"
        if record.state == "failed":
            return "failed"
        return "done" if self._run.workspace.outputs_intact(record) else "stale"


def stage_states(run: RunContext, stages: Sequence[Stage]) -> dict[str, Counter[UnitState]]:
    """How many units of each stage are done, failed, stale, missing or blocked."""
    ledger = StatusTracker(run, stages)
    return {
        stage.name: Counter(ledger.status(stage, unit).state for unit in stage.units(run))
        for stage in stages
    }


def failed_units(run: RunContext, stages: Sequence[Stage]) -> list[Failure]:
    """Every unit whose last try failed, with its reason."""
    found = []
    for stage in stages:
        for unit in stage.units(run):
            record = run.workspace.record(stage.name, unit)
            if record is not None and record.state == "failed":
                found.append(Failure(stage.name, unit, record.summary))
    return found
