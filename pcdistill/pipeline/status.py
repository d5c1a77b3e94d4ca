"""Status of every unit of a run: done, failed, stale, missing or blocked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pcdistill.pipeline.stage import Dependency, Stage, Task, fingerprint
from pcdistill.pipeline.workspace import UnitRecord, Workspace

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
    """Status of one unit before it runs."""

    state: UnitState
    task: Task
    obstacle: str
    """Why it cannot be worked on now; empty where it can."""


class StatusTracker:
    """Status of every unit of a run; each is looked up on the disk at most once."""

    def __init__(self, workspace: Workspace, stages: Sequence[Stage]) -> None:
        self._workspace = workspace
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
        wanted = stage.inputs(unit)
        for needed in wanted:
            found = self.status(self._stages[needed.stage], needed.unit)
            name = f"{needed.stage} {needed.unit}"
            if found.state == "done":
                finished.append(needed)
                marks[name] = found.task.fingerprint
            elif found.state not in ("failed", "blocked"):
                waiting.append(name)
            elif needed.required:
                missing.append(name)
        if wanted and not finished and not waiting and not missing:
            missing.append(f"every unit of {wanted[0].stage}")
        mark = fingerprint(stage, stage.settings(unit), marks)
        if missing:
            obstacle = f"{missing[0]} failed"
        else:
            obstacle = f"{waiting[0]} is not there yet" if waiting else ""
        record = self._workspace.record(stage.name, unit)
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
        return "done" if self._workspace.outputs_intact(record) else "stale"


def stage_states(workspace: Workspace, stages: Sequence[Stage]) -> dict[str, Counter[UnitState]]:
    """How many units of each stage are done, failed, stale, missing or blocked."""
    tracker = StatusTracker(workspace, stages)
    return {
        stage.name: Counter(tracker.status(stage, unit).state for unit in stage.units())
        for stage in stages
    }


def failed_units(workspace: Workspace, stages: Sequence[Stage]) -> list[Failure]:
    """Every unit whose last try failed, with its reason."""
    found = []
    for stage in stages:
        for unit in stage.units():
            record = workspace.record(stage.name, unit)
            if record is not None and record.state == "failed":
                found.append(Failure(stage.name, unit, record.summary))
    return found
