"""Worker processes that make units side by side."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing.connection import Connection

import torch

from pcdistill.callbacks import ProgressCallback
from pcdistill.pipeline.config import RunConfig
from pcdistill.pipeline.context import RunContext
from pcdistill.pipeline.progress import Progress
from pcdistill.pipeline.stage import Stage, Task
from pcdistill.pipeline.unit_work import run_unit
from pcdistill.pipeline.workspace import UnitRecord

_LOG = logging.getLogger(__name__)

_LISTEN_EVERY = 1.0
"""Seconds between looks at what workers say of their progress."""
_RETRIES = 1
"""How often a unit is given to a new worker after its worker died."""


class WorkerPool:
    """Worker processes that hold loaded models; made when first needed, remade when one dies."""

    def __init__(self, config: RunConfig, jobs: int) -> None:
        self.jobs = jobs
        self._config = config
        self._executor: ProcessPoolExecutor | None = None
        self._words: Connection | None = None

    def can_work(self) -> bool:
        """Whether there are several workers; one process works where none can be started."""
        if self.jobs > 1 and self._executor is None:
            try:
                self._executor = self._made()
            except (OSError, NotImplementedError) as error:
                self.jobs = 1
                _LOG.warning(
                    "one process works, because this machine can start no others (%s); they need "
                    "a /dev/shm that can be written",
                    error,
                )
        return self.jobs > 1

    def close(self, *, wait: bool = False) -> None:
        """End the workers; new ones are made when they are needed.

        Args:
            wait: until they have ended, which a process that ends itself should where all is done;
                it is not for workers that may be busy.
        """
        if self._executor is not None:
            self._executor.shutdown(wait=wait, cancel_futures=True)
            self._executor = None
        if self._words is not None:
            self._words.close()
            self._words = None

    def outcomes(
        self, stage: type[Stage], tasks: list[Task], show: Progress
    ) -> Iterator[tuple[str, UnitRecord]]:
        """Work on units side by side; gives each with how it went, as they end."""
        waiting = list(tasks)
        reports: dict[str, ProgressCallback] = {}
        deaths: Counter[str] = Counter()
        running: dict[Future[UnitRecord], Task] = {}
        while waiting or running:
            while waiting and len(running) < 2 * self.jobs:
                task = waiting.pop(0)
                running[self._submit(stage, task)] = task
            finished, _ = wait(running, timeout=_LISTEN_EVERY, return_when=FIRST_COMPLETED)
            for unit, done, total, words in self._heard():
                reports.setdefault(unit, show.unit_callback(stage.name, unit))(done, total, words)
            missing = []
            for future in finished:
                task = running.pop(future)
                try:
                    yield task.unit, future.result()
                except BrokenProcessPool:
                    missing.append(task)
            if (
                missing
            ):  # every task in flight is lost with the pool; which one killed it is not known
                missing += running.values()
                running.clear()
                self.close()
                for task in missing:
                    deaths[task.unit] += 1
                    if deaths[task.unit] > _RETRIES:
                        reason = "its worker process died twice (out of memory?); try --jobs 1"
                        yield task.unit, UnitRecord(task.fingerprint, "failed", reason, 0.0, {}, {})
                    else:
                        waiting.append(task)

    def _submit(self, stage: type[Stage], task: Task) -> Future[UnitRecord]:
        try:
            return self._living_executor().submit(_work_in_process, stage, task)
        except BrokenProcessPool:
            self.close()
            return self._living_executor().submit(_work_in_process, stage, task)

    def _living_executor(self) -> ProcessPoolExecutor:
        if self._executor is None:
            self._executor = self._made()
        return self._executor

    def _made(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        self._words, theirs = context.Pipe(duplex=False)
        return ProcessPoolExecutor(
            self.jobs,
            mp_context=context,
            initializer=_begin_worker,
            initargs=(self._config, self.jobs, theirs),
        )

    def _heard(self) -> Iterator[tuple[str, int, int, str]]:
        """What workers said of their units since the last call: unit, done, total, words."""
        while self._words is not None and self._words.poll():
            yield self._words.recv()


def usable_cores() -> int:
    """Cores that this process may use: fewer than there are where a scheduler says so."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worker_threads(jobs: int) -> int:
    """Threads of each of several worker processes: `OMP_NUM_THREADS`, else a share of the cores."""
    if os.environ.get("OMP_NUM_THREADS"):
        return torch.get_num_threads()  # torch has read it
    return max(1, usable_cores() // jobs)


_worker_run: RunContext | None = None
_worker_stages: dict[type[Stage], Stage] = {}
_worker_words: Connection | None = None


def _begin_worker(config: RunConfig, jobs: int, words: Connection) -> None:
    global _worker_run, _worker_words
    _worker_words = words
    torch.set_num_threads(worker_threads(jobs))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker_run = RunContext(config)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # the parent was killed: leave nothing running behind it


def _work_in_process(stage: type[Stage], task: Task) -> UnitRecord:
    if _worker_run is None:
        raise RuntimeError("the worker process was not initialised")

    def report(done: int, total: int, words: str) -> None:
        # all workers share one pipe: messages this short are written whole or not at all
        with suppress(OSError):  # nobody listens any more
            if _worker_words is not None:
                _worker_words.send((task.unit, done, total, words[:200]))

    if stage not in _worker_stages:
        _worker_stages[stage] = stage(_worker_run)
    return run_unit(_worker_run.workspace, _worker_stages[stage], task, report)
