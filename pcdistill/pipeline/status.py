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
    lacks: Dependency | None = None
    """The first input that stands in its way."""


class StatusTracker:
    """Status of every unit of a run; each is looked up on the disk once, unless it is asked to."""

    def __init__(self, workspace: Workspace, stages: Sequence[Stage]) -> None:
        self._workspace = workspace
        self._stages = {stage.name: stage for stage in stages}
        self._known: dict[str, dict[str, UnitStatus]] = {stage.name: {} for stage in stages}

    def status(self, stage: Stage, unit: str) -> UnitStatus:
        """State of a unit, the task it would be, and what stands in its way."""
        known = self._known[stage.name]
        if unit not in known:
            known[unit] = self._examine(stage, unit)
        return known[unit]

    def look_again(self, stage: Stage, unit: str) -> UnitStatus:
        """Look for what happened on the disk to a unit, and to inputs that it lacked."""
        known = self._known[stage.name].get(unit)
        if known is not None and known.lacks is not None and self._still_lacks(stage, unit, known):
            return known
        if known is None or known.obstacle:
            self._known[stage.name].pop(unit, None)
            return self.status(stage, unit)
        record = self._workspace.record(stage.name, unit)
        state = self._state(record, known.task.fingerprint, missing=False, waiting=False)
        self._known[stage.name][unit] = again = known._replace(state=state)
        return again

    def units(self, stage: str) -> tuple[str, ...]:
        """Names of all units of a stage."""
        return self._stages[stage].units()

    def note(self, stage: Stage, unit: str, record: UnitRecord) -> None:
        """Take what became of a unit from the record that was just written."""
        known = self._known[stage.name].get(unit)
        if known is not None and record.fingerprint == known.task.fingerprint:
            self._known[stage.name][unit] = known._replace(state=record.state)
        else:
            self._known[stage.name].pop(unit, None)

    def forget_after(self, stage: Stage) -> None:
        """Ask the disk again about everything after a stage."""
        order = list(self._stages)
        for name in order[order.index(stage.name) + 1 :]:
            self._known[name].clear()

    def _still_lacks(self, stage: Stage, unit: str, known: UnitStatus) -> bool:
        """Whether an input still stands in the way; looks at inputs until one does."""
        first = known.lacks
        if first is not None and not self._settles(first):
            return True
        inputs = stage.inputs(unit)
        return any(not self._is_settled(needed) and not self._settles(needed) for needed in inputs)

    def _settles(self, needed: Dependency) -> bool:
        """Look again whether an input came, or will not come."""
        self.look_again(self._stages[needed.stage], needed.unit)
        return self._is_settled(needed)

    def _is_settled(self, needed: Dependency) -> bool:
        state = self.status(self._stages[needed.stage], needed.unit).state
        return state in ("done", "failed", "blocked")

    def _examine(self, stage: Stage, unit: str) -> UnitStatus:
        finished: list[Dependency] = []
        marks: dict[str, str] = {}
        missing: list[Dependency] = []
        waiting: list[Dependency] = []
        wanted = stage.inputs(unit)
        for needed in wanted:
            found = self.status(self._stages[needed.stage], needed.unit)
            if found.state == "done":
                finished.append(needed)
                marks[f"{needed.stage} {needed.unit}"] = found.task.fingerprint
            elif found.state not in ("failed", "blocked"):
                waiting.append(needed)
            elif needed.required:
                missing.append(needed)
        mark = fingerprint(stage, stage.settings(unit), marks)
        lacks, obstacle = None, ""
        if missing:
            lacks, obstacle = missing[0], f"{missing[0].stage} {missing[0].unit} failed"
        elif waiting:
            lacks = waiting[0]
            obstacle = f"{waiting[0].stage} {waiting[0].unit} is not there yet"
        elif wanted and not finished:
            obstacle = f"every unit of {wanted[0].stage} failed"
        blocked = bool(missing) or (bool(obstacle) and not waiting)
        record = self._workspace.record(stage.name, unit)
        state = self._state(record, mark, missing=blocked, waiting=bool(waiting))
        return UnitStatus(state, Task(unit, tuple(finished), mark, marks), obstacle, lacks)

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
