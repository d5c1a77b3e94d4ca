"""Sparse convolution by our Triton kernels on an NVIDIA GPU, with its gradients.

The same layers, weights and kernel maps as with the engine 'torch'; what `dense_engine` does with a
gathered matrix and one product is done here without writing what is gathered. A tensor that went
through `to_triton` has its convolutions computed so. All else is torch in both.

Letters: V_in, V_out voxels (rows of the input, rows of the output), C_in, C_out channels, K offsets
of the kernel.
"""

from __future__ import annotations

import importlib
from functools import cache, lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pcdistill.errors import MissingExtraError
from pcdistill.sparse.coordinates import CoordinateManager, VoxelLevel
from pcdistill.sparse.engines.minkowski_engine import MinkowskiCoordinateManager
from pcdistill.sparse.grid_symmetry import GridSymmetry
from pcdistill.sparse.kernel_map import KernelMap
from pcdistill.sparse.tensor import SparseTensor

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
FEW_CHANNELS = 8
"""Up to here several offsets share one product, which has at least 16 columns."""
PARTIAL_BYTES = 64 << 20
"""What the partial sums of a kernel's gradient may take, unless one set alone takes more."""
PROGRAMS = 2048
"""Programs that the gradient of a kernel is cut into where its rows allow: several for each
processor of a large GPU. A number of its own for every GPU would change the order of the sums."""
STAGES = 2
"""Chunks of operands under way at once; more would leave less room for other programs."""
MIN_SPLIT = 512
"""Target rows below which a partial sum costs more than it saves."""


class Tile(NamedTuple):
    """What one program computes, see `triton_kernels`; each side a power of two, 16 or more."""

    rows: int
    """Gathered rows."""
    inner: int
    """Input channels."""
    outer: int
    """Output channels."""
    warps: int
    """Groups of 32 threads that compute it."""


def convolution_tile(n_in: int, n_out: int, dtype: torch.dtype) -> Tile:
    """Tile of a convolution; two stages of its operands take at most 64 KiB of shared memory.

    Args:
        n_in: C_in.
        n_out: C_out.
        dtype: of features and weights.
    """
    if dtype.itemsize == 2:  # tensor cores: wide, because gathering is what takes time
        inner, outer = 64 if n_in % 64 == 0 else _side(n_in, 32), _side(n_out, 128)
        return Tile(128, inner, outer, warps=8 if outer == 128 else 4)
    return Tile(64, _side(n_in, 32), _narrow_side(n_out), warps=4)


def gradient_tile(n_in: int, n_out: int, dtype: torch.dtype) -> Tile:
    """Tile of the gradient of a kernel; its `inner` and `outer` are the sides of the result.

    Args:
        n_in: C_in.
        n_out: C_out.
        dtype: of features and upstream gradient.
    """
    if dtype.itemsize == 2:
        inner, outer = _side(n_in, 128), _side(n_out, 128)
        return Tile(64, inner, outer, warps=8 if inner * outer > 64 * 64 else 4)
    return Tile(32, _narrow_side(n_in), _narrow_side(n_out), warps=4)


def _side(channels: int, largest: int) -> int:
    """The smallest power of two from 16 to `largest` that holds the channels, else the largest."""
    return min(largest, max(16, _power_of_two(channels)))


def _narrow_side(channels: int) -> int:
    """As `_side` up to 64, but 32 where that multiplies fewer zeros, as for 96 channels.

    For float32, where multiplying is what takes time.
    """
    return 32 if channels > 64 and 0 < channels % 64 <= 32 else _side(channels, 64)


@cache
def import_triton_kernels() -> Any:
    """The module `triton_kernels`, imported when first asked for.

    Raises:
        MissingExtraError: triton is not installed, or does not load.
    """
    try:
        importlib.import_module("triton")
    except (ImportError, OSError) as error:
        raise MissingExtraError(
            f"the engine 'triton' needs the package triton, which cannot be imported here "
            f"({str(error).splitlines()[0]}); install it with `pip install 'pcdistill[gpu]'` "
            "(Linux), or use the engine 'torch', which needs nothing"
        ) from error
    return importlib.import_module("pcdistill.sparse.engines.triton_kernels")


class TritonKernelMap(KernelMap):
    """One of our kernel maps, whose convolutions are computed by `triton_convolution`."""

    @property
    def transposed(self) -> TritonKernelMap:
        """The same pairs seen from the other side: sources become targets."""
        return _for_triton(super().transposed)

    def with_slices(self, slices: tuple[int, ...]) -> TritonKernelMap:
        """The same pairs for weights whose slices are taken in another order."""
        return _for_triton(super().with_slices(slices))


def _for_triton(kernel_map: KernelMap) -> TritonKernelMap:
    return TritonKernelMap(kernel_map.table, kernel_map.slices)


