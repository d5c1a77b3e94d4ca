"""Threads that work on blocks side by side, each with its own share of the processor.

One thread a block keeps a core busy with what is in its own cache, and nobody waits for anybody
until all blocks are done; splitting every small product over the cores waits after each of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import torch

_SPLIT = 1 << 18
"""Elements of an operation that torch splits over threads."""
_POOLS: dict[tuple[int, int], ThreadPoolExecutor] = {}


def worker_count(blocks: int) -> int:
    """How many threads `for_each_block` spreads that many blocks over."""
    return min(torch.get_num_threads(), blocks)


def for_each_block(work: Callable[[int, int], None], blocks: int) -> None:
    """Call `work(worker, block)` for every block; worker w of W has the blocks w, w + W, ...

    W is torch's number of threads for one operation. Gradients are off in the work; inference mode
    is what it is here.
    """
    workers = worker_count(blocks)
    inference = torch.is_inference_mode_enabled()

    def share(worker: int) -> None:
        with torch.inference_mode(inference), torch.no_grad():
            for block in range(worker, blocks, workers):
                work(worker, block)

    if workers <= 1:
        for worker in range(workers):
            share(worker)
        return
    for done in [_pool(workers).submit(share, worker) for worker in range(workers)]:
        done.result()


def _pool(workers: int) -> ThreadPoolExecutor:
    """Threads of this process whose own operations are not split any further."""
    key = (os.getpid(), workers)  # threads do not survive a fork
    if key not in _POOLS:
        before = torch.get_num_threads()
        together = Barrier(workers)

        def begin() -> None:
            # OpenMP lets idle threads spin, which here take the cores from the blocks, until it has
            # more threads than there are processors; a first operation that is split makes them.
            torch.ones(_SPLIT).add_(1)
            torch.set_num_threads(1)  # of this thread, but also of all that are begun later
            together.wait()

        pool = ThreadPoolExecutor(workers, thread_name_prefix="pcdistill-block")
        for begun in [pool.submit(begin) for _ in range(workers)]:
            begun.result()
        torch.set_num_threads(before)
        _POOLS[key] = pool
    return _POOLS[key]
