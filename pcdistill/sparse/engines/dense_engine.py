"""A sparse convolution as one dense product of gathered neighbours, absent ones as zeros.

The way for accelerators: nothing is scattered, the sums are taken inside the product, and nothing
waits for the host. What it multiplies in vain is the share of neighbours that are absent.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pcdistill.sparse.kernel_map import KernelMap

GATHERED_BYTES = 256 << 20
"""What the gathered rows of one block may take."""


def dense_convolution(features: Tensor, kernel: Tensor, pairs: KernelMap) -> Tensor:
    """Sum over the offsets k of features[source] @ kernel[k]; see `sparse_convolution`."""
    n_offsets, n_in, n_out = kernel.shape
    if pairs.table.one_source:
        return _by_parent(features, kernel, pairs)
    weights = _ordered(kernel, pairs).reshape(n_offsets * n_in, n_out)
    padded = _padded(features)
    out = features.new_empty(pairs.n_target, n_out)
    for rows in _blocks(pairs, n_in * features.element_size()):
        torch.mm(_gathered(padded, pairs, rows), weights, out=out[rows])
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
    total = upstream.new_zeros(n_offsets * n_in, n_out, dtype=dtype)
    for rows in _blocks(pairs, n_in * features.element_size()):
        total += _gathered(padded, pairs, rows).T @ upstream[rows]
    total = total.view(n_offsets, n_in, n_out)
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


def _blocks(pairs: KernelMap, row_bytes: int) -> list[slice]:
    count = max(1, GATHERED_BYTES // max(1, row_bytes * len(pairs.table.rows)))
    ends = range(0, pairs.n_target, count)
    return [slice(first, min(first + count, pairs.n_target)) for first in ends]
