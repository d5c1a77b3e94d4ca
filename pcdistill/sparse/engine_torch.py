"""The arithmetic of a sparse convolution, given its kernel map, in plain torch.

Nothing gathered is kept for the backward pass; it is gathered again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from pcdistill.sparse.engine_blocked import blocked_convolution, blocked_gradients, row_tile
from pcdistill.sparse.engine_dense import dense_convolution, dense_kernel_gradient
from pcdistill.sparse.kernel_map import KernelMap

FEW_CHANNELS = 8
"""Up to here one product with zeros for absent neighbours is as quick on a CPU as many products,
and needs no blocks to be made."""


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
    n_offsets = len(pairs.table.rows)
    if features.shape[0] != pairs.n_source or kernel.shape[0] != n_offsets:
        raise ValueError(
            f"features has {features.shape[0]} rows and kernel {kernel.shape[0]} slices, expected "
            f"{pairs.n_source} and {n_offsets} as in the kernel map"
        )
    if features.shape[1] != kernel.shape[1]:
        raise ValueError(
            f"features has {features.shape[1]} channels, the kernel takes {kernel.shape[1]}"
        )
    result: Tensor = _SparseConvolution.apply(features, kernel, pairs)  # type: ignore[no-untyped-call]
    return result


def pointwise_product(features: Tensor, kernel: Tensor) -> Tensor:
    """Multiply (V, C_in) by (C_in, C_out); 16-bit rows on a CPU are filled up, see `row_tile`."""
    if features.device.type != "cpu" or features.dtype.itemsize > 2 or not len(features):
        return features @ kernel
    missing = -len(features) % row_tile(len(features), features.dtype)
    return (functional.pad(features, (0, 0, 0, missing)) @ kernel)[: len(features)]


class _SparseConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, kernel: Tensor, pairs: KernelMap) -> Tensor:
        features = features.contiguous()
        ctx.save_for_backward(features, kernel)
        ctx.pairs = pairs
        if _as_one_product(features):
            return dense_convolution(features, kernel, pairs)
        return blocked_convolution(features, kernel, pairs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        features, kernel = ctx.saved_tensors
        upstream, pairs = upstream.contiguous(), ctx.pairs
        wants_features, wants_kernel, _ = ctx.needs_input_grad
        grad_features = grad_kernel = None
        if wants_kernel and _as_one_product(features):
            exact = torch.promote_types(kernel.dtype, torch.float32)
            grad_kernel = dense_kernel_gradient(features, upstream, pairs, exact).to(kernel.dtype)
            wants_kernel = False
        if wants_features and _as_one_product(upstream):
            grad_features = dense_convolution(upstream, kernel.transpose(1, 2), pairs.swapped)
            wants_features = False
        if wants_features or wants_kernel:
            rest = blocked_gradients(
                features, kernel, upstream, pairs, wants_features, wants_kernel
            )
            grad_features = grad_features if rest[0] is None else rest[0]
            grad_kernel = grad_kernel if rest[1] is None else rest[1]
        return grad_features, grad_kernel, None


def _as_one_product(gathered: Tensor) -> bool:
    return gathered.device.type != "cpu" or gathered.shape[1] <= FEW_CHANNELS
