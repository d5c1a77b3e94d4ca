"""Sparse convolution by gather and one dense matrix product, absent neighbors as zeros.

The way for accelerators: nothing is scattered, the sums are taken inside the product, and nothing
waits for the host. What it multiplies in vain is the fraction of neighbors that are absent.

Letters: V_in, V_out voxels (rows of the input, rows of the output), C_in, C_out channels, K offsets
of the kernel, R target rows of a block.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pcdistill.sparse.kernel_map import KernelMap

GATHERED_BYTES = 256 << 20
"""What the gathered rows of one block may take."""


def dense_convolution(features: Tensor, kernel: Tensor, kernel_map: KernelMap) -> Tensor:
    """Sum over the offsets k of features[source] @ kernel[k]; see `sparse_convolution`.

    Args:
        features: (V_in, C_in) float.
        kernel: (K, C_in, C_out), same dtype.
        kernel_map: source and target rows of each offset.

    Returns:
        (V_out, C_out), dtype of `features`.
    """
    n_offsets, n_in, n_out = kernel.shape
    if kernel_map.table.one_source:
        return _by_parent(features, kernel, kernel_map)
    weights = _ordered(kernel, kernel_map).reshape(n_offsets * n_in, n_out)
    padded = _padded(features)  # (V_in + 1, C_in)
    out = features.new_empty(kernel_map.n_target, n_out)
    for rows in _blocks(kernel_map, n_in * features.element_size()):
        torch.mm(_gathered(padded, kernel_map, rows), weights, out=out[rows])  # (R, C_out)
    return out


def dense_kernel_gradient(
    features: Tensor, upstream: Tensor, kernel_map: KernelMap, dtype: torch.dtype
) -> Tensor:
    """Gradient of `dense_convolution` with respect to its kernel.

    Args:
        features: (V_in, C_in) float: the input of the convolution.
        upstream: (V_out, C_out) float: gradient of its output.
        kernel_map: source and target rows of each offset.
        dtype: in which the products of the blocks are summed.

    Returns:
        (K, C_in, C_out) of `dtype`, in the order of the kernel's slices.
    """
    n_in, n_out, n_offsets = features.shape[1], upstream.shape[1], len(kernel_map.table.rows)
    if kernel_map.table.one_source:  # from the other side fewer neighbours are absent
        transposed = dense_kernel_gradient(upstream, features, kernel_map.transposed, dtype)
        return transposed.transpose(1, 2)  # (K, C_in, C_out) of (K, C_out, C_in)
    padded = _padded(features)  # (V_in + 1, C_in)
    total = upstream.new_zeros(n_offsets * n_in, n_out, dtype=dtype)
    for rows in _blocks(kernel_map, n_in * features.element_size()):
        total += _gathered(padded, kernel_map, rows).T @ upstream[rows]  # (K C_in, R) @ (R, C_out)
    total = total.view(n_offsets, n_in, n_out)  # by offset
    if kernel_map.slices is None:
        return total
    ordered = torch.empty_like(total)
    ordered[list(kernel_map.slices)] = total  # by slice
    return ordered


def _by_parent(features: Tensor, kernel: Tensor, kernel_map: KernelMap) -> Tensor:
    """(V_out, C_out) where every target row has one source: all products, then a choice."""
    n_offsets, n_in, n_out = kernel.shape
    weights = _ordered(kernel, kernel_map).transpose(0, 1).reshape(n_in, n_offsets * n_out)
    products = (features @ weights).view(-1, n_out)  # (V_in K, C_out)
    numbers = torch.arange(n_offsets, device=features.device)[:, None]  # (K, 1)
    # (V_out,): absent sources have the number V_in, so the smallest is the one that is there
    chosen = (kernel_map.table.rows.long() * n_offsets + numbers).amin(dim=0)
    return products.index_select(0, chosen)


def _ordered(kernel: Tensor, kernel_map: KernelMap) -> Tensor:
    """(K, C_in, C_out) slices of the kernel in the order of the offsets."""
    return kernel if kernel_map.slices is None else kernel[list(kernel_map.slices)]


def _padded(features: Tensor) -> Tensor:
    """(V_in + 1, C_in): one more row, of zeros, that absent neighbors point to."""
    return torch.cat((features, features.new_zeros(1, features.shape[1])))


def _gathered(padded: Tensor, kernel_map: KernelMap, rows: slice) -> Tensor:
    """(R, K C_in) features of the neighbors of some target rows."""
    index = kernel_map.table.rows[:, rows].T.reshape(-1)  # (R K,), the offsets of a row together
    return padded.index_select(0, index).view(rows.stop - rows.start, -1)


def _blocks(kernel_map: KernelMap, row_bytes: int) -> list[slice]:
    """Ranges of target rows whose gathered neighbors take at most `GATHERED_BYTES`."""
    count = max(1, GATHERED_BYTES // max(1, row_bytes * len(kernel_map.table.rows)))
    ends = range(0, kernel_map.n_target, count)
    return [slice(first, min(first + count, kernel_map.n_target)) for first in ends]
