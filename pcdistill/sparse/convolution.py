"""Convolution layers on sparse tensors, with MinkowskiEngine's weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pcdistill.sparse.coordinates import RowPermutation
from pcdistill.sparse.engines.minkowski_engine import MinkowskiKernelMap, minkowski_convolution
from pcdistill.sparse.engines.torch_engine import pointwise_product, sparse_convolution
from pcdistill.sparse.engines.triton_engine import TritonKernelMap, triton_convolution
from pcdistill.sparse.kernel_map import KernelMap
from pcdistill.sparse.tensor import SparseTensor


class _SparseConvolutionLayer(nn.Module):
    """What both directions share: the weights and their layout."""

    bias: nn.Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        dilation: int,
        bias: bool,
    ) -> None:
        super().__init__()
        for name, value in (
            ("in_channels", in_channels),
            ("out_channels", out_channels),
            ("kernel_size", kernel_size),
            ("stride", stride),
            ("dilation", dilation),
        ):
            if int(value) != value or value < 1:
                raise ValueError(f"{name} is {value}, expected a whole number of 1 or more")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride, self.dilation = kernel_size, stride, dilation
        self.pointwise = kernel_size == 1 and stride == 1
        shape = (in_channels, out_channels)
        self.kernel = nn.Parameter(
            torch.empty(shape if self.pointwise else (kernel_size**3, *shape))
        )
        if bias:
            self.bias = nn.Parameter(torch.empty(1, out_channels))
        else:
            self.register_parameter("bias", None)

    def _draw(self, fan: int, generator: torch.Generator | None) -> None:
        bound = 1 / math.sqrt(fan * self.kernel_size**3)
        with torch.no_grad():
            self.kernel.uniform_(-bound, bound, generator=generator)
            if self.bias is not None:
                self.bias.uniform_(-bound, bound, generator=generator)

    def _convolve(
        self,
        features: Tensor,
        kernel_map: KernelMap | MinkowskiKernelMap | None,
        rows: RowPermutation | None = None,
    ) -> Tensor:
        if features.shape[1] != self.in_channels:
            raise ValueError(
                f"the input has {features.shape[1]} channels, this layer takes {self.in_channels}"
            )
        kernel: Tensor = self.kernel
        device = features.device.type
        if torch.is_autocast_enabled(device):  # custom functions are not cast by autocast itself
            dtype = torch.get_autocast_dtype(device)
            features, kernel = features.to(dtype), kernel.to(dtype)
        if kernel_map is None:
            out = pointwise_product(features, kernel, rows)
        elif isinstance(kernel_map, MinkowskiKernelMap):
            out = minkowski_convolution(features, kernel, kernel_map)
        elif isinstance(kernel_map, TritonKernelMap):
            out = triton_convolution(features, kernel, kernel_map)
        else:
            out = sparse_convolution(features, kernel, kernel_map)
        return out if self.bias is None else out + self.bias

    def extra_repr(self) -> str:
        """Sizes, for printing the module."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, dilation={self.dilation}, bias={self.bias is not None}"
        )


class SparseConv3d(_SparseConvolutionLayer):
    """Convolution on occupied voxels: out[u] = sum over k of in[u + d(k)] @ kernel[k] (+ bias).

    With stride 1 the voxels stay as they are; with stride s the output has the coarser voxels
    that hold at least one input voxel. `kernel` is (K, C_in, C_out), x fastest among the offsets;
    (C_in, C_out) where kernel size and stride are 1. `bias` is (1, C_out).

    Source: MinkowskiEngine 0.5.4, MinkowskiConvolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        dilation: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, dilation, bias)
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights uniformly from +-1 / sqrt(C_in K)."""
        self._draw(self.in_channels, generator)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Convolve; the output has stride x.stride * self.stride."""
        out_stride = x.stride * self.stride
        kernel_map = None
        if not self.pointwise:
            kernel_map = x.maps.kernel_map(x.stride, out_stride, self.kernel_size, self.dilation)
        return x.at_stride(self._convolve(x.sorted_features, kernel_map), out_stride)

    def forward_features(self, x: SparseTensor) -> Tensor:
        """`self(x).features`, for kernel size and stride 1, without a copy to change the order.

        Raises:
            ValueError: the kernel is larger.
        """
        if not self.pointwise:
            raise ValueError(
                f"a kernel of size {self.kernel_size} and stride {self.stride} needs voxels, not "
                "rows; call the layer itself"
            )
        return self._convolve(x.sorted_features, None, x.rows)


class SparseConvTranspose3d(_SparseConvolutionLayer):
    """Transposed convolution back onto finer voxels: out[v + d(k)] += in[v] @ kernel[k] (+ bias).

    The output has the voxels that the batch had at the finer stride, in the same rows; the
    offsets d(k) count finer voxels, and the kernel is not flipped.

    Source: MinkowskiEngine 0.5.4, MinkowskiConvolutionTranspose.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 2,
        stride: int = 2,
        dilation: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, dilation, bias)
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights uniformly from +-1 / sqrt(C_out K)."""
        self._draw(self.out_channels, generator)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Convolve; the output has stride x.stride / self.stride.

        Raises:
            ValueError: the batch has no voxels of that stride.
        """
        if x.stride % self.stride:
            raise ValueError(
                f"a transposed convolution of stride {self.stride} cannot refine voxels of stride "
                f"{x.stride}"
            )
        out_stride = x.stride // self.stride
        kernel_map = None
        if not self.pointwise:
            kernel_map = x.maps.kernel_map(
                out_stride, x.stride, self.kernel_size, self.dilation
            ).transposed
        return x.at_stride(self._convolve(x.sorted_features, kernel_map), out_stride)
