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


def dense_convolution(features: Tensor, kernel: Tensor, kernel_map: KernelMap) -> Tensor:
    """Sum over the offsets k of features[source] @ kernel[k]; see `sparse_convolution`."""
    n_offsets, n_in, n_out = kernel.shape
    if kernel_map.table.one_source:
        return _by_parent(features, kernel, kernel_map)
    weights = _ordered(kernel, kernel_map).reshape(n_offsets * n_in, n_out)
    padded = _padded(features)
    out = features.new_empty(kernel_map.n_target, n_out)
    for rows in _blocks(kernel_map, n_in * features.element_size()):
        torch.mm(_gathered(padded, kernel_map, rows), weights, out=out[rows])
    return out


def dense_kernel_gradient(
    features: Tensor, upstream: Tensor, kernel_map: KernelMap, dtype: torch.dtype
) -> Tensor:
    """Gradient (K, C_in, C_out) of the kernel, summed over the blocks in `dtype`."""
    n_in, n_out, n_offsets = features.shape[1], upstream.shape[1], len(kernel_map.table.rows)
    if kernel_map.table.one_source:  # from the other side fewer neighbours are absent
        swapped = dense_kernel_gradient(upstream, features, kernel_map.transposed, dtype)
        return swapped.transpose(1, 2)
    padded = _padded(features)
    total = upstream.new_zeros(n_offsets * n_in, n_out, dtype=dtype)
    for rows in _blocks(kernel_map, n_in * features.element_size()):
        total += _gathered(padded, kernel_map, rows).T @ upstream[rows]
    total = total.view(n_offsets, n_in, n_out)
    if kernel_map.slices is None:
        return total
    ordered = torch.empty_like(total)
    ordered[list(kernel_map.slices)] = total
    return ordered


def _by_parent(features: Tensor, kernel: Tensor, kernel_map: KernelMap) -> Tensor:
    """Where every target row has one source: all products of the sources, then a choice."""
    n_offsets, n_in, n_out = kernel.shape
    weights = _ordered(kernel, kernel_map).transpose(0, 1).reshape(n_in, n_offsets * n_out)
    products = (features @ weights).view(-1, n_out)
    numbers = torch.arange(n_offsets, device=features.device)[:, None]
    chosen = (kernel_map.table.rows.long() * n_offsets + numbers).amin(dim=0)
    return products.index_select(0, chosen)


def _ordered(kernel: Tensor, kernel_map: KernelMap) -> Tensor:
    return kernel if kernel_map.slices is None else kernel[list(kernel_map.slices)]


def _padded(features: Tensor) -> Tensor:
    """With one more row, of zeros, that absent neighbours point to."""
    return torch.cat((features, features.new_zeros(1, features.shape[1])))


def _gathered(padded: Tensor, kernel_map: KernelMap, rows: slice) -> Tensor:
    """(rows, K C_in) features of the neighbours of some target rows."""
    index = kernel_map.table.rows[:, rows].T.reshape(-1)
    return padded.index_select(0, index).view(rows.stop - rows.start, -1)


def _blocks(kernel_map: KernelMap, row_bytes: int) -> list[slice]:
    count = max(1, GATHERED_BYTES // max(1, row_bytes * len(kernel_map.table.rows)))
    ends = range(0, kernel_map.n_target, count)
    return [slice(first, min(first + count, kernel_map.n_target)) for first in ends]