class TritonCoordinateManager(CoordinateManager):
    """Voxels and kernel maps of other maps, shared with them whichever is asked first."""

    def __init__(self, maps: CoordinateManager) -> None:
        """Take the maps; what they make later is found here too."""
        self.__dict__.update(maps.__dict__)
        self._maps = maps

    def kernel_map(
        self, in_stride: int, out_stride: int, kernel_size: int, dilation: int = 1
    ) -> TritonKernelMap:
        """Pairs of a convolution from one level to a coarser or equal one.

        Args:
            in_stride: of the input voxels, in finest voxels.
            out_stride: of the output voxels, a multiple of it.
            kernel_size: offsets along each axis.
            dilation: distance between offsets, in input voxels.
        """
        return _for_triton(self._maps.kernel_map(in_stride, out_stride, kernel_size, dilation))

    def transformed(self, turn: GridSymmetry) -> TritonCoordinateManager:
        """See `CoordinateManager.transformed`."""
        return TritonCoordinateManager(self._maps.transformed(turn))

    def transformed_level(self, stride: int) -> VoxelLevel:
        """See `CoordinateManager.transformed_level`."""
        return self._maps.transformed_level(stride)


def to_triton(x: SparseTensor) -> SparseTensor:
    """The same tensor, whose convolutions are computed by Triton; rows and kernel maps stay.

    Raises:
        MissingExtraError: triton is not installed.
        ValueError: the tensor is not on a CUDA device, or is on the engine 'minkowski'.
    """
    _require_gpu(x.sorted_features.device)
    if isinstance(x.maps, TritonCoordinateManager):
        return x
    if isinstance(x.maps, MinkowskiCoordinateManager):
        raise ValueError(
            "the tensor is on the engine 'minkowski', whose kernel maps 'triton' cannot use; make "
            "it anew from features and coords"
        )
    return SparseTensor._on(x.sorted_features, x.stride, TritonCoordinateManager(x.maps), x.rows)


def triton_convolution(features: Tensor, kernel: Tensor, kernel_map: KernelMap) -> Tensor:
    """Sum over the offsets k of features[source] @ kernel[k], differentiably.

    Nothing that is gathered is kept, and the host waits for nothing but, once for each order of
    the weight slices, the copy of that order to the device. The same input gives the same bits.

    Args:
        features: (V_in, C_in) float32, float16 or bfloat16 on a CUDA device, rows as in
            `kernel_map`.
        kernel: (K, C_in, C_out), same dtype and device.
        kernel_map: source and target rows of each offset.

    Returns:
        (V_out, C_out), dtype of `features`; sums are taken in float32. Products of float32 are
        rounded to TF32 only where torch's own are (`torch.backends.cuda.matmul`).

    Raises:
        MissingExtraError: triton is not installed.
        ValueError: another device or dtype, or shapes that do not fit the map.
    """
    _require_gpu(features.device)
    if features.dtype not in DTYPES or kernel.dtype != features.dtype:
        raise ValueError(
            f"features are {features.dtype} and the kernel is {kernel.dtype}, but the engine "
            "'triton' takes float32, float16 or bfloat16, the same for both; cast them, or use "
            "the engine 'torch'"
        )
    if not features.device == kernel.device == kernel_map.table.rows.device:
        raise ValueError(
            f"features are on {features.device}, the kernel is on {kernel.device} and the kernel "
            f"map on {kernel_map.table.rows.device}; move them to one device"
        )
    wanted = (len(kernel_map.table.rows), features.shape[1])
    if features.shape[0] != kernel_map.n_source or kernel.shape[:2] != wanted:
        raise ValueError(
            f"features are {tuple(features.shape)} and the kernel is {tuple(kernel.shape)}, "
            f"expected {kernel_map.n_source} rows and {wanted[0]} slices as in the kernel map, "
            "and the same channels"
        )
    result: Tensor = _TritonConvolution.apply(features, kernel, kernel_map)  # type: ignore[no-untyped-call]
    return result


class _TritonConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, kernel: Tensor, kernel_map: KernelMap) -> Tensor:
        features = features.contiguous()
        ctx.save_for_backward(features, kernel)
        ctx.kernel_map = kernel_map
        return _convolution(features, kernel, kernel_map)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        features, kernel = ctx.saved_tensors  # (V_in, C_in), (K, C_in, C_out)
        upstream, kernel_map = upstream.contiguous(), ctx.kernel_map  # upstream: (V_out, C_out)
        wants_features, wants_kernel, _ = ctx.needs_input_grad
        grad_features = grad_kernel = None
        if wants_features:
            grad_features = _convolution(upstream, kernel.transpose(1, 2), kernel_map.transposed)
        if wants_kernel:
            grad_kernel = _kernel_gradient(features, upstream, kernel_map).to(kernel.dtype)
        return grad_features, grad_kernel, None


