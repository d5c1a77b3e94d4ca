"""A sparse convolution as one dense product of gathered neighbours, absent ones as zeros.

The way for accelerators, and for inputs of few channels on any device: nothing is scattered, the
sums are taken inside the product, and nothing waits for the host. What it multiplies in vain is
the share of neighbours that are absent.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pcdistill.sparse.block_threads import for_each_block, worker_count
from pcdistill.sparse.kernel_map import KernelMap

GATHERED_BYTES = {"cpu": 4 << 20}
"""What the gathered rows of one block may take: on a CPU a share of the cache."""
GATHERED_BYTES_ELSEWHERE = 256 << 20


def dense_convolution(features: Tensor, kernel: Tensor, pairs: KernelMap) -> Tensor:
    """Sum over the offsets k of features[source] @ kernel[k]; see `sparse_convolution`."""
    n_offsets, n_in, n_out = kernel.shape
    if pairs.table.one_source:
        return _by_parent(features, kernel, pairs)
    weights = _ordered(kernel, pairs).reshape(n_offsets * n_in, n_out)
    padded = _padded(features)
    out = features.new_empty(pairs.n_target, n_out)
    blocks = _blocks(pairs, n_in * features.element_size(), features.device)

    def work(_: int, index: int) -> None:
        torch.mm(_gathered(padded, pairs, blocks[index]), weights, out=out[blocks[index]])

    _for_each(work, len(blocks), features.device)
    return out


def dense_kernel_gradient(
    features: Tensor, upstream: Tensor, pairs: KernelMap, dtype: torch.dtype
) -> Tensor:
    """Gradient (K, C_in, C_out) of the kernel, summed over the blocks in `dtype`."""
    n_in, n_out, n_offsets = features.shape[1], upstream.shape[1], len(pairs.table.rows)
    if pairs.table.one_source:  # from the other side fewer neighbours are absent
        swapped = dense_kernel_gradient(upstream, features, pairs.swapped, dtype)
        return swapped.transpose(1, 2)
    padded = _padded(features)
    blocks = _blocks(pairs, n_in * features.element_size(), features.device)
    workers = worker_count(len(blocks)) if features.device.type == "cpu" else 1
    totals = upstream.new_zeros(max(1, workers), n_offsets * n_in, n_out, dtype=dtype)

    def work(worker: int, index: int) -> None:
        gathered = _gathered(padded, pairs, blocks[index])
        totals[worker] += gathered.T @ upstream[blocks[index]]

    _for_each(work, len(blocks), features.device)
    total = totals.sum(dim=0).view(n_offsets, n_in, n_out)
    if pairs.slices is None:
        return total
    ordered = torch.empty_like(total)
    ordered[list(pairs.slices)] = total
    return ordered


def _by_parent(features: Tensor, kernel: Tensor, pairs: KernelMap) -> Tensor:
    """Where every target row has one source: all products of the sources, then a choice."""
    n_offsets, n_in, n_out = kernel.shape
    weights = _ordered(kernel, pairs).transpose(0, 1).reshape(n_in, n_offsets * n_out)
    products = (features @ weights).view(-1, n_out)
    numbers = torch.arange(n_offsets, device=features.device)[:, None]
    chosen = (pairs.table.rows.long() * n_offsets + numbers).amin(dim=0)
    return products.index_select(0, chosen)


def _ordered(kernel: Tensor, pairs: KernelMap) -> Tensor:
    return kernel if pairs.slices is None else kernel[list(pairs.slices)]


def _padded(features: Tensor) -> Tensor:
    """With one more row, of zeros, that absent neighbours point to."""
    return torch.cat((features, features.new_zeros(1, features.shape[1])))


def _gathered(padded: Tensor, pairs: KernelMap, rows: slice) -> Tensor:
    """(rows, K C_in) features of the neighbours of some target rows."""
    index = pairs.table.rows[:, rows].T.reshape(-1)
    return padded.index_select(0, index).view(rows.stop - rows.start, -1)


def _blocks(pairs: KernelMap, row_bytes: int, device: torch.device) -> list[slice]:
    budget = GATHERED_BYTES.get(device.type, GATHERED_BYTES_ELSEWHERE)
    count = max(1, budget // max(1, row_bytes * len(pairs.table.rows)))
    ends = range(0, pairs.n_target, count)
    return [slice(first, min(first + count, pairs.n_target)) for first in ends]


def _for_each(work: Callable[[int, int], None], blocks: int, device: torch.device) -> None:
    if device.type == "cpu":
        for_each_block(work, blocks)
        return
    for index in range(blocks):
        work(0, index)
