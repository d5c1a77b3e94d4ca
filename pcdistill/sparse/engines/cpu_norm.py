"""Batch norm, addition, ReLU and joining in one, on the CPU: what `cpu_norm_kernels` do.

Training saves what torch's own operations save; it takes fewer passes over memory, and less memory
that is new. Sums over voxels are float64.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pcdistill.sparse.engines import cpu_norm_kernels
from pcdistill.sparse.memory_pool import empty_pooled
from pcdistill.sparse.parallel import num_workers, run_parallel_kernel

KINDS = (torch.float32, torch.float64, torch.bfloat16)
"""Types of features that there are loops for."""
MIN_SHARE = 1 << 17
"""Fewest numbers that are worth a thread."""


def batch_norm_train(
    x: Tensor,
    bn: nn.BatchNorm1d,
    residual: Tensor | None,
    relu: bool,
    skip: Tensor | None,
    inplace: bool,
) -> Tensor:
    """Normalise by mean and variance of the rows, and let `bn` take note of them.

    Args:
        x: (V, C) of one of `KINDS`, V at least 2.
        bn: weight, bias and running statistics, none of them missing.
        residual: (V, C) of the same type, added to what is normalised; None for nothing.
        relu: whether what is below 0 then becomes 0.
        skip: (V, B) of the same type, further columns of the result; None for none.
        inplace: the gradient of the result may be overwritten.

    Returns:
        (V, C + B) of the same type.
    """
    x, count = x.contiguous(), len(x)
    sums = _sums_of(x, cpu_norm_kernels.accumulate_moments, x)
    offset, spread = sums / count
    mean = x[0].detach().double() + offset
    variance = (spread - offset.square()).clamp_(min=0)
    _take_note(bn, mean, variance * (count / (count - 1)))
    scale = torch.rsqrt(variance + bn.eps)
    out: Tensor = _NormalizeByBatch.apply(  # type: ignore[no-untyped-call]
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
    """Normalise by what `bn` has seen, without gradients; `inplace`: `x` may be overwritten."""
    seen_mean, seen_variance = _running(bn)
    scale = bn.weight.double() * torch.rsqrt(seen_variance.double() + bn.eps)
    out = x if inplace and skip is None and x.is_contiguous() else _wide(x, skip)
    _normalize(x.contiguous(), seen_mean, scale, bn.bias, residual, relu, skip, out)
    return out


class _NormalizeByBatch(torch.autograd.Function):
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
        out = _wide(x, skip)
        _normalize(x, mean, weight.double() * scale, bias, residual, relu, skip, out)
        ctx.save_for_backward(x, weight, mean, scale, out if relu else None)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
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
    """Gradients of `batch_norm_train` by x, weight, bias, added and beside.

    Args:
        x: (V, C) what was normalised.
        weight: (C,)
        mean: (C,) of the batch, as in training.
        scale: (C,) one by its standard deviation.
        out: (V, C + B) the result if ReLU made it, else None.
        upstream: (V, C + B) gradient of the result.
        wants_residual: whether something was added whose gradient is wanted.
        inplace: `upstream` may be overwritten.
    """
    kind, more = _exact(x.dtype), upstream.shape[1] - x.shape[1]
    middle = mean.to(kind)
    rest = empty_pooled(len(x), more, x.dtype) if more else None
    in_place = inplace and not more
    kept = upstream if in_place else empty_pooled(len(x), x.shape[1], x.dtype)
    total, along = _sums_of(
        x, cpu_norm_kernels.reduce_gradient_sums, x, middle, out, upstream, kept, rest
    )
    gradient = empty_pooled(len(x), x.shape[1], x.dtype) if wants_residual else kept
    parts = (weight.double() * scale, total / len(x), along * scale.square() / len(x))
    run_parallel_kernel(
        cpu_norm_kernels.apply_input_gradient,
        *(x, middle, kept, *(part.to(kind) for part in parts), gradient),
        workers=_workers(x),
    )
    of_weight, of_bias = (along * scale).to(weight.dtype), total.to(weight.dtype)
    return gradient, of_weight, of_bias, kept if wants_residual else None, rest


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
    more, rest = (None if part is None else part.contiguous() for part in (residual, skip))
    columns = (part.to(_exact(x.dtype)) for part in (mean, scale, shift))
    run_parallel_kernel(
        cpu_norm_kernels.normalize, x, *columns, more, relu, rest, out, workers=_workers(x)
    )


def _wide(x: Tensor, skip: Tensor | None) -> Tensor:
    """Memory for rows of x and what comes beside them."""
    columns = x.shape[1] + (0 if skip is None else skip.shape[1])
    return empty_pooled(len(x), columns, x.dtype)


def _sums_of(x: Tensor, loop: Any, *arguments: Any) -> Tensor:
    """(2, C) float64 sums that the loop takes."""
    workers = _workers(x)
    sums = torch.zeros(workers, 2, x.shape[1], dtype=torch.float64)
    run_parallel_kernel(loop, *arguments, sums, workers=workers)
    return sums.sum(dim=0)


@torch.no_grad()
def _take_note(bn: nn.BatchNorm1d, mean: Tensor, variance: Tensor) -> None:
    assert bn.num_batches_tracked is not None
    bn.num_batches_tracked.add_(1)
    new = 1 / float(bn.num_batches_tracked) if bn.momentum is None else bn.momentum
    for seen, found in zip(_running(bn), (mean, variance), strict=True):
        seen.lerp_(found.to(seen.dtype), new)


def _running(bn: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    assert bn.running_mean is not None
    assert bn.running_var is not None
    return bn.running_mean, bn.running_var


def _exact(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _workers(x: Tensor) -> int:
    return num_workers(x.numel() // MIN_SHARE)
