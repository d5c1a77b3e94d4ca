"""Machines that lack what a run asks for: workers, memory, shared memory, caches."""

from __future__ import annotations

import os
import re
import signal
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.end_to_end.conftest import processes_in
from tests.faults.preparations import lose_gpu_memory, without_shared_memory
from tests.faults.test_files import failures


def workers_of(process: int) -> list[int]:
    """Numbers of the worker processes of a run."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    lines = {int(one): Path(f"/proc/{one}/cmdline").read_bytes() for one in children}
    return [one for one, line in lines.items() if b"spawn_main" in line]


def test_a_killed_worker_is_replaced(trial):
    trial.begin_without("lift", "fuse")
    child = trial.start("--jobs", 2)
    child.wait_for(r"(?m)^lift: ")
    while not (workers := workers_of(child.pid)):
        assert child.is_running
    os.kill(workers[0], signal.SIGKILL)
    ended = child.end()
    assert (ended.status, ended.errors) == (0, "")
    assert " 0 failed" in ended.output
    trial.keeps_its_promises("kill -9 of a worker", "nothing: another worker does its unit")


def actors_of(process: int) -> list[int]:
    """Numbers of the processes that Ray does the units of a run in."""
    found = []
    for number in processes_in(f"/pcd-ray-{process}-"):
        with suppress(OSError):  # it has ended meanwhile
            if Path(f"/proc/{number}/cmdline").read_bytes().startswith(b"ray::RayActor"):
                found.append(number)
    return found


@pytest.mark.slow  # the processes of a cluster are many
def test_a_killed_worker_of_ray_is_replaced(trial):
    trial.begin_without("lift", "fuse")
    # a shell starts it: a process with threads of its own is no place to begin a cluster in
    child = trial.start("--jobs", 2, "--engine", "ray", environment={})
    while not (actors := actors_of(child.pid)):
        assert child.is_running, child.end().errors
    os.kill(actors[0], signal.SIGKILL)
    ended = child.end()
    assert (ended.status, ended.errors) == (0, "")
    assert " 0 failed" in ended.output
    trial.keeps_its_promises("kill -9 of a Ray worker", "nothing: another worker does its unit")


@pytest.mark.parametrize(
    ("function", "advice"),
    [
        ("pcdistill.lifting.lift_frames._ask", "lower lift.batch"),
        ("pcdistill.distillation.trainer.Trainer.train_epoch", "raise distill.accumulate, or .*"),
    ],
)
def test_a_gpu_that_is_full(trial, function, advice):
    trial.begin_without("lift" if "lift" in function else "distill")
    ended = trial.start(prepare=partial(lose_gpu_memory, function, 1)).end()
    assert ended.status == 1
    assert ended.errors == ""
    (sentence,) = (text for text in failures(ended.output) if not text.startswith("not tried"))
    assert re.fullmatch(
        r"the memory of the GPU is too small \(CUDA out of memory\. Tried to allocate "
        rf"2\.00 GiB\.\); {advice}, or end what else uses it",
        sentence,
    )
    trial.keeps_its_promises("GPU out of memory", sentence)


def test_a_machine_without_shared_memory(trial):
    if os.geteuid() != 0:
        pytest.skip("only root can take /dev/shm away from a process")
    trial.begin_without("partition", "fuse")
    ended = trial.start("--jobs", 2, prepare=without_shared_memory).end()
    assert ended.status == 0
    assert re.match(r"WARNING .*: one process works, because .* a /dev/shm that", ended.sentence)
    trial.keeps_its_promises("no /dev/shm", ended.sentence)


@pytest.mark.slow  # everything is compiled anew
def test_caches_that_cannot_be_made(trial):
    trial.begin_without("partition", "fuse")
    file = trial.folder / "file"
    file.write_text("")
    names = ("HOME", "XDG_CACHE_HOME", "HF_HOME", "NUMBA_CACHE_DIR")
    ended = trial.start(environment={name: str(file / name) for name in names}).end()
    assert (ended.status, ended.errors) == (0, "")
    trial.keeps_its_promises("closed caches", "nothing: what is cached is computed anew")
