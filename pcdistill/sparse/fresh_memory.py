"""Memory for large results on the CPU, used again and again.

A system gives new memory page by page, each emptied when it is first written, which can take longer
than the arithmetic that fills it. What results no longer need is therefore kept for those that
follow. Meanwhile the system may have it back for whatever else wants memory (Linux, macOS).
"""

from __future__ import annotations

import mmap
import weakref
from collections import deque
from threading import Lock

import numpy as np
import torch
from torch import Tensor

SMALLEST = 1 << 20
"""Bytes of the smallest result whose memory is kept."""
PAGE = 2 << 20
"""Bytes of the pages that the system is asked for."""
LARGEST_WASTE = 0.125
"""How much more memory than it needs a result may get, as a share of its need."""


def fresh_rows(rows: int, columns: int, dtype: torch.dtype) -> Tensor:
    """(rows, columns) on the CPU, contents undefined."""
    size = rows * columns * dtype.itemsize
    if size < SMALLEST:
        return torch.empty(rows, columns, dtype=dtype)
    memory = torch.from_numpy(_POOL.take(size))
    return torch.empty(0, dtype=dtype).set_(
        memory.untyped_storage(), 0, (rows, columns), (columns, 1)
    )


class MemoryPool:
    """Blocks of memory that come back when nothing refers to them.

    Blocks in use and blocks kept together never take more than those that once were in use
    together: keeping costs no memory that was not needed before.
    """

    def __init__(self) -> None:
        self._kept: list[mmap.mmap] = []
        self._returned: deque[mmap.mmap] = deque()
        self._in_use = self._most_in_use = 0
        self._lock = Lock()

    def take(self, size: int) -> np.ndarray:
        """(size,) uint8; its memory is kept when it, and every tensor on it, is gone."""
        with self._lock:
            self._collect()
            block = self._kept_for(size)
            if block is None:
                needed = -(-size // PAGE) * PAGE
                self._make_room(needed)
                block = _new_block(needed)
            self._in_use += len(block)
            self._most_in_use = max(self._most_in_use, self._in_use)
        array = np.frombuffer(block, np.uint8, size)
        # The lock may be held where this is called: whenever Python clears away what is not used.
        weakref.finalize(array, self._returned.append, block).atexit = False
        return array

    @property
    def nbytes(self) -> int:
        """Bytes of all blocks, in use or kept."""
        with self._lock:
            self._collect()
            return self._in_use + sum(map(len, self._kept))

    def _collect(self) -> None:
        while self._returned:
            block = self._returned.popleft()
            self._in_use -= len(block)
            self._kept.append(block)
            if hasattr(mmap, "MADV_FREE"):
                block.madvise(mmap.MADV_FREE)

    def _kept_for(self, size: int) -> mmap.mmap | None:
        fitting = [
            place
            for place, block in enumerate(self._kept)
            if size <= len(block) <= size + max(PAGE, LARGEST_WASTE * size)
        ]
        if not fitting:
            return None
        return self._kept.pop(min(fitting, key=lambda place: len(self._kept[place])))

    def _make_room(self, needed: int) -> None:
        kept = sum(map(len, self._kept))
        allowed = max(self._most_in_use, self._in_use + needed)
        while self._kept and self._in_use + needed + kept > allowed:
            kept -= len(self._kept.pop(0))  # the one that waits longest


def _new_block(size: int) -> mmap.mmap:
    if not hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, size)
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # not shared by forks
    if hasattr(mmap, "MADV_HUGEPAGE"):
        block.madvise(mmap.MADV_HUGEPAGE)
    return block


_POOL = MemoryPool()
