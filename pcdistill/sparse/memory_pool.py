"""Memory pool for large results on the CPU.

A system gives new memory page by page, each emptied when it is first written, which can take longer
than the arithmetic that fills it. What results no longer need is therefore kept for those that
follow. Meanwhile the system may have it back for whatever else wants memory (Linux, macOS).
"""

from __future__ import annotations

import math
import mmap
import weakref
from bisect import bisect
from collections import deque
from threading import Lock

import numpy as np
import torch
from torch import Tensor

MIN_POOLED = 1 << 20
"""Bytes of the smallest result whose memory is kept."""
STEP = 64 << 10
"""Results begin at multiples of so many bytes; a multiple of any system's pages."""
PAGE = 2 << 20
"""Bytes of the large pages that the system is asked for."""
MAX_WASTE = 0.1
"""Memory in gaps beyond what results once needed at the same time, as a share of that."""
MIN_MAPPING = 64 << 20
"""Bytes of address space that are asked for at least; they become memory when they are written."""


def empty_pooled(rows: int, columns: int, dtype: torch.dtype) -> Tensor:
    """(rows, columns) of `dtype` on the CPU, contents undefined; large ones come from the pool.

    Args:
        rows: number of rows.
        columns: number of columns.
        dtype: of the elements.
    """
    size = rows * columns * dtype.itemsize
    if size < MIN_POOLED:
        return torch.empty(rows, columns, dtype=dtype)
    memory = torch.from_numpy(_POOL.allocate(size))
    return torch.empty(0, dtype=dtype).set_(
        memory.untyped_storage(), 0, (rows, columns), (columns, 1)
    )


class MemoryPool:
    """Pool of memory that takes a result's memory back when nothing refers to it.

    Every result takes the first gap that is large enough, so that gaps are few. Where they are not,
    their memory goes back to the system: the pool never has much more of it than the results that
    once were there together.
    """

    def __init__(self) -> None:
        self._mappings: list[_Mapping] = []
        self._returned: deque[tuple[_Mapping, int, int]] = deque()
        self._in_use = self._max_in_use = 0
        self._lock = Lock()

    def allocate(self, size: int) -> np.ndarray:
        """(size,) uint8; its memory is used again when it, and every tensor on it, is gone."""
        whole = -(-size // STEP) * STEP
        with self._lock:
            while self._returned:
                mapping, start, end = self._returned.popleft()
                mapping.free(start, end)
                self._in_use -= end - start
            mapping, start = self._gap(whole)
            self._in_use += whole
            self._max_in_use = max(self._max_in_use, self._in_use)
            excess = self.nbytes - (1 + MAX_WASTE) * self._max_in_use - MIN_MAPPING
            for last in reversed(self._mappings):
                excess -= last.empty_gaps(excess)
        array = np.frombuffer(mapping.memory, np.uint8, size, start)
        # The lock may be held where this is called: whenever Python clears away what is not used.
        back = weakref.finalize(array, self._returned.append, (mapping, start, start + whole))
        back.atexit = False
        return array

    def _gap(self, size: int) -> tuple[_Mapping, int]:
        for mapping in self._mappings:
            start = mapping.allocate(size)
            if start is not None:
                return mapping, start
        held = sum(len(mapping.memory) for mapping in self._mappings)
        try:
            mapping = _Mapping(max(size, held, MIN_MAPPING))
        except OSError:
            mapping = self._smallest_mapping(size, held)
        self._mappings.append(mapping)
        start = mapping.allocate(size)
        assert start is not None
        return mapping, start

    def _smallest_mapping(self, size: int, held: int) -> _Mapping:
        try:
            return _Mapping(size)
        except OSError as error:
            raise MemoryError(
                f"the sparse network has {held / 2**30:.1f} GiB and needs another "
                f"{size / 2**30:.1f} GiB, which the system does not give; use a larger voxel_size, "
                "smaller scenes or fewer scenes at a time"
            ) from error

    @property
    def nbytes(self) -> int:
        """Bytes of the system's memory that the pool can have at most."""
        return sum(mapping.nbytes for mapping in self._mappings)


class _Mapping:
    """Range of address space, and the gaps between the results in it."""

    def __init__(self, size: int) -> None:
        self.memory = _map(size + PAGE)
        first = -np.frombuffer(self.memory, np.uint8).ctypes.data % PAGE
        self._gaps = [(first, first + size)]
        """Begin and end, ascending; no two touch."""
        self._first = first
        self._written = np.zeros(-(-size // PAGE), dtype=bool)
        """Of each large page, whether a result has been there since it was last empty."""

    @property
    def nbytes(self) -> int:
        """Bytes of the pages that results have been in."""
        return int(self._written.sum()) * PAGE

    def allocate(self, size: int) -> int | None:
        """Take the first gap of at least `size` bytes; gives where it begins, None without one."""
        for place, (start, end) in enumerate(self._gaps):
            if end - start >= size:
                rest = [(start + size, end)] if end - start > size else []
                self._gaps[place : place + 1] = rest
                begin, behind = start - self._first, start + size - self._first
                self._written[begin // PAGE : -(-behind // PAGE)] = True
                return start
        return None

    def free(self, start: int, end: int) -> None:
        """Take back a range of bytes that `allocate` gave."""
        pages = self._whole_pages(start, end)
        if pages and hasattr(mmap, "MADV_FREE"):  # the system may have them, if it must
            self._advise(mmap.MADV_FREE, pages)
        place = bisect(self._gaps, (start, end))
        if place < len(self._gaps) and self._gaps[place][0] == end:
            end = self._gaps.pop(place)[1]
        if place and self._gaps[place - 1][1] == start:
            place -= 1
            start = self._gaps.pop(place)[0]
        self._gaps.insert(place, (start, end))

    def empty_gaps(self, size: float) -> int:
        """Give memory in gaps back to the system, the last first; return how much that was.

        Args:
            size: bytes, of which so many are given back as there are.
        """
        given = 0
        for start, end in reversed(self._gaps):
            if given >= size or not hasattr(mmap, "MADV_DONTNEED"):
                break
            gap = self._whole_pages(start, end)
            written = gap.start + np.flatnonzero(self._written[gap.start : gap.stop])
            emptied = written[-math.ceil(min(size - given, end - start) / PAGE) :]
            if len(emptied):
                self._advise(mmap.MADV_DONTNEED, range(int(emptied[0]), gap.stop))
                self._written[emptied] = False
                given += len(emptied) * PAGE
        return given

    def _whole_pages(self, start: int, end: int) -> range:
        """The large pages inside a gap, as the system would split one of which it gets a part."""
        return range(-(-(start - self._first) // PAGE), (end - self._first) // PAGE)

    def _advise(self, what: int, pages: range) -> None:
        self.memory.madvise(what, self._first + pages.start * PAGE, len(pages) * PAGE)


def _map(size: int) -> mmap.mmap:
    if not hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, size)
    made = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # not shared by forks
    if hasattr(mmap, "MADV_HUGEPAGE"):
        made.madvise(mmap.MADV_HUGEPAGE)
    return made


_POOL = MemoryPool()
