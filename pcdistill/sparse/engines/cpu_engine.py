"""Sparse convolution on the CPU, and its gradients, by the compiled loops of `cpu_kernels`.

Sums are float32 or better. Numbers of 16 bits are multiplied as they are where the processor can
do that for bfloat16, and as float32 elsewhere.

Letters: V_in, V_out voxels (rows of the input, rows of the output), C_in, C_out channels, K offsets
of the kernel, W workers. C_pad is C_out, filled up to whole vectors of the processor.
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
MIN_ROWS_PER_WORKER = 64
"""Fewest target rows that are worth a thread."""
MIN_WEIGHTS_PER_WORKER = 1 << 16
"""Fewest weights that are worth a thread, while they are put in order."""
TOTALS_BYTES = 512 << 20
"""What the threads' own sums of one kernel's gradient may take together."""


def cpu_convolution(
    features: Tensor, kernel: Tensor, kernel_map: KernelMap, *, transposed_kernel: bool = False
) -> Tensor:
    """Sum over the offsets k of features[source] @ kernel[k]; see `sparse_convolution`.

    Args:
        features: (V_in, C_in) float, contiguous.
        kernel: (K, C_in, C_out), or (K, C_out, C_in) where `transposed_kernel`; same dtype.
        kernel_map: source and target rows of each offset.
        transposed_kernel: take every slice of the kernel transposed, as the gradient of the
            features does.

    Returns:
        (V_out, C_out), dtype of `kernel`.
    """
    dtype = _product_dtype(features.dtype)
    short = dtype == torch.bfloat16
    features, weights, order = features.to(dtype), kernel.to(dtype), _slice_order(kernel_map)
    n_out = kernel.shape[1 if transposed_kernel else 2]  # C_out
    if short and features.shape[1] % 2:  # its numbers are multiplied two and two: C_in is made even
        features = functional.pad(features, (0, 1))  # (V_in, C_in + 1)
        weights = functional.pad(weights, (0, 1) if transposed_kernel else (0, 0, 0, 1))
    n_in, width = features.shape[1], _lanes(dtype)
    columns = -(-n_out // width) * width  # C_pad
    packed = empty_pooled(len(order), n_in * columns, dtype)  # (K, C_in * C_pad)
    out = empty_pooled(kernel_map.n_target, columns, dtype)  # (V_out, C_pad)
    run_parallel_kernel(
        cpu_kernels.pack_weights,
        *(weights, order, transposed_kernel, packed, n_out, width, 2 if short else 1),
        workers=num_workers(kernel.numel() // MIN_WEIGHTS_PER_WORKER),
    )
    rows, workers = kernel_map.table.rows, _workers(kernel_map)  # rows: (K, V_out) int32
    height = _block_rows(kernel_map, workers)
    loop = cpu_kernels.convolve_bfloat16 if short else cpu_kernels.convolve
    run_parallel_kernel(
        loop, rows, kernel_map.n_source, packed, features, out, width, height, workers=workers
    )
    if columns > n_out:
        # (V_out, C_out), never a view
        out = out[:, :n_out].clone(memory_format=torch.contiguous_format)
    return out.to(kernel.dtype)


def cpu_kernel_gradient(
    features: Tensor, upstream: Tensor, kernel_map: KernelMap, dtype: torch.dtype
) -> Tensor:
    """Gradient of `cpu_convolution` with respect to its kernel.

    Args:
        features: (V_in, C_in) float, contiguous: the input of the convolution.
        upstream: (V_out, C_out) float, contiguous: gradient of its output.
        kernel_map: source and target rows of each offset.
        dtype: float32 or float64, of the sums.

    Returns:
        (K, C_in, C_out) of `dtype`, in the order of the kernel's slices.
    """
    n_in, n_out, n_offsets = features.shape[1], upstream.shape[1], len(kernel_map.table.rows)
    product_dtype, width = _product_dtype(features.dtype), _lanes(dtype)
    features, upstream = features.to(product_dtype), upstream.to(product_dtype)
    if n_out % width:
        upstream = functional.pad(upstream, (0, -n_out % width))  # (V_out, C_pad)
    size = n_offsets * n_in * upstream.shape[1] * dtype.itemsize
    workers = max(1, min(_workers(kernel_map), TOTALS_BYTES // max(1, size)))
    totals = empty_pooled(workers * n_offsets * n_in, upstream.shape[1], dtype).zero_()
    totals = totals.view(workers, n_offsets, n_in, upstream.shape[1])  # (W, K, C_in, C_pad)
    height = _block_rows(kernel_map, workers)
    run_parallel_kernel(
        cpu_kernels.add_kernel_gradient,
        *(kernel_map.table.rows, kernel_map.n_source, features, upstream, totals, width, height),
        workers=workers,
    )
    total = totals[0] if workers == 1 else totals.sum(dim=0)  # (K, C_in, C_pad)
    total = total[..., :n_out].contiguous()  # (K, C_in, C_out), by offset
    if kernel_map.slices is None:
        return total
    ordered = torch.empty_like(total)
    ordered[list(kernel_map.slices)] = total  # (K, C_in, C_out), by slice
    return ordered


def _product_dtype(dtype: torch.dtype) -> torch.dtype:
    """Dtype in which numbers of a dtype are multiplied."""
    if dtype == torch.bfloat16 and cpu_kernels.HAS_BFLOAT16:
        return dtype
    return torch.promote_types(dtype, torch.float32)


def _lanes(dtype: torch.dtype) -> int:
    """Columns of a narrow tile: the sums that a vector register holds."""
    return cpu_kernels.VECTOR_BYTES // max(4, dtype.itemsize)


def _slice_order(kernel_map: KernelMap) -> np.ndarray:
    """(K,) int64: the slice of the weights that each offset takes."""
    slices = range(len(kernel_map.table.rows)) if kernel_map.slices is None else kernel_map.slices
    return np.array(slices, dtype=np.int64)


def _workers(kernel_map: KernelMap) -> int:
    return num_workers(kernel_map.n_target // MIN_ROWS_PER_WORKER)


def _block_rows(kernel_map: KernelMap, workers: int) -> int:
    """Target rows of a block, such that all workers have as many blocks."""
    rounds = max(1, -(-kernel_map.n_target // (workers * MAX_BLOCK)))
    return max(1, -(-kernel_map.n_target // (workers * rounds)))
