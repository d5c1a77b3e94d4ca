"""The arithmetic of a sparse convolution, given its kernel map, in plain torch.

On the CPU the output is made block by block: one gather of the input rows that a block needs, one
matrix product per kernel offset, one gather-sum that adds the products of each output row. All
three work on buffers that stay in the cache, nothing is scattered, and the order of every sum is
fixed. (Gathering all 27 neighbours, absent ones as zeros, for one large product per block was
measured on surface scans with 8 to 64 channels: 1.3 to 2 times slower, so it is not done.)

On an accelerator the same three steps run over whole offsets. Nothing gathered is kept for the
backward pass; it is gathered again.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from pcdistill.sparse.kernel_map import BlockPlan, KernelMap

CACHE_BYTES = 16 << 20
"""What the gathered rows and products of one block may take together. Between 8 and 32 MiB are
equally good on a machine with 1 MiB of second and 32 MiB of third level cache; 4 MiB costs a fifth,
because the products become too short."""

ROW_SHAPES, SMALLEST_TILE = 8, 32
"""See `row_tile`."""

SMALLEST_BLOCK, LARGEST_BLOCK = 256, 1 << 15
"""Limits on the rows of a block; below the first the calls cost more than the cache saves."""


def sparse_convolution(features: Tensor, kernel: Tensor, pairs: KernelMap) -> Tensor:
    """Sum over the offsets k of features[source] @ kernel[k] into the target rows.

    Args:
        features: (V_in, C_in) float, rows as in `pairs`.
        kernel: (K, C_in, C_out), same dtype.
        pairs: source and target rows of each offset.

    Returns:
        (V_out, C_out), dtype of `features`; sums are taken in float32 or better.

    Raises:
        ValueError: shapes that do not fit the map.
    """
    if features.shape[0] != pairs.n_source or kernel.shape[0] != len(pairs.counts):
        raise ValueError(
            f"features has {features.shape[0]} rows and kernel {kernel.shape[0]} slices, expected "
            f"{pairs.n_source} and {len(pairs.counts)} as in the kernel map"
        )
    if features.shape[1] != kernel.shape[1]:
        raise ValueError(
            f"features has {features.shape[1]} channels, the kernel takes {kernel.shape[1]}"
        )
    result: Tensor = _SparseConvolution.apply(features, kernel, pairs)  # type: ignore[no-untyped-call]
    return result


class _SparseConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, kernel: Tensor, pairs: KernelMap) -> Tensor:
        features = features.contiguous()
        ctx.save_for_backward(features, kernel)
        ctx.pairs = pairs
        if features.device.type == "cpu":
            return _blocked(features, pairs.weights(kernel), pairs, kernel.shape[2])
        return _whole(features, pairs.weights(kernel), pairs, kernel.shape[2])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        features, kernel = ctx.saved_tensors
        wants_features, wants_kernel, _ = ctx.needs_input_grad
        backward = _blocked_backward if features.device.type == "cpu" else _whole_backward
        return (
            *backward(
                features, kernel, upstream.contiguous(), ctx.pairs, wants_features, wants_kernel
            ),
            None,
        )


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


def block_rows(pairs: KernelMap, row_bytes: int) -> int:
    """Target rows per block, a power of two, so that its pairs take about `CACHE_BYTES`.

    Args:
        pairs: the kernel map.
        row_bytes: bytes of one gathered row and its product.
    """
    degree = max(1.0, len(pairs.target) / max(1, pairs.n_target))
    fitting = max(1, int(CACHE_BYTES / (row_bytes * degree)))
    return min(LARGEST_BLOCK, max(SMALLEST_BLOCK, 1 << (fitting.bit_length() - 1)))


def _plan_for(pairs: KernelMap, columns: int, dtype: torch.dtype) -> BlockPlan:
    """The plan of a pass; without the middle offset, whose rows need no gathering, if possible."""
    rows = block_rows(pairs, columns * dtype.itemsize)
    tile = row_tile(min(rows, pairs.n_target), dtype)
    return pairs.plan(rows, tile, pairs.middle if tile == 1 else None)


def row_tile(rows: int, dtype: torch.dtype) -> int:
    """Multiple to which the rows of a matrix product are filled up; 1 for float32 and better.

    Products of 16-bit numbers run several times faster on CPUs that have them, but the library
    compiles a kernel for every new shape, which takes far longer than the product. With at most
    `ROW_SHAPES` heights a layer all are compiled in the first steps.
    """
    if dtype.itemsize > 2:
        return 1
    return max(SMALLEST_TILE, (1 << max(0, rows - 1).bit_length()) // ROW_SHAPES)


def pointwise_product(features: Tensor, kernel: Tensor) -> Tensor:
    """Multiply (V, C_in) by (C_in, C_out); 16-bit rows on a CPU are filled up, see `row_tile`."""
    if features.device.type != "cpu" or features.dtype.itemsize > 2 or not len(features):
        return features @ kernel
    missing = -len(features) % row_tile(len(features), features.dtype)
    return (functional.pad(features, (0, 0, 0, missing)) @ kernel)[: len(features)]


def _blocked(
    features: Tensor, weights: Sequence[Tensor], pairs: KernelMap, channels: int
) -> Tensor:
    """Forward pass on the CPU: weights is K times (C_in, C_out)."""
    plan = _plan_for(pairs, features.shape[1] + channels, features.dtype)
    out = features.new_empty(pairs.n_target, channels)
    for index, rows in enumerate(torch.split(out, plan.block_rows) if len(out) else ()):
        gathered = _gather(0, features, plan.source[index])
        products = _multiply(gathered, weights, plan.sizes[index], slot=1)
        if plan.skip is not None:
            first = index * plan.block_rows
            torch.mm(features[first : first + len(rows)], weights[plan.skip], out=rows)
        _sum_runs(products, plan, index, rows)
    return out


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


def _gather(slot: int, table: Tensor, rows: Tensor) -> Tensor:
    into = _BUFFERS.take(slot, len(rows), table.shape[1], table.dtype)
    return torch.index_select(table, 0, rows, out=into)


def _sum_runs(products: Tensor, plan: BlockPlan, index: int, into: Tensor) -> None:
    """Add up the products of each target row; to what is there, where the plan skips an offset."""
    if len(products):
        total = functional.embedding_bag(
            plan.members[index], products, plan.starts[index], mode="sum"
        )
        if plan.skip is None:
            into.copy_(total)
        else:
            into.add_(total)
    elif plan.skip is None:
        into.zero_()


def _blocked_backward(
    features: Tensor,
    kernel: Tensor,
    upstream: Tensor,
    pairs: KernelMap,
    wants_features: bool,
    wants_kernel: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """Both gradients in one walk over blocks of input rows, with the map seen from there."""
    n_in, n_out = kernel.shape[1], kernel.shape[2]
    transposed = pairs.weights(kernel.transpose(1, 2))
    exact = torch.promote_types(kernel.dtype, torch.float32)
    grad_kernel = torch.zeros_like(kernel, dtype=exact) if wants_kernel else None
    slices = pairs.weights(grad_kernel) if grad_kernel is not None else []
    if pairs.symmetric:  # the map of -d is the map of d reversed: one plan serves both passes
        mirrored, transposed, slices = pairs, transposed[::-1], slices[::-1]
    else:
        mirrored = pairs.swapped
    plan = _plan_for(mirrored, n_in + n_out, features.dtype)
    grad_features = torch.empty_like(features) if wants_features else None
    for index, first in enumerate(range(0, pairs.n_source, plan.block_rows)):
        sizes = plan.sizes[index]
        rows = slice(first, first + plan.block_rows)
        gathered = _gather(0, upstream, plan.source[index])
        if grad_kernel is not None:
            inputs = _gather(1, features, plan.target[index])
            if len(plan.filling[index]):
                inputs.index_fill_(0, plan.filling[index], 0)
            for left, right, total in zip(
                torch.split_with_sizes(inputs, sizes),
                torch.split_with_sizes(gathered, sizes),
                slices,
                strict=True,
            ):
                if len(left):
                    _add_product(total, left, right)
            if plan.skip is not None:
                _add_product(slices[plan.skip], features[rows], upstream[rows])
        if grad_features is not None:
            products = _multiply(gathered, transposed, sizes, slot=1)
            if plan.skip is not None:
                torch.mm(upstream[rows], transposed[plan.skip], out=grad_features[rows])
            _sum_runs(products, plan, index, grad_features[rows])
    return grad_features, None if grad_kernel is None else grad_kernel.to(kernel.dtype)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left^T right, in the precision of `total`."""
    if total.dtype == left.dtype:
        total.addmm_(left.T, right)
    else:
        total += left.T @ right


