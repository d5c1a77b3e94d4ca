"""Works through the stages of a run: skips what is done, goes on after failures, sums up."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Literal, NamedTuple

import torch
import yaml

from pcdistill import __version__
from pcdistill.errors import ConfigError, PcdistillError
from pcdistill.stages.config import RunConfig, config_as_mapping
from pcdistill.stages.disk import bytes_to_write, require_disk
from pcdistill.stages.lock import claimed_workspace
from pcdistill.stages.names import require_stage_names
from pcdistill.stages.progress import Progress
from pcdistill.stages.run import Run
from pcdistill.stages.scans import remember_scans
from pcdistill.stages.stage import Input, Report, Stage, Task, files_of, fingerprint
from pcdistill.stages.workspace import Record
from pcdistill.storage import remove_leftovers, whole_file

log = logging.getLogger(__name__)

_NOT_TRIED = "not tried, because"
State = Literal["done", "failed", "stale", "missing", "blocked"]
_LISTEN_EVERY = 1.0
"""Seconds between looks at what workers say of their progress."""
_RETRIES = 1
"""How often a unit is given to a new worker after its worker died."""


@dataclass(frozen=True)
class Failure:
    """A unit that did not finish."""

    stage: str
    unit: str
    reason: str

    @property
    def is_consequence(self) -> bool:
        """Whether it was not tried, because a unit that it needs failed."""
        return self.reason.startswith(_NOT_TRIED) and self.reason.endswith("failed")


@dataclass
class Summary:
    """What a call of `run_stages` did."""

    done: int = 0
    skipped: int = 0
    seconds: float = 0.0
    failures: list[Failure] = field(default_factory=list)

    @property
    def exit_status(self) -> int:
        """0 when everything asked for is there, else 1."""
        return 1 if self.failures else 0


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


def run_stages(
    config: RunConfig,
    stages: Sequence[Stage],
    *,
    only: Sequence[str] = (),
    start: str | None = None,
    jobs: int = 1,
    shard: tuple[int, int] = (0, 1),
    redo: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Bring the run up to date.

    Args:
        stages: all stages, in order.
        only: names of the stages to work on; all by default.
        start: name of the first stage to work on.
        jobs: local worker processes.
        shard: (i, n): of every stage's units, work on those whose number modulo n is i.
        redo: make everything chosen anew.

    Raises:
        ConfigError: a stage name is unknown, a setting is impossible, the workspace cannot be
            written or another run works there, or the disk is too small.
    """
    chosen = choose_stages(stages, only, start)
    run = Run(config)
    show = progress or Progress(quiet=True)
    summary = Summary()
    begin = time.perf_counter()
    with _opened_workspace(run, shard):
        ledger = Ledger(run, stages)
        needs = {
            stage.name: bytes_to_write(run, stage, _units_to_do(run, stage, ledger, shard, redo)[1])
            for stage in chosen
        }
        if line := require_disk(run, needs):
            show.note(line)
        with _workers(config, jobs) as pool:
            for stage in chosen:
                _run_stage(run, stage, ledger, pool, shard, redo, show, summary)
    summary.seconds = time.perf_counter() - begin
    return summary


@contextmanager
def _opened_workspace(run: Run, shard: tuple[int, int]) -> Iterator[None]:
    """Make the workspace of a run, keep others out of it, and note what the run is about.

    Raises:
        ConfigError: it is no folder that can be written, or another run works there.
    """
    root = run.workspace.root
    with ExitStack() as held:
        try:
            if root.exists() and not root.is_dir():
                raise NotADirectoryError(f"{root} is a file")
            root.mkdir(parents=True, exist_ok=True)
            held.enter_context(claimed_workspace(root, run.config, shard))
            remove_leftovers(root)
            remember_scans(run)
            with whole_file(run.workspace.config) as temporary:
                text = yaml.safe_dump(config_as_mapping(run.config), sort_keys=False)
                temporary.write_text(text)
        except OSError as error:
            raise ConfigError(
                f"{root}: no workspace can be written there ({error}); give a folder that can be "
                "written with --workspace"
            ) from None
        yield


