"""Threads that do compiled loops side by side."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from threading import Barrier, get_ident

import pytest
import torch

from pcdistill.sparse.parallel import num_workers, run_on_workers, run_parallel_kernel


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Whatever a test does to torch's number of threads is undone."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("parts", [0, 1, 2, 7])
def test_there_are_as_many_workers_as_threads_or_parts(count, parts):
    torch.set_num_threads(count)
    assert num_workers(parts) == max(1, min(count, parts))


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_every_worker_is_called_once_and_all_at_the_same_time(workers):
    together = Barrier(workers, timeout=30)
    seen = []

    def work(worker: int, count: int) -> None:
        together.wait()
        seen.append((worker, count, get_ident()))

    run_on_workers(work, workers)
    assert sorted(part[:2] for part in seen) == [(worker, workers) for worker in range(workers)]
    assert len({thread for *_, thread in seen}) == workers


def test_a_loop_gets_the_memory_of_tensors_and_the_bits_of_bfloat16():
    whole, short = torch.zeros(4, 6, requires_grad=True), torch.ones(3).bfloat16()
    seen = []

    def loop(rows, bits, number, worker, workers):
        rows[worker] = number
        seen.append((bits.tolist(), workers))

    run_parallel_kernel(loop, whole, short, 5, workers=2)
    assert whole.tolist() == [[5.0] * 6] * 2 + [[0.0] * 6] * 2
    assert seen == [([0x3F80] * 3, 2)] * 2


def test_threads_of_torch_stay_as_they_are():
    torch.set_num_threads(2)
    run_on_workers(lambda *_: None, 3)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_what_goes_wrong_in_a_worker_reaches_the_caller(workers):
    def work(worker: int, count: int) -> None:
        if worker == count - 1:
            raise KeyError("three")

    with pytest.raises(KeyError, match="three"):
        run_on_workers(work, workers)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_gets_threads_of_its_own():
    """The threads do not come along into a fork; waiting for them would never end."""
    program = """
import os
from pcdistill.sparse.parallel import run_on_workers
run_on_workers(lambda *_: None, 2)
child = os.fork()
if child == 0:
    run_on_workers(lambda *_: None, 2)
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "7", done.stderr
