"""Batch norm fused with residual addition, ReLU and skip concatenation, on the CPU.

The loops are in `cpu_norm_kernels`. Training saves what torch's own operations save; it takes fewer
passes over memory, and less memory that is new. Sums over voxels are float64.

Letters: V voxels, C channels that are normalized, B channels of the skip connection, W workers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pcdistill.sparse.engines import cpu_norm_kernels
from pcdistill.sparse.memory_pool import empty_pooled
from pcdistill.sparse.parallel import num_workers, run_parallel_kernel

DTYPES = (torch.float32, torch.float64, torch.bfloat16)
"""Types of features that there are loops for."""
MIN_NUMBERS_PER_WORKER = 1 << 17
"""Fewest numbers that are worth a thread."""


def batch_norm_train(
    x: Tensor,
    bn: nn.BatchNorm1d,
    residual: Tensor | None,
    relu: bool,
    skip: Tensor | None,
    inplace: bool,
) -> Tensor:
    """Batch norm in training mode; updates the running statistics of `bn`.

    Args:
        x: (V, C) of one of `DTYPES`, V at least 2.
        bn: weight, bias and running statistics, none of them missing.
        residual: (V, C) of the same dtype, added to what is normalized; None for nothing.
        relu: whether what is below 0 then becomes 0.
        skip: (V, B) of the same dtype, further columns of the result; None for none.
        inplace: the gradient of the result may be overwritten.

    Returns:
        (V, C + B) of the same dtype.
    """
    x, count = x.contiguous(), len(x)
    sums = _worker_sums(x, cpu_norm_kernels.accumulate_moments, x)  # (2, C) float64
    offset, spread = sums / count  # (C,) each: mean of d and of d^2, with d = x - x[0]
    mean = x[0].detach().double() + offset  # (C,) float64
    variance = (spread - offset.square()).clamp_(min=0)  # (C,) float64, biased
    _update_running_statistics(bn, mean, variance * (count / (count - 1)))
    scale = torch.rsqrt(variance + bn.eps)  # (C,) float64
    out: Tensor = _BatchNormTrain.apply(  # type: ignore[no-untyped-call]
        x, bn.weight, bn.bias, residual, skip, mean, scale, relu, inplace
    )
    return out


def batch_norm_eval(
    x: Tensor,
    bn: nn.BatchNorm1d,
    residual: Tensor | None,
    relu: bool,
    skip: Tensor | None,
    inplace: bool,
) -> Tensor:
    """Batch norm in evaluation mode, by the running statistics of `bn`; without gradients.

    Args:
        x: (V, C) of one of `DTYPES`.
        bn: weight, bias and running statistics, none of them missing.
        residual: (V, C) of the same dtype, added to what is normalized; None for nothing.
        relu: whether what is below 0 then becomes 0.
        skip: (V, B) of the same dtype, further columns of the result; None for none.
        inplace: `x` may be overwritten.

    Returns:
        (V, C + B) of the same dtype; `x` itself where it was overwritten.
    """
    mean, variance = _running_statistics(bn)  # (C,) each
    scale = bn.weight.double() * torch.rsqrt(variance.double() + bn.eps)  # (C,) float64
    out = x if inplace and skip is None and x.is_contiguous() else _empty_output(x, skip)
    _normalize(x.contiguous(), mean, scale, bn.bias, residual, relu, skip, out)
    return out  # (V, C + B)


class _BatchNormTrain(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        residual: Tensor | None,
        skip: Tensor | None,
        mean: Tensor,
        scale: Tensor,
        relu: bool,
        inplace: bool,
    ) -> Tensor:
        ctx.inplace = inplace
        out = _empty_output(x, skip)  # (V, C + B)
        _normalize(x, mean, weight.double() * scale, bias, residual, relu, skip, out)
        ctx.save_for_backward(x, weight, mean, scale, out if relu else None)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        # upstream: (V, C + B)
        x, weight, mean, scale, out = ctx.saved_tensors
        parts = batch_norm_backward(
            x, weight, mean, scale, out, upstream.contiguous(), ctx.needs_input_grad[3], ctx.inplace
        )
        return (*parts, None, None, None, None)


def batch_norm_backward(
    x: Tensor,
    weight: Tensor,
    mean: Tensor,
    scale: Tensor,
    out: Tensor | None,
    upstream: Tensor,
    wants_residual: bool,
    inplace: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """Gradients of `batch_norm_train`.

    Args:
        x: (V, C) what was normalized.
        weight: (C,) of the batch norm.
        mean: (C,) float64 of the batch, as in training.
        scale: (C,) float64, one by its standard deviation.
        out: (V, C + B) the result if ReLU made it, else None.
        upstream: (V, C + B) gradient of the result.
        wants_residual: whether something was added whose gradient is wanted.
        inplace: `upstream` may be overwritten.

    Returns:
        of x: (V, C).
        of weight: (C,).
        of bias: (C,).
        of residual: (V, C), None where it is not wanted.
        of skip: (V, B), None where B is 0.

    Source: Ioffe & Szegedy, Batch Normalization, 2015, section 3.
    """
    dtype, skip_channels = _sum_dtype(x.dtype), upstream.shape[1] - x.shape[1]
    of_skip = empty_pooled(len(x), skip_channels, x.dtype) if skip_channels else None  # (V, B)
    reuse = inplace and not skip_channels
    past_relu = upstream if reuse else empty_pooled(len(x), x.shape[1], x.dtype)  # (V, C)
    center = mean.to(dtype)  # (C,)
    total, along = _worker_sums(  # (C,) float64 each: sum of past_relu, and of it times x - mean
        x, cpu_norm_kernels.reduce_gradient_sums, x, center, out, upstream, past_relu, of_skip
    )
    of_x = empty_pooled(len(x), x.shape[1], x.dtype) if wants_residual else past_relu  # (V, C)
    columns = (weight.double() * scale, total / len(x), along * scale.square() / len(x))  # (C,)
    run_parallel_kernel(
        cpu_norm_kernels.apply_input_gradient,
        *(x, center, past_relu, *(column.to(dtype) for column in columns), of_x),
        workers=_workers(x),
    )
    of_weight, of_bias = (along * scale).to(weight.dtype), total.to(weight.dtype)  # (C,) each
    return of_x, of_weight, of_bias, past_relu if wants_residual else None, of_skip


def _normalize(
    x: Tensor,
    mean: Tensor,
    scale: Tensor,
    shift: Tensor,
    residual: Tensor | None,
    relu: bool,
    skip: Tensor | None,
    out: Tensor,
) -> None:
    """Write [(x - mean) * scale + shift + residual, skip] into `out`, see the loop `normalize`."""
    added, joined = (None if part is None else part.contiguous() for part in (residual, skip))
    columns = (part.to(_sum_dtype(x.dtype)) for part in (mean, scale, shift))  # (C,) each
    run_parallel_kernel(
        cpu_norm_kernels.normalize, x, *columns, added, relu, joined, out, workers=_workers(x)
    )


def _empty_output(x: Tensor, skip: Tensor | None) -> Tensor:
    """(V, C + B) of the dtype of `x`, contents undefined."""
    columns = x.shape[1] + (0 if skip is None else skip.shape[1])
    return empty_pooled(len(x), columns, x.dtype)


def _worker_sums(x: Tensor, loop: Any, *arguments: Any) -> Tensor:
    """(2, C) float64: the two sums over the rows of `x` that the loop takes."""
    workers = _workers(x)
    sums = torch.zeros(workers, 2, x.shape[1], dtype=torch.float64)  # (W, 2, C)
    run_parallel_kernel(loop, *arguments, sums, workers=workers)
    return sums.sum(dim=0)  # (2, C)


@torch.no_grad()
def _update_running_statistics(bn: nn.BatchNorm1d, mean: Tensor, variance: Tensor) -> None:
    """Move the running statistics towards (C,) mean and (C,) unbiased variance of a batch."""
    assert bn.num_batches_tracked is not None
    bn.num_batches_tracked.add_(1)
    weight = 1 / float(bn.num_batches_tracked) if bn.momentum is None else bn.momentum
    for running, found in zip(_running_statistics(bn), (mean, variance), strict=True):
        running.lerp_(found.to(running.dtype), weight)  # (C,)


def _running_statistics(bn: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """(C,) mean and (C,) variance."""
    assert bn.running_mean is not None
    assert bn.running_var is not None
    return bn.running_mean, bn.running_var


def _sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """Dtype in which numbers of a dtype are computed: float32 or better."""
    return torch.promote_types(dtype, torch.float32)


def _workers(x: Tensor) -> int:
    return num_workers(x.numel() // MIN_NUMBERS_PER_WORKER)