def _convolution(features: Tensor, kernel: Tensor, kernel_map: KernelMap) -> Tensor:
    """(V_out, C_out) of features (V_in, C_in) and a kernel (K, C_in, C_out) of any strides."""
    n_offsets, n_in, n_out = kernel.shape
    out = features.new_empty(kernel_map.n_target, n_out)
    tile = convolution_tile(n_in, n_out, features.dtype)
    kernels, table = import_triton_kernels(), kernel_map.table  # table.rows: (K, V_out) int32
    rows, offsets = kernel_map.n_target, 1
    options: dict[str, int] = {}
    if table.one_source:
        # From the other side fewer neighbours are absent, and no target row is met twice.
        function, table = kernels.one_source_kernel, kernel_map.transposed.table  # (K, V_in)
        rows, offsets = kernel_map.n_source, n_offsets
    elif n_in <= FEW_CHANNELS:
        function, tile = kernels.few_channels_kernel, tile._replace(inner=32)
        options["WIDTH"] = _power_of_two(n_in)
    else:
        function = kernels.convolution_kernel
    programs = _ceil(rows, tile.rows) * offsets * _ceil(n_out, tile.outer)
    order = _slice_order(kernel_map.slices, n_offsets, features.device)
    tensors = (features, kernel, table.rows.contiguous(), order, out)
    sizes = (kernel_map.n_source, kernel_map.n_target, n_offsets, n_in, n_out, *kernel.stride())
    _launch(function, programs, tensors, sizes, tile, options)
    return out


def _kernel_gradient(features: Tensor, upstream: Tensor, kernel_map: KernelMap) -> Tensor:
    """(K, C_in, C_out) float32 of features (V_in, C_in) and upstream gradient (V_out, C_out)."""
    if kernel_map.table.one_source:  # from the other side fewer neighbours are absent
        return _kernel_gradient(upstream, features, kernel_map.transposed).transpose(1, 2)
    n_offsets, n_in, n_out = len(kernel_map.table.rows), features.shape[1], upstream.shape[1]
    tile = gradient_tile(n_in, n_out, features.dtype)
    kernels = import_triton_kernels()
    options: dict[str, int] = {}
    if n_in <= FEW_CHANNELS:
        function, tile = kernels.few_channels_gradient_kernel, tile._replace(inner=64)
        width = options["WIDTH"] = _power_of_two(n_in)
        tiles = _ceil(n_offsets, tile.inner // width) * _ceil(n_out, tile.outer)
    else:
        function = kernels.kernel_gradient_kernel
        tiles = n_offsets * _ceil(n_in, tile.inner) * _ceil(n_out, tile.outer)
    wanted = min(
        _ceil(PROGRAMS, tiles),
        PARTIAL_BYTES // (4 * n_offsets * n_in * n_out),
        kernel_map.n_target // MIN_SPLIT,
    )
    rows_each = tile.rows * _ceil(kernel_map.n_target, tile.rows * max(1, wanted))
    splits = _ceil(kernel_map.n_target, max(1, rows_each))
    parts = features.new_empty(splits, n_offsets, n_in, n_out, dtype=torch.float32)
    order = _slice_order(kernel_map.slices, n_offsets, features.device)
    tensors = (features, upstream, kernel_map.table.rows.contiguous(), order, parts)
    sizes = (kernel_map.n_source, kernel_map.n_target, n_offsets, n_in, n_out, rows_each)
    _launch(function, splits * tiles, tensors, sizes, tile, options)
    return parts.sum(dim=0)  # (K, C_in, C_out)


def _launch(
    function: Any,
    programs: int,
    tensors: tuple[Tensor, ...],
    sizes: tuple[int, ...],
    tile: Tile,
    options: dict[str, int],
) -> None:
    """Start a kernel with arguments in its own order."""
    if programs == 0:
        return
    with torch.cuda.device_of(tensors[0]):  # type: ignore[no-untyped-call]  # starts it there
        function[(programs,)](
            *tensors,
            *sizes,
            ROWS=tile.rows,
            INNER=tile.inner,
            OUTER=tile.outer,
            PRECISION=_float32_products(),
            **options,
            num_warps=tile.warps,
            num_stages=STAGES,
            enable_fp_fusion=True,
        )


@lru_cache(maxsize=1024)
@torch.inference_mode(False)
def _slice_order(slices: tuple[int, ...] | None, count: int, device: torch.device) -> Tensor:
    """(K,) int32: the slice of the weights that each offset takes."""
    return torch.tensor(slices or range(count), dtype=torch.int32, device=device)


def _require_gpu(device: torch.device) -> None:
    if device.type != "cuda" and not import_triton_kernels().RUNS_ON_CPU:
        raise ValueError(
            f"the engine 'triton' computes on NVIDIA GPUs only, the features are on {device}; move "
            "network and voxels to a GPU, or use the engine 'torch'"
        )


def _float32_products() -> str:
    matmul = torch.backends.cuda.matmul
    if hasattr(matmul, "fp32_precision"):  # torch 2.9 and newer, where the older name may raise
        return "tf32" if matmul.fp32_precision == "tf32" else "ieee"
    return "tf32" if matmul.allow_tf32 else "ieee"


def _power_of_two(count: int) -> int:
    """The smallest that holds a count of 1 or more."""
    return 1 << (count - 1).bit_length()


def _ceil(count: int, step: int) -> int:
    return -(-count // step)
