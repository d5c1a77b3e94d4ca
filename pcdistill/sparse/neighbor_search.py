"""Neighbor search among sorted voxels, by binary search or by a merge scan.

K offsets of a kernel are given as (n_z, columns): those of a column differ in z alone.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcdistill.jit import njit
from pcdistill.sparse.memory_pool import empty_pooled
from pcdistill.sparse.parallel import num_workers, run_parallel_kernel

Integers = NDArray[np.integer]

MIN_VOXELS_PER_WORKER = 4096
"""Fewest voxels that are worth a thread."""


def binary_search_neighbors(keys: Tensor, wanted: Tensor, deltas: Tensor, dilation: int) -> Tensor:
    """Find the neighbors of all voxels by binary search, on any device; the host never waits.

    Args:
        keys: (n_source,) int64, ascending; a cell's neighbor along z has the next key.
        wanted: (n_target,) int64, ascending: the voxels whose neighbors are sought.
        deltas: (n_z, columns) int64 on the CPU: what each offset adds to a key; a column differs
            in z alone.
        dilation: cells from an offset to the next along z.

    Returns:
        (n_z * columns, n_target) int32 source rows, n_source where no voxel is.
    """
    n_source = len(keys)
    # (n_z, columns, n_target)
    rows = wanted.new_empty((*deltas.shape, len(wanted)), dtype=torch.int32)
    nothing = keys.new_full((1,), torch.iinfo(keys.dtype).min)  # beyond the end nothing is found
    keys = torch.cat((keys, nothing))  # (n_source + 1,)
    for column, steps in enumerate(deltas.T.tolist()):
        place: Tensor | None = None
        for z, step in enumerate(steps):
            sought = wanted + step  # (n_target,) int64
            if place is None or dilation > 1:
                place = torch.searchsorted(keys[:-1], sought, out_int32=True)  # (n_target,)
            hit = keys.index_select(0, place) == sought  # (n_target,) bool
            rows[z, column] = torch.where(hit, place, n_source)
            # Cells adjacent along z have adjacent keys: the next, if there, is the next row.
            place = place + hit
    return rows.flatten(0, 1)


def merge_scan_neighbors(keys: Tensor, wanted: Tensor, deltas: Tensor, dilation: int) -> Tensor:
    """Find the neighbors of all voxels on the CPU by a scan along both sorted lists at once.

    Args:
        keys: (n_source,) int64, ascending; a cell's neighbor along z has the next key.
        wanted: (n_target,) int64, ascending: the voxels whose neighbors are sought.
        deltas: (n_z, columns) int64: what each offset adds to a key; a column differs in z alone.
        dilation: cells from an offset to the next along z.

    Returns:
        (n_z * columns, n_target) int32 source rows, n_source where no voxel is.
    """
    # (n_z, columns, n_target)
    rows = empty_pooled(deltas.numel(), len(wanted), torch.int32).view(*deltas.shape, len(wanted))
    workers = num_workers(len(wanted) // MIN_VOXELS_PER_WORKER)
    run_parallel_kernel(_merge_scan, keys, wanted, deltas, rows, dilation > 1, workers=workers)
    return rows.flatten(0, 1)


@njit(nogil=True)
def _merge_scan(
    keys: Integers,
    wanted: Integers,
    deltas: Integers,
    rows: Integers,
    apart: bool,
    worker: int,
    workers: int,
) -> None:
    """Fill `rows` (n_z, columns, n_target) for one worker's range of the targets."""
    absent, n_target = len(keys), len(wanted)
    first, last = worker * n_target // workers, (worker + 1) * n_target // workers
    if first == last:
        return
    for column in range(deltas.shape[1]):
        place = np.searchsorted(keys, wanted[first] + deltas[0, column])
        for target in range(first, last):
            while place < absent and keys[place] < wanted[target] + deltas[0, column]:
                place += 1
            above = place
            for z in range(deltas.shape[0]):
                sought = wanted[target] + deltas[z, column]
                while apart and above < absent and keys[above] < sought:
                    above += 1
                hit = above < absent and keys[above] == sought
                rows[z, column, target] = above if hit else absent
                above += hit