def choose_stages(stages: Sequence[Stage], only: Sequence[str], start: str | None) -> list[Stage]:
    """Those of `stages` that `--only` and `--from` name.

    Raises:
        ConfigError: a name is not that of a stage.
    """
    names = [stage.name for stage in stages]
    require_stage_names([*only, *([start] if start else [])], names)
    first = names.index(start) if start else 0
    return [s for s in stages[first:] if not only or s.name in only]


def _units_to_do(
    run: Run, stage: Stage, ledger: Ledger, shard: tuple[int, int], redo: bool
) -> tuple[Sequence[str], list[str]]:
    """A shard's units of a stage, and those of them that are to be made."""
    units = stage.units(run)[shard[0] :: shard[1]]
    return units, [unit for unit in units if redo or ledger.look(stage, unit).state != "done"]


def _run_stage(
    run: Run,
    stage: Stage,
    ledger: Ledger,
    pool: _Pool,
    shard: tuple[int, int],
    redo: bool,
    show: Progress,
    summary: Summary,
) -> None:
    units, todo = _units_to_do(run, stage, ledger, shard, redo)
    require_disk(run, {stage.name: bytes_to_write(run, stage, todo)})  # sizes are known by now
    summary.skipped += len(units) - len(todo)
    show.begin(stage.name, len(units), len(units) - len(todo))
    for unit, record in _outcomes(run, stage, todo, ledger, pool, show):
        if record.details:  # it was tried
            run.workspace.write_record(stage.name, unit, record)
            ledger.forget(stage)
        if record.state == "done":
            summary.done += 1
        else:
            summary.failures.append(Failure(stage.name, unit, record.summary))
        show.unit(stage.name, unit, record.state, record.summary, record.seconds)
    show.end(stage.name)


class _Pool:
    """Worker processes that hold loaded models; made when first needed, remade when one dies."""

    def __init__(self, config: RunConfig, jobs: int) -> None:
        self.jobs = jobs
        self._config = config
        self._executor: ProcessPoolExecutor | None = None
        self._words: Connection | None = None

    def submit(self, stage: Stage, task: Task) -> Future[Record]:
        try:
            return self._living_executor().submit(_work_in_process, stage, task)
        except BrokenProcessPool:
            self.discard()
            return self._living_executor().submit(_work_in_process, stage, task)

    def _living_executor(self) -> ProcessPoolExecutor:
        if self._executor is None:
            context = multiprocessing.get_context("spawn")
            self._words, theirs = context.Pipe(duplex=False)
            self._executor = ProcessPoolExecutor(
                self.jobs,
                mp_context=context,
                initializer=_begin_worker,
                initargs=(self._config, self.jobs, theirs),
            )
        return self._executor

    def heard(self) -> Iterator[tuple[str, int, int, str]]:
        """What workers said of their units since the last call: unit, done, total, words."""
        while self._words is not None and self._words.poll():
            yield self._words.recv()

    def discard(self) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None
        if self._words is not None:
            self._words.close()
            self._words = None


@contextmanager
def _workers(config: RunConfig, jobs: int) -> Iterator[_Pool]:
    pool = _Pool(config, jobs)
    try:
        yield pool
    finally:
        pool.discard()


def _outcomes(
    run: Run, stage: Stage, todo: list[str], ledger: Ledger, pool: _Pool, show: Progress
) -> Iterator[tuple[str, Record]]:
    at_once = pool.jobs > 1 and stage.parallel(run)
    for wave in _waves(run, stage, todo) if at_once else [[unit] for unit in todo]:
        ready = []
        for unit in wave:
            outlook = ledger.look(stage, unit)
            if outlook.obstacle:
                yield unit, _not_tried(outlook)
            else:
                ready.append(outlook.task)
        if len(ready) > 1:
            yield from _outcomes_of_pool(stage, ready, pool, show)
            continue
        for task in ready:
            yield task.unit, work_on(run, stage, task, show.inside(stage.name, task.unit))


