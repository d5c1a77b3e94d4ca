"""Actor of a Ray cluster that makes units, and tells what it is asked for in between."""

from __future__ import annotations

import logging
import os
import platform
import socket
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch

from pcdistill.errors import PcdistillError
from pcdistill.pipeline.config import RunConfig
from pcdistill.pipeline.context import RunContext
from pcdistill.pipeline.process_workers import usable_cores
from pcdistill.pipeline.ray_package import import_ray
from pcdistill.pipeline.stage import Stage, Task
from pcdistill.pipeline.unit_work import run_unit
from pcdistill.pipeline.workers import UnitProgress
from pcdistill.pipeline.workspace import UnitRecord
from pcdistill.version import __version__

T = TypeVar("T")
_MAX_KEPT = 1000
"""Lines that wait for the next question at most."""
_LOOK_FOR = 10.0
"""Seconds for which the token of a run is looked for; shared folders show files a little later."""


class Token(NamedTuple):
    """A file in the workspace by which a worker sees whether it has the same folder."""

    path: str
    text: str


class Greeting(NamedTuple):
    """Where a worker is, and whether it fits the run."""

    host: str
    node: str
    """Ray's number of the machine, hexadecimal."""
    version: str
    """Of pcdistill."""
    python: str
    """Major and minor version."""
    cores: int
    """That the process may use."""
    sees_workspace: bool
    has_folder: bool
    """Whether there is the folder in which the run was started."""

    @property
    def versions(self) -> str:
        """Those that have to be the same everywhere."""
        return f"pcdistill {self.version} and Python {self.python}"


class LogLine(NamedTuple):
    """A warning or an error that was logged."""

    logger: str
    level: int
    text: str


class Heard(NamedTuple):
    """What a worker answers when it is asked how far it is."""

    progress: tuple[UnitProgress, ...] = ()
    log: tuple[LogLine, ...] = ()
    outcome: UnitRecord | PcdistillError | None = None
    """How the unit went, once it ended; an error ends the run."""


class _KeptLog(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: deque[LogLine] = deque(maxlen=_MAX_KEPT)
        self.setFormatter(logging.Formatter())

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(LogLine(record.name, record.levelno, self.format(record)))


class RayActor:
    """Worker that holds the loaded models of a run.

    It works in a thread, so that it answers in the meantime: that it does not is how a lost machine
    or a stopped process is noticed.
    """

    def __init__(self, config: RunConfig, folder: str, *, gpus: bool) -> None:
        """Begin.

        Args:
            config: of the run.
            folder: in which the run was started; relative paths of its config are meant from there.
            gpus: whether the worker may use one.
        """
        if not gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        with suppress(OSError):
            os.chdir(folder)
        self._folder = folder
        self._config = config
        self._run: RunContext | None = None
        self._stages: dict[type[Stage], Stage] = {}
        self._thread = ThreadPoolExecutor(1)
        self._work: Future[UnitRecord] | None = None
        self._said: deque[UnitProgress] = deque(maxlen=_MAX_KEPT)
        self._log = _KeptLog()
        logging.getLogger().addHandler(self._log)

    def greet(self, token: Token) -> Greeting:
        """Tell where the worker is.

        Args:
            token: to look for.
        """
        end = time.monotonic() + _LOOK_FOR
        while not (sees := _is_seen(token)) and time.monotonic() < end:
            time.sleep(0.2)
        return Greeting(
            socket.gethostname(),
            import_ray().get_runtime_context().get_node_id(),
            *own_versions(),
            usable_cores(),
            sees,
            Path(self._folder).is_dir(),
        )

    def work(self, stage: type[Stage], task: Task, threads: int, seconds: float) -> Heard:
        """Begin with a unit, and answer as `listen` does."""
        self._work = self._thread.submit(self._make, stage, task, threads)
        return self.listen(seconds)

    def listen(self, seconds: float) -> Heard:
        """Wait for some seconds for the end of the unit, and tell what happened in the meantime.

        Raises:
            Exception: the work ended with it, which is a bug.
        """
        outcome: UnitRecord | PcdistillError | None = None
        if self._work is not None:
            wait([self._work], timeout=seconds)
            if self._work.done():
                work, self._work = self._work, None
                try:
                    outcome = work.result()
                except PcdistillError as error:
                    outcome = error
        return Heard(tuple(_taken(self._said)), tuple(_taken(self._log.lines)), outcome)

    def _make(self, stage: type[Stage], task: Task, threads: int) -> UnitRecord:
        torch.set_num_threads(threads)
        if self._run is None:
            self._run = RunContext(self._config)
        if stage not in self._stages:
            self._stages[stage] = stage(self._run)

        def report(done: int, total: int, words: str) -> None:
            self._said.append(UnitProgress(task.unit, done, total, words))

        return run_unit(self._run.workspace, self._stages[stage], task, report)


def own_versions() -> tuple[str, str]:
    """Version of pcdistill, and of Python without its last number."""
    return __version__, ".".join(platform.python_version_tuple()[:2])


def _is_seen(token: Token) -> bool:
    try:
        return Path(token.path).read_text() == token.text
    except OSError:
        return False


def _taken(lines: deque[T]) -> list[T]:
    """Take what is there; more may be appended meanwhile."""
    return [lines.popleft() for _ in range(len(lines))]
