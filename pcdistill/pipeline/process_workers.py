"""Worker processes on this machine."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Collection, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Future,
    ProcessPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection

import torch

from pcdistill.pipeline.config import RunConfig
from pcdistill.pipeline.context import RunContext
from pcdistill.pipeline.stage import Stage, Task
from pcdistill.pipeline.stop_signal import held_back
from pcdistill.pipeline.unit_work import run_unit
from pcdistill.pipeline.workers import UnitProgress, Workers
from pcdistill.pipeline.workspace import UnitRecord

_LOG = logging.getLogger(__name__)


class ProcessWorkers(Workers):
    """Processes of one pool; all of them end with one that dies."""

    lost = (BrokenProcessPool, CancelledError)
    die_together = True
    elsewhere = False
    advice = "try --jobs 1"

    def __init__(self, config: RunConfig, jobs: int) -> None:
        self._jobs = jobs
        self._config = config
        self._executor: ProcessPoolExecutor | None = None
        self._words: Connection | None = None
        self._alive: Connection | None = None

    def start(self) -> bool:
        """Whether there are several; one process works where none can be started."""
        if self._jobs > 1 and self._executor is None:
            try:
                self._executor = self._made()
            except (OSError, NotImplementedError) as error:
                self._jobs = 1
                _LOG.warning(
                    "one process works, because this machine can start no others (%s); they need "
                    "a /dev/shm that can be written",
                    error,
                )
        return self._jobs > 1

    def room(self, running: int) -> int:
        """Each has its next task at hand, so that it need not wait for it."""
        return 2 * self._jobs - running

    def submit(self, stage: type[Stage], task: Task, *, alone: bool) -> Future[UnitRecord]:
        """See the base class; a task that is alone has no more threads than others."""
        with held_back(), _uninterrupted():  # it may begin a process, which is told what it is
            try:
                return self._living_executor().submit(_work_in_process, stage, task)
            except (BrokenProcessPool, BrokenPipeError, ConnectionResetError):
                self.close()  # one died, perhaps as it began
                return self._living_executor().submit(_work_in_process, stage, task)

    def listen(self, running: Collection[Future[UnitRecord]], seconds: float) -> list[UnitProgress]:
        """See the base class."""
        wait(running, timeout=seconds, return_when=FIRST_COMPLETED)
        return list(self._heard())

    def close(self, *, wait: bool = False) -> None:
        """See the base class; those that are at work or begin end at once, whatever they do."""
        if self._executor is not None:
            if not wait:
                for child in multiprocessing.active_children():
                    child.kill()
            self._executor.shutdown(wait=wait, cancel_futures=True)
            self._executor = None
        if self._alive is not None:
            self._alive.close()
            self._alive = None
        if self._words is not None:
            self._words.close()
            self._words = None

    def _living_executor(self) -> ProcessPoolExecutor:
        if self._executor is None:
            self._executor = self._made()
        return self._executor

    def _made(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        self._words, theirs = context.Pipe(duplex=False)
        watched, self._alive = context.Pipe(duplex=False)
        return ProcessPoolExecutor(
            self._jobs,
            mp_context=context,
            initializer=_begin_worker,
            initargs=(self._config, self._jobs, theirs, watched),
        )

    def _heard(self) -> Iterator[UnitProgress]:
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


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Keep Ctrl-C for good from processes that begin while the block runs.

    A terminal sends it to all of them; the workers end with the process of the run.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_worker(config: RunConfig, jobs: int, words: Connection, watched: Connection) -> None:
    global _worker_run, _worker_words
    _worker_words = words
    torch.set_num_threads(worker_threads(jobs))
    threading.Thread(target=_end_with_run, args=(watched,), daemon=True).start()
    _worker_run = RunContext(config)


def _end_with_run(watched: Connection) -> None:
    watched.poll(None)  # nothing is ever sent: the other end was closed, or its process killed
    os._exit(1)


def _work_in_process(stage: type[Stage], task: Task) -> UnitRecord:
    if _worker_run is None:
        raise RuntimeError("the worker process was not initialised")

    def report(done: int, total: int, words: str) -> None:
        # all workers share one pipe: messages this short are written whole or not at all
        with suppress(OSError):  # nobody listens any more
            if _worker_words is not None:
                _worker_words.send(UnitProgress(task.unit, done, total, words[:200]))

    if stage not in _worker_stages:
        _worker_stages[stage] = stage(_worker_run)
    return run_unit(_worker_run.workspace, _worker_stages[stage], task, report)
