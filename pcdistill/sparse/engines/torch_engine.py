"""Differentiable sparse convolution in torch, on any device, given its kernel map.

Nothing gathered is kept for the backward pass; it is gathered again.

Letters: V_in, V_out voxels (rows of the input, rows of the output), C_in, C_out channels, K offsets
of the kernel.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pcdistill.sparse.coordinates import RowPermutation
from pcdistill.sparse.engines.cpu_engine import cpu_convolution, cpu_kernel_gradient
from pcdistill.sparse.engines.dense_engine import dense_convolution, dense_kernel_gradient
from pcdistill.sparse.kernel_map import KernelMap, NeighborTable


def sparse_convolution(features: Tensor, kernel: Tensor, kernel_map: KernelMap) -> Tensor:
    """Sum over the offsets k of features[source] @ kernel[k] into the target rows.

    Args:
        features: (V_in, C_in) float, rows as in `kernel_map`.
        kernel: (K, C_in, C_out), same dtype.
        kernel_map: source and target rows of each offset.

    Returns:
        (V_out, C_out), dtype of `features`; sums are taken in float32 or better.

    Raises:
        ValueError: shapes that do not fit the map.
    """
    n_offsets = len(kernel_map.table.rows)
    if features.shape[0] != kernel_map.n_source or kernel.shape[0] != n_offsets:
        raise ValueError(
            f"features has {features.shape[0]} rows and kernel {kernel.shape[0]} slices, expected "
            f"{kernel_map.n_source} and {n_offsets} as in the kernel map"
        )
    if features.shape[1] != kernel.shape[1]:
        raise ValueError(
            f"features has {features.shape[1]} channels, the kernel takes {kernel.shape[1]}"
        )
    result: Tensor = _SparseConvolution.apply(features, kernel, kernel_map)  # type: ignore[no-untyped-call]
    return result


def pointwise_product(
    features: Tensor, kernel: Tensor, rows: RowPermutation | None = None
) -> Tensor:
    """Multiply every row by one matrix: a convolution of kernel size 1.

    Args:
        features: (V, C_in) float.
        kernel: (C_in, C_out), same dtype.
        rows: where given, the result is in the caller's row order.

    Returns:
        (V, C_out), dtype of `features`.
    """
    if features.device.type != "cpu":
        return (features if rows is None else features.index_select(0, rows.rank)) @ kernel
    own = torch.arange(len(features)) if rows is None else rows.rank  # (V,) int64
    table = NeighborTable(own.int()[None], len(features), symmetric=rows is None)  # (1, V)
    return sparse_convolution(features, kernel[None], KernelMap(table))


class _SparseConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, kernel: Tensor, kernel_map: KernelMap) -> Tensor:
        features = features.contiguous()
        ctx.save_for_backward(features, kernel)
        ctx.kernel_map = kernel_map
        if features.device.type == "cpu":
            return cpu_convolution(features, kernel, kernel_map)
        return dense_convolution(features, kernel, kernel_map)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        features, kernel = ctx.saved_tensors  # (V_in, C_in), (K, C_in, C_out)
        upstream, kernel_map = upstream.contiguous(), ctx.kernel_map  # upstream: (V_out, C_out)
        wants_features, wants_kernel, _ = ctx.needs_input_grad
        on_cpu = features.device.type == "cpu"
        grad_features = grad_kernel = None
        if wants_kernel:
            exact = torch.promote_types(kernel.dtype, torch.float32)
            gradient = cpu_kernel_gradient if on_cpu else dense_kernel_gradient
            grad_kernel = gradient(features, upstream, kernel_map, exact).to(kernel.dtype)
        if wants_features and on_cpu:
            grad_features = cpu_convolution(
                upstream, kernel, kernel_map.transposed, transposed_kernel=True
            )
        elif wants_features:
            grad_features = dense_convolution(
                upstream, kernel.transpose(1, 2), kernel_map.transposed
            )
        return grad_features, grad_kernel, None
