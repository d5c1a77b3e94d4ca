"""Batch normalization over all voxels of a batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pcdistill.sparse.engines.cpu_norm import DTYPES, batch_norm_eval, batch_norm_train
from pcdistill.sparse.synchronized_norm import AddOverRanks, synchronized_batch_norm
from pcdistill.sparse.tensor import SparseTensor


class SparseBatchNorm(nn.Module):
    """Batch norm of the features; parameters and buffers are those of `bn`, as in checkpoints.

    Source: MinkowskiEngine 0.5.4, MinkowskiBatchNorm.
    """

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(channels, eps=eps, momentum=momentum)
        self.add_over_ranks: AddOverRanks | None = None
        """Where given, training normalizes over the voxels of several processes."""

    def forward(
        self,
        x: SparseTensor,
        *,
        residual: SparseTensor | None = None,
        relu: bool = False,
        skip: SparseTensor | None = None,
        inplace: bool = False,
    ) -> SparseTensor:
        """Normalize; if asked, add a residual, apply ReLU and join a skip, on the CPU in one pass.

        No voxels at all leave the running statistics as they are. So does a single one, which has
        no variance: it is normalized by the running statistics, in training too. The coarsest
        levels of a network may well have one voxel of a small scan.

        Args:
            x: (V, C) to normalize.
            residual: (V, C) of the same voxels, added to what is normalized.
            relu: whether what is below 0 then becomes 0.
            skip: (V, B) of the same voxels, further channels of the result.
            inplace: nobody else needs the features of `x` or, later, the gradient of the result;
                they may be overwritten, which saves memory and the time to get it.

        Returns:
            (V, C + B)
        """
        features = x.sorted_features  # (V, C)
        added, joined = (  # (V, C) and (V, B)
            None if part is None else part.sorted_features for part in (residual, skip)
        )
        if self.training and self.add_over_ranks is not None:
            return x.with_sorted(self._by_torch(features, added, relu, joined))
        batch, gradients = self.training and len(x) > 1, torch.is_grad_enabled()
        if not self._has_loops(features, added, joined) or (gradients and not batch):
            return x.with_sorted(self._by_torch(features, added, relu, joined))
        norm = batch_norm_train if batch else batch_norm_eval
        return x.with_sorted(norm(features, self.bn, added, relu, joined, inplace))

    def _has_loops(self, features: Tensor, *others: Tensor | None) -> bool:
        """Whether the compiled loops of the CPU can do it."""
        on_cpu = features.device.type == "cpu" and features.dtype in DTYPES
        same = all(part is None or part.dtype == features.dtype for part in others)
        plain = type(self.bn) is nn.BatchNorm1d and self.bn.affine and self.bn.track_running_stats
        return on_cpu and same and plain and len(features) > 0

    def _by_torch(
        self, features: Tensor, residual: Tensor | None, relu: bool, skip: Tensor | None
    ) -> Tensor:
        """(V, C + B) by torch's own operations."""
        bn = self.bn
        if self.training and self.add_over_ranks is not None:
            out = synchronized_batch_norm(features, bn, self.add_over_ranks)
        elif self.training and len(features) < 2:
            out = nn.functional.batch_norm(
                features, bn.running_mean, bn.running_var, bn.weight, bn.bias, eps=bn.eps
            )
        else:
            out = bn(features)
        out = out if residual is None else out.add_(residual)
        out = out.relu_() if relu else out
        return out if skip is None else torch.cat((out, skip), dim=1)


def synchronize_batch_norms(network: nn.Module, add_over_ranks: AddOverRanks) -> None:
    """Let every `SparseBatchNorm` of a network normalize over several processes while it trains."""
    for module in network.modules():
        if isinstance(module, SparseBatchNorm):
            module.add_over_ranks = add_over_ranks
