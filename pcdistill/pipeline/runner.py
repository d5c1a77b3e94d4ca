"""Stage runner: skips units that are up to date, goes on after failures, sums up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field

import yaml

from pcdistill.atomic_io import atomic_file, make_folder, remove_stale_temporaries
from pcdistill.errors import ConfigError
from pcdistill.pipeline.config import RunConfig
from pcdistill.pipeline.config_loading import config_to_dict
from pcdistill.pipeline.context import RunContext
from pcdistill.pipeline.disk_space import check_disk_space, estimate_new_bytes
from pcdistill.pipeline.process_workers import ProcessWorkers
from pcdistill.pipeline.progress import Progress
from pcdistill.pipeline.stage import Stage
from pcdistill.pipeline.stage_names import require_stage_names
from pcdistill.pipeline.status import NOT_TRIED, Failure, StatusTracker, UnitStatus
from pcdistill.pipeline.unit_work import run_unit
from pcdistill.pipeline.worker_pool import WorkerPool
from pcdistill.pipeline.workspace import UnitRecord, Workspace
from pcdistill.pipeline.workspace_format import require_known_format, write_format
from pcdistill.pipeline.workspace_lock import claimed_workspace


@dataclass
class RunSummary:
    """What a call of `run_stages` did."""

    done: int = 0
    skipped: int = 0
    seconds: float = 0.0
    failures: list[Failure] = field(default_factory=list)

    @property
    def exit_status(self) -> int:
        """0 when everything asked for is there, else 1."""
        return 1 if self.failures else 0


def run_stages(
    config: RunConfig,
    stages: Sequence[type[Stage]],
    *,
    only: Sequence[str] = (),
    start: str | None = None,
    jobs: int = 1,
    shard: tuple[int, int] = (0, 1),
    redo: bool = False,
    progress: Progress | None = None,
    prepare: Callable[[RunContext], None] = lambda run: None,
) -> RunSummary:
    """Bring the run up to date.

    Args:
        config: of the run.
        stages: all stages, in order.
        only: names of the stages to work on; all by default.
        start: name of the first stage to work on.
        jobs: local worker processes.
        shard: (i, n): of every stage's units, work on those whose number modulo n is i.
        redo: make everything chosen anew.
        progress: where it is told how the run goes.
        prepare: called once nobody else can write to the workspace.

    Raises:
        ConfigError: a stage name is unknown, a setting is impossible, the workspace cannot be
            written or another run works there, or the disk is too small.
    """
    chosen = [stage.name for stage in select_stages(stages, only, start)]
    run = RunContext(config)
    show = progress or Progress(quiet=True)
    summary = RunSummary()
    begin = time.perf_counter()
    with opened_workspace(run, shard, prepare):
        opened = {stage.name: stage(run) for stage in stages}
        tracker = StatusTracker(run.workspace, tuple(opened.values()))
        needs = {
            name: estimate_new_bytes(
                run.workspace, opened[name], _units_to_do(opened[name], tracker, shard, redo)[1]
            )
            for name in chosen
        }
        if line := check_disk_space(run.workspace, needs):
            show.print_line(line)
        with closing(WorkerPool(ProcessWorkers(config, jobs))) as pool:
            for name in chosen:
                _run_stage(run.workspace, opened[name], tracker, pool, shard, redo, show, summary)
            pool.close(wait=True)
    summary.seconds = time.perf_counter() - begin
    return summary


@contextmanager
def opened_workspace(
    run: RunContext, shard: tuple[int, int], prepare: Callable[[RunContext], None]
) -> Iterator[None]:
    """Make the workspace of a run, keep others out of it, and note what the run is about.

    Raises:
        ConfigError: it is no folder that can be written, or another run works there.
    """
    root = run.workspace.root
    with ExitStack() as held:
        try:
            make_folder(root, "--workspace")
            require_known_format(root)
            held.enter_context(claimed_workspace(root, run.config, shard))
            remove_stale_temporaries(root)
            write_format(root)
            prepare(run)
            with atomic_file(run.workspace.config) as temporary:
                text = yaml.safe_dump(config_to_dict(run.config), sort_keys=False)
                temporary.write_text(text)
        except OSError as error:
            raise ConfigError(
                f"{root}: no workspace can be written there ({error}); give a folder that can be "
                "written with --workspace"
            ) from None
        yield


def select_stages(
    stages: Sequence[type[Stage]], only: Sequence[str], start: str | None
) -> list[type[Stage]]:
    """Those of `stages` that `--only` and `--from` name.

    Raises:
        ConfigError: a name is not that of a stage.
    """
    names = [stage.name for stage in stages]
    require_stage_names([*only, *([start] if start else [])], names)
    first = names.index(start) if start else 0
    return [s for s in stages[first:] if not only or s.name in only]


def _units_to_do(
    stage: Stage, tracker: StatusTracker, shard: tuple[int, int], redo: bool
) -> tuple[Sequence[str], list[str]]:
    """A shard's units of a stage, and those of them that are to be made."""
    units = stage.units()[shard[0] :: shard[1]]
    return units, [unit for unit in units if redo or tracker.status(stage, unit).state != "done"]


def _run_stage(
    workspace: Workspace,
    stage: Stage,
    tracker: StatusTracker,
    pool: WorkerPool,
    shard: tuple[int, int],
    redo: bool,
    show: Progress,
    summary: RunSummary,
) -> None:
    units, todo = _units_to_do(stage, tracker, shard, redo)
    needed = {stage.name: estimate_new_bytes(workspace, stage, todo)}  # sizes are known by now
    check_disk_space(workspace, needed)
    summary.skipped += len(units) - len(todo)
    show.start_stage(stage.name, len(units), len(units) - len(todo))
    for unit, record in _outcomes(workspace, stage, todo, tracker, pool, show):
        if record.details:  # it was tried
            workspace.write_record(stage.name, unit, record)
            tracker.invalidate(stage)
        if record.state == "done":
            summary.done += 1
        else:
            summary.failures.append(Failure(stage.name, unit, record.summary))
        show.finish_unit(stage.name, unit, record.state, record.summary, record.seconds)
    show.end_stage(stage.name)


def _outcomes(
    workspace: Workspace,
    stage: Stage,
    todo: list[str],
    tracker: StatusTracker,
    pool: WorkerPool,
    show: Progress,
) -> Iterator[tuple[str, UnitRecord]]:
    at_once = len(todo) > 1 and stage.parallel() and pool.can_work()
    for wave in _waves(stage, todo) if at_once else [[unit] for unit in todo]:
        ready = []
        for unit in wave:
            status = tracker.status(stage, unit)
            if status.obstacle:
                yield unit, _not_tried(status)
            else:
                ready.append(status.task)
        if len(ready) > 1:
            yield from pool.outcomes(type(stage), ready, show)
            continue
        for task in ready:
            callback = show.unit_callback(stage.name, task.unit)
            yield task.unit, run_unit(workspace, stage, task, callback)


def _waves(stage: Stage, todo: Sequence[str]) -> Iterator[list[str]]:
    """Units that need none of the others, then those that need only these, and so on."""
    left = list(todo)
    while left:
        wave = [
            unit
            for unit in left
            if not any(i.stage == stage.name and i.unit in left for i in stage.inputs(unit))
        ]
        left = [unit for unit in left if unit not in wave]
        yield wave


def _not_tried(status: UnitStatus) -> UnitRecord:
    reason = f"{NOT_TRIED} {status.obstacle}"
    return UnitRecord(status.task.fingerprint, "failed", reason, 0.0, {}, {})
