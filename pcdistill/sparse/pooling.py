"""Average and maximum pooling over the occupied voxels below a kernel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pcdistill.sparse.engines.minkowski_engine import MinkowskiCoordinateManager
from pcdistill.sparse.kernel_map import KernelMap
from pcdistill.sparse.tensor import SparseTensor


class _SparsePool(nn.Module):
    def __init__(self, kernel_size: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.dilation = kernel_size, stride, dilation

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Pool; the output has stride x.stride * self.stride."""
        if isinstance(x.maps, MinkowskiCoordinateManager):
            raise ValueError(
                "pooling is done by the engine 'torch' only, this tensor is on another"
            )
        out_stride = x.stride * self.stride
        kernel_map = x.maps.kernel_map(x.stride, out_stride, self.kernel_size, self.dilation)
        return x.at_stride(self._pool(x.sorted_features, kernel_map), out_stride)

    def _pool(self, features: Tensor, kernel_map: KernelMap) -> Tensor:
        """(V_out, C) of features (V_in, C)."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Sizes, for printing the module."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, dilation={self.dilation}"


class SparseAvgPool3d(_SparsePool):
    """Mean over the voxels present below the kernel (not over the kernel's volume).

    Source: MinkowskiEngine 0.5.4, MinkowskiAvgPooling.
    """

    def _pool(self, features: Tensor, kernel_map: KernelMap) -> Tensor:
        source, target = kernel_map.pairs()  # (P,) int32 each
        total = features.new_zeros(kernel_map.n_target, features.shape[1])
        total = total.index_add(0, target, features[source])  # (V_out, C)
        degree = torch.bincount(target, minlength=kernel_map.n_target).clamp(min=1)  # (V_out,)
        return total / degree.to(features.dtype)[:, None]


class SparseMaxPool3d(_SparsePool):
    """Maximum over the voxels present below the kernel; equal maxima share the gradient.

    Source: MinkowskiEngine 0.5.4, MinkowskiMaxPooling.
    """

    def _pool(self, features: Tensor, kernel_map: KernelMap) -> Tensor:
        source, target = kernel_map.pairs()  # (P,) int32 each
        index = target.to(torch.int64)[:, None].expand(-1, features.shape[1])  # (P, C)
        lowest = features.new_zeros(kernel_map.n_target, features.shape[1])  # (V_out, C)
        return lowest.scatter_reduce(0, index, features[source], reduce="amax", include_self=False)
