"""A sparse convolution on the CPU: what the compiled loops of `cpu_kernels` are given to do.

Sums are float32 or better. Numbers of 16 bits are multiplied as they are where the processor can
do that for bfloat16, and as float32 elsewhere.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pcdistill.sparse.engines import cpu_kernels
from pcdistill.sparse.kernel_map import KernelMap
from pcdistill.sparse.memory_pool import empty_pooled
from pcdistill.sparse.parallel import num_workers, run_parallel_kernel

MAX_BLOCK = 512
"""Most target rows of a block: what they and their neighbours hold stays in a core's own cache."""
MIN_SHARE = 64
"""Fewest target rows that are worth a thread."""
PACKED_SHARE = 1 << 16
"""Fewest weights that are worth a thread, while they are put in order."""
TOTALS_BYTES = 512 << 20
"""What the threads' own sums of one kernel's gradient may take together."""


def cpu_convolution(
    features: Tensor, kernel: Tensor, kernel_map: KernelMap, *, transposed_kernel: bool = False
) -> Tensor:
    """Sum over the offsets k of features[source] @ kernel[k]; see `sparse_convolution`.

    Args:
        features: see `sparse_convolution`.
        kernel: see `sparse_convolution`.
        kernel_map: see `sparse_convolution`.
        transposed_kernel: take every slice of the kernel transposed, as the gradient of the
            features does.
    """
    kind = _kind(features.dtype)
    short = kind == torch.bfloat16
    features, weights, order = features.to(kind), kernel.to(kind), _order(kernel_map)
    n_out = kernel.shape[1 if transposed_kernel else 2]
    if short and features.shape[1] % 2:  # its numbers are multiplied two and two
        features = functional.pad(features, (0, 1))
        weights = functional.pad(weights, (0, 1) if transposed_kernel else (0, 0, 0, 1))
    n_in, width = features.shape[1], _width(kind)
    columns = -(-n_out // width) * width
    packed = empty_pooled(len(order), n_in * columns, kind)
    out = empty_pooled(kernel_map.n_target, columns, kind)
    run_parallel_kernel(
        cpu_kernels.pack_weights,
        *(weights, order, transposed_kernel, packed, n_out, width, 2 if short else 1),
        workers=num_workers(kernel.numel() // PACKED_SHARE),
    )
    rows, workers = kernel_map.table.rows, _workers(kernel_map)
    height = _block_rows(kernel_map, workers)
    loop = cpu_kernels.convolve_bfloat16 if short else cpu_kernels.convolve
    run_parallel_kernel(
        loop, rows, kernel_map.n_source, packed, features, out, width, height, workers=workers
    )
    if columns > n_out:
        out = out[:, :n_out].clone(memory_format=torch.contiguous_format)  # never a view
    return out.to(kernel.dtype)


def cpu_kernel_gradient(
    features: Tensor, upstream: Tensor, kernel_map: KernelMap, dtype: torch.dtype
) -> Tensor:
    """Gradient (K, C_in, C_out) of the kernel, summed in `dtype`."""
    n_in, n_out, n_offsets = features.shape[1], upstream.shape[1], len(kernel_map.table.rows)
    kind, width = _kind(features.dtype), _width(dtype)
    features, upstream = features.to(kind), upstream.to(kind)
    if n_out % width:
        upstream = functional.pad(upstream, (0, -n_out % width))
    size = n_offsets * n_in * upstream.shape[1] * dtype.itemsize
    workers = max(1, min(_workers(kernel_map), TOTALS_BYTES // max(1, size)))
    totals = empty_pooled(workers * n_offsets * n_in, upstream.shape[1], dtype).zero_()
    totals = totals.view(workers, n_offsets, n_in, upstream.shape[1])
    height = _block_rows(kernel_map, workers)
    run_parallel_kernel(
        cpu_kernels.add_kernel_gradient,
        *(kernel_map.table.rows, kernel_map.n_source, features, upstream, totals, width, height),
        workers=workers,
    )
    total = totals[0] if workers == 1 else totals.sum(dim=0)
    total = total[..., :n_out].contiguous()
    if kernel_map.slices is None:
        return total
    ordered = torch.empty_like(total)
    ordered[list(kernel_map.slices)] = total
    return ordered


def _kind(dtype: torch.dtype) -> torch.dtype:
    """What numbers of a type are multiplied as."""
    if dtype == torch.bfloat16 and cpu_kernels.HAS_BFLOAT16:
        return dtype
    return torch.promote_types(dtype, torch.float32)


def _width(dtype: torch.dtype) -> int:
    """Columns of a narrow tile: the sums that a register holds."""
    return cpu_kernels.VECTOR_BYTES // max(4, dtype.itemsize)


def _order(kernel_map: KernelMap) -> np.ndarray:
    slices = range(len(kernel_map.table.rows)) if kernel_map.slices is None else kernel_map.slices
    return np.array(slices, dtype=np.int64)


def _workers(kernel_map: KernelMap) -> int:
    return num_workers(kernel_map.n_target // MIN_SHARE)


def _block_rows(kernel_map: KernelMap, workers: int) -> int:
    """Target rows of a block, such that all workers have as many blocks."""
    rounds = max(1, -(-kernel_map.n_target // (workers * MAX_BLOCK)))
    return max(1, -(-kernel_map.n_target // (workers * rounds)))
