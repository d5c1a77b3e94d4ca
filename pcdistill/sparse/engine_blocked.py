"""A sparse convolution on the CPU, block by block in the cache.

A block of output rows takes one gather of the input rows that it needs, one matrix product per
kernel offset, and one gather-sum that adds the products of each output row. All three work on
buffers that stay in the cache, nothing is scattered, and the order of every sum is fixed. Threads
share the blocks.

(Gathering all neighbours, absent ones as zeros, for one large product per block was measured on
surface scans: slower from 16 channels on, so that is done for few channels only.)
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from pcdistill.sparse.block_threads import for_each_block, worker_count
from pcdistill.sparse.blocks import Block
from pcdistill.sparse.kernel_map import KernelMap

CACHE_BYTES = 8 << 20
"""What the gathered rows and products of one block may take together, in every thread."""

ROW_SHAPES, SMALLEST_TILE = 8, 32
"""See `row_tile`."""

SMALLEST_BLOCK, LARGEST_BLOCK = 256, 1 << 15
"""Limits on the rows of a block; below the first the calls cost more than the cache saves."""


def blocked_convolution(features: Tensor, kernel: Tensor, pairs: KernelMap) -> Tensor:
    """Sum over the offsets k of features[source] @ kernel[k]; see `sparse_convolution`."""
    weights = pairs.weights(kernel)
    cut = _Cut(pairs, features.shape[1] + kernel.shape[2], features.dtype)
    out = features.new_empty(pairs.n_target, kernel.shape[2])

    def work(_: int, index: int) -> None:
        rows, block = cut.part(index)
        products = _multiply(_gather(0, features, block.source), weights, block.sizes, slot=1)
        if cut.skip is not None:
            torch.mm(features[rows], weights[cut.skip], out=out[rows])
        _sum_runs(products, block, out[rows], add=cut.skip is not None)

    for_each_block(work, cut.blocks)
    return out


def blocked_gradients(
    features: Tensor,
    kernel: Tensor,
    upstream: Tensor,
    pairs: KernelMap,
    wants_features: bool,
    wants_kernel: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """Both gradients in one walk over blocks of input rows, with the map seen from there."""
    mirrored = pairs.swapped
    transposed = mirrored.weights(kernel.transpose(1, 2))
    cut = _Cut(mirrored, kernel.shape[1] + kernel.shape[2], features.dtype)
    exact = torch.promote_types(kernel.dtype, torch.float32)
    grad_features = torch.empty_like(features) if wants_features else None
    workers = max(1, worker_count(cut.blocks))
    totals = kernel.new_zeros(workers, *kernel.shape, dtype=exact) if wants_kernel else None

    def work(worker: int, index: int) -> None:
        rows, block = cut.part(index)
        gathered = _gather(0, upstream, block.source)
        if totals is not None:
            slices = mirrored.weights(totals[worker])
            inputs = _gather(1, features[rows], block.target)
            if len(block.filling):
                inputs.index_fill_(0, block.filling, 0)
            for left, right, total in zip(
                torch.split_with_sizes(inputs, block.sizes),
                torch.split_with_sizes(gathered, block.sizes),
                slices,
                strict=True,
            ):
                if len(left):
                    _add_product(total, left, right)
            if cut.skip is not None:
                _add_product(slices[cut.skip], features[rows], upstream[rows])
        if grad_features is not None:
            products = _multiply(gathered, transposed, block.sizes, slot=1)
            if cut.skip is not None:
                torch.mm(upstream[rows], transposed[cut.skip], out=grad_features[rows])
            _sum_runs(products, block, grad_features[rows], add=cut.skip is not None)

    for_each_block(work, cut.blocks)
    return grad_features, None if totals is None else totals.sum(dim=0).to(kernel.dtype)


def row_tile(rows: int, dtype: torch.dtype) -> int:
    """Multiple to which the rows of a matrix product are filled up; 1 for float32 and better.

    Products of 16-bit numbers run several times faster on CPUs that have them, but the library
    compiles a kernel for every new shape, which takes far longer than the product. With at most
    `ROW_SHAPES` heights a layer all are compiled in the first steps.
    """
    if dtype.itemsize > 2:
        return 1
    return max(SMALLEST_TILE, (1 << max(0, rows - 1).bit_length()) // ROW_SHAPES)


class _Cut:
    """How the target rows of one pass are cut into blocks."""

    def __init__(self, pairs: KernelMap, columns: int, dtype: torch.dtype) -> None:
        self._table = pairs.table
        degree = max(1.0, sum(pairs.counts) / max(1, pairs.n_target))
        fitting = max(1, int(CACHE_BYTES / (columns * dtype.itemsize * degree)))
        rows = 1 << (fitting.bit_length() - 1)  # a power of two: layers of a level share blocks
        rows = min(LARGEST_BLOCK, max(SMALLEST_BLOCK, rows))
        busy = -(-pairs.n_target // torch.get_num_threads())  # no thread should be without work
        self._rows = max(1, min(rows, busy))
        self._tile = row_tile(self._rows, dtype)
        self.skip = pairs.middle if self._tile == 1 else None
        """Offset whose rows need no gathering."""
        self.blocks = -(-pairs.n_target // self._rows)

    def part(self, index: int) -> tuple[slice, Block]:
        """The target rows of a block and the pairs around them."""
        first = index * self._rows
        count = min(self._rows, self._table.n_target - first)
        block = self._table.block(first, count, self._tile, self.skip)
        return slice(first, first + count), block


class _Buffers(threading.local):
    """Scratch memory of this thread, kept so that its pages stay mapped and warm."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, torch.dtype], Tensor] = {}

    def take(self, slot: int, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
        """(rows, columns), contents undefined, valid until the same slot is taken again."""
        kept = self._kept.get((slot, dtype))
        if kept is None or kept.numel() < rows * columns:
            with torch.inference_mode(False):  # a later training step writes here too
                kept = torch.empty(rows * columns, dtype=dtype)
            self._kept[slot, dtype] = kept
        return kept[: rows * columns].view(rows, columns)


_BUFFERS = _Buffers()


def _gather(slot: int, table: Tensor, rows: Tensor) -> Tensor:
    into = _BUFFERS.take(slot, len(rows), table.shape[1], table.dtype)
    return torch.index_select(table, 0, rows, out=into)


def _multiply(
    gathered: Tensor, weights: Sequence[Tensor], sizes: Sequence[int], slot: int
) -> Tensor:
    """One product per offset, on its own rows, into the buffer of that slot."""
    products = _BUFFERS.take(slot, len(gathered), weights[0].shape[1], gathered.dtype)
    for left, weight, into in zip(
        torch.split_with_sizes(gathered, sizes),
        weights,
        torch.split_with_sizes(products, sizes),
        strict=True,
    ):
        if len(left):
            torch.mm(left, weight, out=into)
    return products


def _sum_runs(products: Tensor, block: Block, into: Tensor, *, add: bool) -> None:
    """Add up the products of each target row, onto what is there if `add`."""
    if len(products):
        total = functional.embedding_bag(block.members, products, block.starts, mode="sum")
        if add:
            into.add_(total)
        else:
            into.copy_(total)
    elif not add:
        into.zero_()


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left^T right, in the precision of `total`."""
    if total.dtype == left.dtype:
        total.addmm_(left.T, right)
    else:
        total += left.T @ right
