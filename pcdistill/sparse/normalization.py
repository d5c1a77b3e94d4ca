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
        """Normalise; no voxels at all leave the running statistics as they are."""
        if len(x) == 0:
            return x
        normalised: torch.Tensor = self.bn(x.sorted_features)
        return x.with_sorted(normalised)
