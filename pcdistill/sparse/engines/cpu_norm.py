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
from pcdistill.sparse.memory_pool import fresh_rows
from pcdistill.sparse.parallel import run_loop, worker_count

KINDS = (torch.float32, torch.float64, torch.bfloat16)
"""Types of features that there are loops for."""
SMALLEST_SHARE = 1 << 17
"""Fewest numbers that are worth a thread."""


def normalise_by_batch(
    x: Tensor,
    bn: nn.BatchNorm1d,
    added: Tensor | None,
    relu: bool,
    beside: Tensor | None,
    consume: bool,
) -> Tensor:
    """Normalise by mean and variance of the rows, and let `bn` take note of them.

    Args:
        x: (V, C) of one of `KINDS`, V at least 2.
        bn: weight, bias and running statistics, none of them missing.
        added: (V, C) of the same type, added to what is normalised; None for nothing.
        relu: whether what is below 0 then becomes 0.
        beside: (V, B) of the same type, further columns of the result; None for none.
        consume: the gradient of the result may be overwritten.

    Returns:
        (V, C + B) of the same type.
    """
    x, count = x.contiguous(), len(x)
    sums = _sums_of(x, cpu_norm_kernels.add_moments, x)
    offset, spread = sums / count
    mean = x[0].detach().double() + offset
    variance = (spread - offset.square()).clamp_(min=0)
    _take_note(bn, mean, variance * (count / (count - 1)))
    scale = torch.rsqrt(variance + bn.eps)
    out: Tensor = _NormaliseByBatch.apply(  # type: ignore[no-untyped-call]
        x, bn.weight, bn.bias, added, beside, mean, scale, relu, consume
    )
    return out


def normalise_by_running(
    x: Tensor,
    bn: nn.BatchNorm1d,
    added: Tensor | None,
    relu: bool,
    beside: Tensor | None,
    consume: bool,
) -> Tensor:
    """Normalise by what `bn` has seen, without gradients; `consume`: `x` may be overwritten."""
    seen_mean, seen_variance = _running(bn)
    scale = bn.weight.double() * torch.rsqrt(seen_variance.double() + bn.eps)
    out = x if consume and beside is None and x.is_contiguous() else _wide(x, beside)
    _normalise(x.contiguous(), seen_mean, scale, bn.bias, added, relu, beside, out)
    return out


class _NormaliseByBatch(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        added: Tensor | None,
        beside: Tensor | None,
        mean: Tensor,
        scale: Tensor,
        relu: bool,
        consume: bool,
    ) -> Tensor:
        ctx.consume = consume
        out = _wide(x, beside)
        _normalise(x, mean, weight.double() * scale, bias, added, relu, beside, out)
        ctx.save_for_backward(x, weight, mean, scale, out if relu else None)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale, out = ctx.saved_tensors
        parts = differentiate_norm(
            x, weight, mean, scale, out, upstream.contiguous(), ctx.needs_input_grad[3], ctx.consume
        )
        return (*parts, None, None, None, None)


def differentiate_norm(
    x: Tensor,
    weight: Tensor,
    mean: Tensor,
    scale: Tensor,
    out: Tensor | None,
    upstream: Tensor,
    wants_added: bool,
    consume: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """Gradients of `normalise_by_batch` by x, weight, bias, added and beside.

    Args:
        x: (V, C) what was normalised.
        weight: (C,)
        mean, scale: (C,) float64, of x, and one over its deviation.
        out: (V, C + B) the result if ReLU made it, else None.
        upstream: (V, C + B) gradient of the result.
        wants_added: whether something was added whose gradient is wanted.
        consume: `upstream` may be overwritten.
    """
    kind, more = _exact(x.dtype), upstream.shape[1] - x.shape[1]
    middle = mean.to(kind)
    rest = fresh_rows(len(x), more, x.dtype) if more else None
    in_place = consume and not more
    kept = upstream if in_place else fresh_rows(len(x), x.shape[1], x.dtype)
    total, along = _sums_of(
        x, cpu_norm_kernels.begin_gradient, x, middle, out, upstream, kept, rest
    )
    gradient = fresh_rows(len(x), x.shape[1], x.dtype) if wants_added else kept
    parts = (weight.double() * scale, total / len(x), along * scale.square() / len(x))
    run_loop(
        cpu_norm_kernels.finish_gradient,
        *(x, middle, kept, *(part.to(kind) for part in parts), gradient),
        workers=_workers(x),
    )
    of_weight, of_bias = (along * scale).to(weight.dtype), total.to(weight.dtype)
    return gradient, of_weight, of_bias, kept if wants_added else None, rest


def _normalise(
    x: Tensor,
    mean: Tensor,
    scale: Tensor,
    shift: Tensor,
    added: Tensor | None,
    relu: bool,
    beside: Tensor | None,
    out: Tensor,
) -> None:
    more, rest = (None if part is None else part.contiguous() for part in (added, beside))
    columns = (part.to(_exact(x.dtype)) for part in (mean, scale, shift))
    run_loop(cpu_norm_kernels.normalise, x, *columns, more, relu, rest, out, workers=_workers(x))


def _wide(x: Tensor, beside: Tensor | None) -> Tensor:
    """Memory for rows of x and what comes beside them."""
    columns = x.shape[1] + (0 if beside is None else beside.shape[1])
    return fresh_rows(len(x), columns, x.dtype)


def _sums_of(x: Tensor, loop: Any, *arguments: Any) -> Tensor:
    """(2, C) float64 sums that the loop takes."""
    workers = _workers(x)
    sums = torch.zeros(workers, 2, x.shape[1], dtype=torch.float64)
    run_loop(loop, *arguments, sums, workers=workers)
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
    return worker_count(x.numel() // SMALLEST_SHARE)
