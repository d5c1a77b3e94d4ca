"""Threads that share blocks."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from pcdistill.sparse.block_threads import for_each_block, worker_count


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Whatever a test does to torch's number of threads is undone."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("blocks", [0, 1, 2, 7])
def test_every_block_is_done_once_by_its_worker(count, blocks):
    torch.set_num_threads(count)
    done = []
    for_each_block(lambda worker, block: done.append((block, worker)), blocks)
    workers = worker_count(blocks)
    assert workers == min(count, blocks)
    assert sorted(done) == [(block, block % workers) for block in range(blocks)]


def test_operations_of_a_worker_are_not_split_further():
    torch.set_num_threads(2)
    seen = []

    def work(_: int, __: int) -> None:
        torch.ones(1 << 20).sum()
        seen.append(torch.get_num_threads())

    for_each_block(work, 6)
    assert seen == [1] * 6
    assert torch.get_num_threads() == 2
    with ThreadPoolExecutor(1) as pool:  # nor are other threads changed
        assert pool.submit(torch.get_num_threads).result() == 2


@pytest.mark.parametrize("count", [1, 2])
def test_modes_are_the_callers_but_for_gradients(count):
    torch.set_num_threads(count)
    for inference in (False, True):
        seen = []

        def work(_: int, __: int, seen: list = seen) -> None:
            seen.append((torch.is_inference_mode_enabled(), torch.is_grad_enabled()))

        with torch.inference_mode(inference):
            for_each_block(work, 4)
        assert seen == [(inference, False)] * 4


@pytest.mark.parametrize("count", [1, 2])
def test_what_goes_wrong_in_a_block_reaches_the_caller(count):
    torch.set_num_threads(count)

    def work(_: int, block: int) -> None:
        if block == 3:
            raise KeyError("three")

    with pytest.raises(KeyError, match="three"):
        for_each_block(work, 5)
