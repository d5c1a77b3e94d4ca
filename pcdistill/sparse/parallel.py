"""Thread pool that splits compiled loops into equal parts."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import numpy as np
import torch
from torch import Tensor

_SPLIT = 1 << 18
"""Elements of an operation that torch splits over threads."""
_POOLS: dict[tuple[int, int], ThreadPoolExecutor] = {}


def num_workers(parts: int) -> int:
    """Number of threads for work of that many parts: at most torch's own number, at least 1."""
    return max(1, min(torch.get_num_threads(), parts))


def run_parallel_kernel(loop: Any, *arguments: Any, workers: int) -> None:
    """Call the compiled loop(*arguments, worker, workers) for every worker at the same time.

    Args:
        loop: releases the GIL; each worker does the part of its number.
        arguments: tensors among them become arrays over their memory, those of bfloat16 its bits.
        workers: number of workers.
    """
    arrays = [_array(part) if isinstance(part, Tensor) else part for part in arguments]
    run_on_workers(lambda worker, workers: loop(*arrays, worker, workers), workers)


def _array(part: Tensor) -> np.ndarray:
    if part.dtype == torch.bfloat16:  # numpy has none; the loops know what the bits are
        part = part.view(torch.uint16)
    array: np.ndarray = part.detach().numpy()
    return array


def run_on_workers(work: Callable[[int, int], None], workers: int) -> None:
    """Call work(worker, workers) for every worker at the same time.

    The work must release the GIL to gain from it. What one worker raises is raised here.
    """
    if workers == 1:
        work(0, 1)
        return
    for done in [_pool(workers).submit(work, worker, workers) for worker in range(workers)]:
        done.result()


def _pool(workers: int) -> ThreadPoolExecutor:
    key = (os.getpid(), workers)  # threads do not survive a fork
    if key not in _POOLS:
        together = Barrier(workers)

        def begin() -> None:
            # OpenMP lets idle threads spin, which here take the cores from the work, until it has
            # more threads than there are processors; a first operation that is split makes them.
            torch.ones(_SPLIT).add_(1)
            together.wait()

        pool = ThreadPoolExecutor(workers, thread_name_prefix="pcdistill-core")
        for begun in [pool.submit(begin) for _ in range(workers)]:
            begun.result()
        _POOLS[key] = pool
    return _POOLS[key]