def _whole(features: Tensor, weights: Sequence[Tensor], pairs: KernelMap, channels: int) -> Tensor:
    """Forward pass on an accelerator, one offset at a time, accumulated in float32 or better."""
    dtype = torch.promote_types(features.dtype, torch.float32)
    out = features.new_zeros(pairs.n_target, channels, dtype=dtype)
    for source, target, weight in zip(
        torch.split_with_sizes(pairs.source, pairs.counts),
        torch.split_with_sizes(pairs.target, pairs.counts),
        weights,
        strict=True,
    ):
        if len(source):
            out.index_add_(0, target, torch.mm(features[source], weight).to(dtype))
    return out.to(features.dtype)


def _whole_backward(
    features: Tensor,
    kernel: Tensor,
    upstream: Tensor,
    pairs: KernelMap,
    wants_features: bool,
    wants_kernel: bool,
) -> tuple[Tensor | None, Tensor | None]:
    grad_features = grad_kernel = None
    if wants_features:
        weights = pairs.weights(kernel.transpose(1, 2))
        grad_features = _whole(upstream, weights, pairs.swapped, kernel.shape[1])
    if wants_kernel:
        grad_kernel = torch.zeros_like(kernel)
        for (source, target), total in zip(
            pairs.by_offset(), pairs.weights(grad_kernel), strict=True
        ):
            if len(source):
                torch.mm(features[source].T, upstream[target], out=total)
    return grad_features, grad_kernel
