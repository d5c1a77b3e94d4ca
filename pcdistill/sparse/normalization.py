"""Batch normalisation over all voxels of a batch."""

from __future__ import annotations

import torch
from torch import nn

from pcdistill.sparse.tensor import SparseTensor


class SparseBatchNorm(nn.Module):
    """Batch norm of the features; parameters and buffers are those of `bn`, as in checkpoints.

    Source: MinkowskiEngine 0.5.4, MinkowskiBatchNorm.
    """

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(channels, eps=eps, momentum=momentum)

    def forward(self, x: SparseTensor, *, consume: bool = False) -> SparseTensor:
        """Normalise; no voxels at all leave the running statistics as they are.

        So does a single one, which has no variance: it is normalised by the running statistics,
        in training too. The coarsest levels of a network may well have one voxel of a small scan.

        Args:
            x: to normalise.
            consume: the caller no longer needs the features of `x`; they are overwritten where no
                gradient is wanted, which saves the time to get fresh memory.
        """
        if len(x) == 0:
            return x
        if consume and not self.training and not torch.is_grad_enabled():
            return x.map(self._overwritten)
        if len(x) == 1:
            return x.with_sorted(self._by_running_statistics(x.sorted_features))
        normalised: torch.Tensor = self.bn(x.sorted_features)
        return x.with_sorted(normalised)

    def _overwritten(self, features: torch.Tensor) -> torch.Tensor:
        bn = self.bn
        if features.dtype != bn.weight.dtype or bn.running_var is None or bn.running_mean is None:
            return self._by_running_statistics(features)
        scale = bn.weight * torch.rsqrt(bn.running_var + bn.eps)
        shift = bn.bias - bn.running_mean * scale
        return torch.addcmul(shift, features, scale, out=features)

    def _by_running_statistics(self, features: torch.Tensor) -> torch.Tensor:
        bn = self.bn
        return nn.functional.batch_norm(
            features, bn.running_mean, bn.running_var, bn.weight, bn.bias, eps=bn.eps
        )
