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

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Normalise; no voxels at all leave the running statistics as they are.

        So does a single one, which has no variance: it is normalised by the running statistics,
        in training too. The coarsest levels of a network may well have one voxel of a small scan.
        """
        if len(x) == 0:
            return x
        if len(x) == 1:
            return x.with_sorted(self._by_running_statistics(x.sorted_features))
        normalised: torch.Tensor = self.bn(x.sorted_features)
        return x.with_sorted(normalised)

    def _by_running_statistics(self, features: torch.Tensor) -> torch.Tensor:
        bn = self.bn
        return nn.functional.batch_norm(
            features, bn.running_mean, bn.running_var, bn.weight, bn.bias, eps=bn.eps
        )
