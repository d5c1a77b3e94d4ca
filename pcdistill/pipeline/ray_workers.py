"""Workers on the machines of a Ray cluster."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pcdistill.errors import ConfigError, PcdistillError
from pcdistill.pipeline.config import RunConfig
from pcdistill.pipeline.process_workers import usable_cores
from pcdistill.pipeline.ray_actor import Greeting, Heard, RayActor, Token, own_versions
from pcdistill.pipeline.ray_cluster import RayCluster, RayOptions, workers_that_fit
from pcdistill.pipeline.stage import Stage, Task
from pcdistill.pipeline.workers import UnitProgress, Workers
from pcdistill.pipeline.workspace import UnitRecord

_LOG = logging.getLogger(__name__)

MAX_SILENCE = 120.0
"""Seconds after which a worker that does not answer is given up, whatever Ray says of it."""
_LONGEST_START = 900.0
"""Seconds after which another is tried in place of a worker that has not begun."""
_DOUBT = 5.0
"""Seconds of silence after which the cluster is asked whether the worker's machine lives."""
_ANSWER_EVERY = 1.0
"""Seconds after which a busy worker answers at the latest."""
_STALE = 2.0
"""Seconds after which an idle worker is asked whether it lives before it is given a unit."""
_TELL_AFTER = 30.0
"""Seconds without any worker after which it is told what is waited for."""
_MAX_FAILED_STARTS = 3
"""How many workers in a row may end before they begin."""
_SHOW_OUTPUTS = 60.0
"""Seconds in which what another machine wrote must be seen on this one."""


class LostWorkerError(Exception):
    """A worker of a cluster died, or its machine was lost."""


@dataclass(eq=False)
class _Worker:
    """One actor, as it is seen from here."""

    actor: Any
    asked: Any
    """Reference to its next answer; None where it is idle."""
    greeting: Greeting | None = None
    work: Future[UnitRecord] | None = None
    silence: float = 0.0
    """Seconds for which an answer has been waited for."""
    answered: float = 0.0
    """When it answered last, by the monotonic clock."""


