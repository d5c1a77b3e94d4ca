"""Batch norm over the voxels that several processes hold together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

AddOverRanks = Callable[[Tensor], Tensor]
"""Replaces a tensor by its sum over all processes, in place, and returns it."""


def synchronized_batch_norm(x: Tensor, bn: nn.BatchNorm1d, add_over_ranks: AddOverRanks) -> Tensor:
    """Batch norm in training mode over the rows of all processes; updates `bn`'s statistics.

    Every process calls it, those without rows too, and all get the same statistics. Sums are
    float64, taken from the running mean on, which all processes share. The gradients of weight and
    bias are those of a process's own rows: who sums gradients over the processes sums them too.
    A single row in all processes together is normalized by the running statistics, which stay.

    Args:
        x: (V, C) floating, V at least 0.
        bn: weight, bias and running statistics, none of them missing.
        add_over_ranks: the sum over the processes.

    Returns:
        (V, C) of the same dtype.
    """
    assert bn.running_mean is not None
    assert bn.running_var is not None
    pivot = bn.running_mean.clone()  # (C,)
    away = x.detach().to(torch.promote_types(x.dtype, pivot.dtype)) - pivot  # (V, C)
    count = torch.full((1,), len(x), dtype=torch.float64, device=x.device)
    first, second = (part.sum(dim=0, dtype=torch.float64) for part in (away, away.square()))
    sums = add_over_ranks(torch.cat((count, first, second)))  # (1 + 2 C,) float64
    count, offset, spread = sums[0], *(sums[1:] / sums[0].clamp(min=1)).chunk(2)
    variance = (spread - offset.square()).clamp(min=0)  # (C,) float64, biased
    several = count > 1  # (): no look at it on this side, which would wait for the device
    mean = torch.where(several, pivot + offset, pivot.double())  # (C,) float64
    _update_running_statistics(bn, mean, variance * (count / (count - 1).clamp(min=1)), several)
    variance = torch.where(several, variance, bn.running_var.double())
    scale = torch.rsqrt(variance + bn.eps)  # (C,) float64
    of_one = torch.where(several, 1 / count.clamp(min=1), 0.0)  # (): share of one row in the mean
    out: Tensor = _SynchronizedNorm.apply(  # type: ignore[no-untyped-call]
        x, bn.weight, bn.bias, mean, scale, of_one, add_over_ranks
    )
    return out


@torch.no_grad()
def _update_running_statistics(
    bn: nn.BatchNorm1d, mean: Tensor, variance: Tensor, several: Tensor
) -> None:
    """Move the running statistics towards (C,) mean and (C,) unbiased variance, if `several`."""
    assert bn.running_mean is not None
    assert bn.running_var is not None
    assert bn.num_batches_tracked is not None
    bn.num_batches_tracked.add_(several.to(bn.num_batches_tracked.dtype))
    weight = 1 / bn.num_batches_tracked.clamp(min=1) if bn.momentum is None else bn.momentum
    for running, found in ((bn.running_mean, mean), (bn.running_var, variance)):
        moved = torch.lerp(running, found.to(running.dtype), weight)  # (C,)
        running.copy_(torch.where(several, moved, running))


class _SynchronizedNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        scale: Tensor,
        of_one: Tensor,
        add_over_ranks: AddOverRanks,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, scale, of_one)
        ctx.add_over_ranks = add_over_ranks
        dtype = torch.promote_types(x.dtype, torch.float32)
        slope = (weight.double() * scale).to(dtype)  # (C,)
        return ((x.to(dtype) - mean.to(dtype)) * slope + bias.to(dtype)).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        # upstream: (V, C)
        x, weight, mean, scale, of_one = ctx.saved_tensors
        dtype = torch.promote_types(x.dtype, torch.float32)
        gradient, away = upstream.to(dtype), x.to(dtype) - mean.to(dtype)  # (V, C) each
        total = gradient.sum(dim=0, dtype=torch.float64)  # (C,)
        along = (gradient * away).sum(dim=0, dtype=torch.float64)  # (C,)
        of_weight, of_bias = (along * scale).to(weight.dtype), total.to(weight.dtype)
        total, along = (ctx.add_over_ranks(torch.cat((total, along))) * of_one).chunk(2)
        along = along * scale.square()
        slope = (weight.double() * scale).to(dtype)  # (C,)
        of_x = (gradient - total.to(dtype) - away * along.to(dtype)) * slope
        return of_x.to(x.dtype), of_weight, of_bias, None, None, None, None