def _waves(run: Run, stage: Stage, todo: Sequence[str]) -> Iterator[list[str]]:
    """Units that need none of the others, then those that need only these, and so on."""
    left = list(todo)
    while left:
        wave = [
            unit
            for unit in left
            if not any(i.stage == stage.name and i.unit in left for i in stage.inputs(run, unit))
        ]
        left = [unit for unit in left if unit not in wave]
        yield wave


def _not_tried(outlook: Outlook) -> Record:
    reason = f"{_NOT_TRIED} {outlook.obstacle}"
    return Record(outlook.task.fingerprint, "failed", reason, 0.0, {}, {})


def _outcomes_of_pool(
    stage: Stage, tasks: list[Task], pool: _Pool, show: Progress
) -> Iterator[tuple[str, Record]]:
    waiting = list(tasks)
    reports: dict[str, Report] = {}
    deaths: Counter[str] = Counter()
    running: dict[Future[Record], Task] = {}
    while waiting or running:
        while waiting and len(running) < 2 * pool.jobs:
            task = waiting.pop(0)
            running[pool.submit(stage, task)] = task
        finished, _ = wait(running, timeout=_LISTEN_EVERY, return_when=FIRST_COMPLETED)
        for unit, done, total, words in pool.heard():
            reports.setdefault(unit, show.inside(stage.name, unit))(done, total, words)
        lost = []
        for future in finished:
            task = running.pop(future)
            try:
                yield task.unit, future.result()
            except BrokenProcessPool:
                lost.append(task)
        if lost:  # every task in flight is lost with the pool; which one killed it is not known
            lost += running.values()
            running.clear()
            pool.discard()
            for task in lost:
                deaths[task.unit] += 1
                if deaths[task.unit] > _RETRIES:
                    reason = "its worker process died twice (out of memory?); try --jobs 1"
                    yield task.unit, Record(task.fingerprint, "failed", reason, 0.0, {}, {})
                else:
                    waiting.append(task)


_worker_run: Run | None = None
_worker_words: Connection | None = None


def _begin_worker(config: RunConfig, jobs: int, words: Connection) -> None:
    global _worker_run, _worker_words
    _worker_words = words
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // jobs))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker_run = Run(config)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # the parent was killed: leave nothing running behind it


def _work_in_process(stage: Stage, task: Task) -> Record:
    if _worker_run is None:
        raise RuntimeError("the worker process was not initialised")

    def report(done: int, total: int, words: str) -> None:
        # all workers share one pipe: messages this short are written whole or not at all
        with suppress(OSError):  # nobody listens any more
            if _worker_words is not None:
                _worker_words.send((task.unit, done, total, words[:200]))

    return work_on(_worker_run, stage, task, report)


def work_on(run: Run, stage: Stage, task: Task, report: Report) -> Record:
    """Make one unit and say how it went; a user's mistake becomes a failed record."""
    begin = time.perf_counter()
    try:
        summary = stage.work(run, task, report)
        state: Literal["done", "failed"] = "done"
        files = files_of(stage.outputs(run, task.unit))
        outputs = {str(f.relative_to(run.workspace.root)): f.stat().st_size for f in files}
    except ConfigError:
        raise
    except PcdistillError as error:
        state, summary, outputs = "failed", str(error), {}
    except OSError as error:
        state, outputs = "failed", {}
        summary = (
            f"a file could not be read or written ({error}); check the free space and permissions "
            f"of {run.workspace.root}"
        )
    except Exception as error:
        log.exception("%s %s failed unexpectedly", stage.name, task.unit)
        state, outputs = "failed", {}
        summary = f"unexpected {type(error).__name__}: {error}"
    seconds = time.perf_counter() - begin
    return Record(task.fingerprint, state, summary, seconds, outputs, _details(run, stage, task))


def _details(run: Run, stage: Stage, task: Task) -> dict[str, Any]:
    return {
        "pcdistill": __version__,
        "torch": torch.__version__,
        "settings": dict(stage.settings(run, task.unit)),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