class RayWorkers(Workers):
    """Actors, each of which makes one unit at a time: one that dies takes no other unit along."""

    lost = (LostWorkerError,)
    die_together = False
    elsewhere = True
    advice = "let fewer workers share a machine by a larger --ray-cpus"

    def __init__(
        self, config: RunConfig, options: RayOptions, *, max_silence: float = MAX_SILENCE
    ) -> None:
        """Nothing begins yet.

        Args:
            config: of the run.
            options: which cluster, and what a worker reserves of it.
            max_silence: seconds after which a worker that does not answer is given up.
        """
        self._config = config
        self._options = options
        self._max_silence = max_silence
        self._cluster: RayCluster | None = None
        self._remote: Any = None
        self._token: Token | None = None
        self._workers: list[_Worker] = []
        self._said: list[UnitProgress] = []
        self._failed_starts = 0
        self._refusals: dict[str, str] = {}
        """By host, why its workers cannot take part."""
        self._waited = 0.0
        """Seconds without any worker; negative once it was told."""

    def start(self) -> bool:
        """Always True; see the base class."""
        if self._cluster is not None:
            return True
        jobs, cpus = self._options.jobs, self._options.cpus
        cluster = RayCluster(self._options, max(usable_cores(), int(-(-jobs * cpus // 1))))
        self._cluster = cluster
        machines = cluster.machines()
        gpus = self._options.gpus
        if gpus is None:
            may = self._config.distill.device != "cpu"
            gpus = 1.0 if may and any(machine.gpus for machine in machines) else 0.0
        fit = workers_that_fit(machines, cpus, gpus)
        self._remote = cluster.ray.remote(RayActor).options(
            num_cpus=cpus,
            num_gpus=gpus,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy="SPREAD",
        )
        self._reserves_gpus = gpus > 0
        self._token = _written_token(Path(self._config.run.workspace).absolute())
        self._workers = [self._new() for _ in range(jobs or fit)]
        return True

    def room(self, running: int) -> int:
        """Workers that are idle, and answer."""
        now = time.monotonic()
        stale = [
            worker
            for worker in self._workers
            if worker.asked is None and now - worker.answered > _STALE
        ]
        for worker in stale:
            worker.asked = worker.actor.listen.remote(0.0)
        if stale:
            self._gather(stale, _STALE)
        return sum(worker.asked is None for worker in self._workers)

    def submit(self, stage: type[Stage], task: Task, *, alone: bool) -> Future[UnitRecord]:
        """See the base class."""
        worker = next(worker for worker in self._workers if worker.asked is None)
        threads = self._threads(worker.greeting, alone=alone)
        worker.work = Future()
        worker.asked = worker.actor.work.remote(stage, task, threads, _ANSWER_EVERY)
        return worker.work

    def listen(self, running: Collection[Future[UnitRecord]], seconds: float) -> list[UnitProgress]:
        """See the base class."""
        self._gather([worker for worker in self._workers if worker.asked is not None], seconds)
        self._require_workers(seconds)
        said, self._said = self._said, []
        return said

    def close(self, *, wait: bool = False) -> None:
        """See the base class; it leaves the cluster too."""
        for worker in self._workers:
            self._kill(worker)
        self._workers = []
        if self._token is not None:
            with suppress(OSError):
                Path(self._token.path).unlink()
            self._token = None
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None

    @property
    def _living_cluster(self) -> RayCluster:
        if self._cluster is None:
            raise RuntimeError("the workers have not been started")
        return self._cluster

    def _new(self) -> _Worker:
        actor = self._remote.remote(self._config, os.getcwd(), gpus=self._reserves_gpus)
        return _Worker(actor, actor.greet.remote(self._token))

    def _threads(self, greeting: Greeting | None, *, alone: bool) -> int:
        """`OMP_NUM_THREADS`, else what a worker reserves; a unit alone has its whole machine."""
        if os.environ.get("OMP_NUM_THREADS"):
            return torch.get_num_threads()
        if alone and greeting is not None:
            return greeting.cores
        return max(1, int(self._options.cpus))

    def _gather(self, asked: Sequence[_Worker], seconds: float) -> None:
        """Take the answers of workers, as soon as there is one; give up those that stay silent."""
        if not asked:
            time.sleep(seconds)
            return
        ray, begin = self._living_cluster.ray, time.monotonic()
        by_reference = {worker.asked: worker for worker in asked}
        references = list(by_reference)
        ready, _ = ray.wait(references, num_returns=1, timeout=seconds)
        if ready:
            ready, _ = ray.wait(references, num_returns=len(references), timeout=0)
        waited = min(time.monotonic() - begin, 2 * seconds)  # this process may have stood still
        for reference in ready:
            self._take(by_reference.pop(reference))
        for worker in by_reference.values():
            self._doubt(worker, waited)

    def _take(self, worker: _Worker) -> None:
        """Take the answer of a worker."""
        ray = self._living_cluster.ray
        reference, worker.asked = worker.asked, None
        try:
            answer = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            if worker.work is None:
                raise cause from None
            worker.work.set_exception(cause)
            worker.work = None
            return
        except ray.exceptions.RayError as error:
            self._lose(worker, str(error))
            return
        worker.silence, worker.answered = 0.0, time.monotonic()
        if isinstance(answer, Greeting):
            self._welcome(worker, answer)
        else:
            self._heed(worker, answer)

    def _heed(self, worker: _Worker, answer: Heard) -> None:
        host = worker.greeting.host if worker.greeting else ""
        for line in answer.log:
            where = f"{host}: " if host != socket.gethostname() else ""
            logging.getLogger(line.logger).log(line.level, "%s%s", where, line.text)
        self._said += answer.progress
        if worker.work is None:
            return
        if answer.outcome is None:
            worker.asked = worker.actor.listen.remote(_ANSWER_EVERY)
            return
        work, worker.work = worker.work, None
        if isinstance(answer.outcome, PcdistillError):
            work.set_exception(answer.outcome)
        elif host == socket.gethostname():
            work.set_result(answer.outcome)
        else:
            root = Path(self._config.run.workspace).absolute()
            work.set_result(_seen_here(root, answer.outcome, host))

    def _welcome(self, worker: _Worker, greeting: Greeting) -> None:
        """Take a worker in, unless it cannot do what this process would."""
        worker.greeting = greeting
        self._failed_starts = 0
        refusal = _refusal(greeting, Path(self._config.run.workspace).absolute())
        if refusal:
            self._workers.remove(worker)
            self._kill(worker)
            if self._refusals.get(greeting.host) != refusal and self._workers:
                _LOG.warning("%s; the run goes on without that machine", refusal)
            self._refusals[greeting.host] = refusal
        elif not greeting.has_folder and greeting.host not in self._refusals:
            self._refusals[greeting.host] = ""
            _LOG.warning(
                "%s: there is no %s there, where the run was started; what its config names "
                "without a leading / is not found there",
                greeting.host,
                os.getcwd(),
            )

    def _doubt(self, worker: _Worker, waited: float) -> None:
        """Give a worker up whose machine is lost, or that has not answered for too long."""
        worker.silence += waited
        limit = self._max_silence if worker.greeting else _LONGEST_START
        if worker.silence > limit:
            self._lose(worker, f"it did not answer for {limit:.0f} s")
        elif (
            worker.silence > _DOUBT
            and worker.greeting is not None
            and not self._living_cluster.is_alive(worker.greeting.node)
        ):
            self._lose(worker, "its machine is lost")

    def _lose(self, worker: _Worker, reason: str) -> None:
        """Give a worker up, with its unit, and begin another."""
        self._workers.remove(worker)
        self._kill(worker)
        if worker.work is not None:
            worker.work.set_exception(LostWorkerError(reason))
        elif worker.greeting is None and worker.silence <= _LONGEST_START:
            self._failed_starts += 1
            if self._failed_starts >= _MAX_FAILED_STARTS:
                lines = [line.strip() for line in reason.splitlines() if line.strip()]
                self._refusals[""] = (
                    f"workers end before they begin ({lines[-1] if lines else 'no reason given'}); "
                    f"every machine of the cluster needs {_versions()} and what it needs"
                )
                if self._workers:
                    _LOG.warning("%s; the run goes on with the others", self._refusals[""])
                return
        self._workers.append(self._new())

    def _kill(self, worker: _Worker) -> None:
        with suppress(Exception):  # it is dead, or the cluster is
            self._living_cluster.ray.kill(worker.actor)

    def _require_workers(self, seconds: float) -> None:
        """Refuse to go on without any worker; say what is waited for where none has begun."""
        if not self._workers:
            raise ConfigError("; ".join(why for why in self._refusals.values() if why))
        if any(worker.greeting for worker in self._workers):
            self._waited = 0.0
        elif 0 <= self._waited <= _TELL_AFTER:
            self._waited += seconds
        elif self._waited > _TELL_AFTER:
            self._waited = -1.0
            _LOG.warning(
                "waits for a worker: each reserves %g CPUs%s, which others may be using; lower "
                "--ray-cpus or --ray-gpus, or wait",
                self._options.cpus,
                " and a GPU" if self._reserves_gpus else "",
            )


def _written_token(root: Path) -> Token:
    """Write a file into the workspace by which workers know that they see the same folder."""
    # named as what a killed process leaves behind, which the next run removes
    name = f".ray-{secrets.token_hex(4)}.{socket.gethostname()}.{os.getpid()}.part"
    token = Token(str(root / name), secrets.token_hex(16))
    try:
        root.mkdir(parents=True, exist_ok=True)
        Path(token.path).write_text(token.text)
    except OSError as error:
        raise ConfigError(
            f"{root}: nothing can be written there ({error.strerror}); give a folder that can be "
            "written with --workspace"
        ) from None
    return token


def _refusal(greeting: Greeting, root: Path) -> str:
    """Why a worker cannot take part; empty where it can."""
    if (greeting.version, greeting.python) != own_versions():
        return (
            f"{greeting.host} has {greeting.versions}, but this run {_versions()}; install the "
            "same on every machine of the cluster"
        )
    if not greeting.sees_workspace:
        return (
            f"{greeting.host} does not see the workspace {root} of this machine; put it on a file "
            "system that all machines of the cluster share under one path (--workspace)"
        )
    return ""


def _versions() -> str:
    version, python = own_versions()
    return f"pcdistill {version} and Python {python}"


def _seen_here(root: Path, record: UnitRecord, host: str) -> UnitRecord:
    """Wait until this machine sees what another wrote; a failed record where it does not.

    Machines that share a folder remember for a while what was not there; listing the folder makes
    them ask again.
    """
    end = time.monotonic() + _SHOW_OUTPUTS
    for name, size in record.outputs.items():
        path = root / name
        while not _is_seen(path, size):
            if time.monotonic() > end:
                reason = (
                    f"{host} wrote {path}, but this machine does not see it; the workspace must be "
                    "on a file system that all machines of the cluster share"
                )
                return replace(record, state="failed", summary=reason, outputs={})
            time.sleep(0.2)
            with suppress(OSError):
                os.listdir(path.parent)
    return record


def _is_seen(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False
