"""Sparse convolution by MinkowskiEngine, where that is installed.

The same layers and weights run on either engine: a tensor that went through `to_minkowski` carries
coordinates that MinkowskiEngine manages, and a convolution of such a tensor is MinkowskiEngine's.
Everything that treats rows alone (batch norm, ReLU, 1x1 convolutions) is torch in both.
"""

from __future__ import annotations

import collections
import collections.abc
import importlib
import math
import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor

from pcdistill.errors import MissingExtraError
from pcdistill.sparse.coordinates import CoordinateManager, RowPermutation, VoxelLevel
from pcdistill.sparse.kernel_map import KernelMap
from pcdistill.sparse.tensor import SparseTensor

DIMENSION = 3
MOVED_NAMES = ("Iterable", "Mapping", "MutableMapping", "Sequence")
"""What MinkowskiEngine 0.5.4 still imports from `collections`; Python 3.10 took it away there."""


@cache
def import_minkowski() -> Any:
    """The package MinkowskiEngine, imported when first asked for.

    Raises:
        MissingExtraError: it is not installed, or its compiled part does not load.
    """
    put_back = [name for name in MOVED_NAMES if not hasattr(collections, name)]
    for name in put_back:
        setattr(collections, name, getattr(collections.abc, name))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it was compiled without CUDA
            return importlib.import_module("MinkowskiEngine")
    except (ImportError, OSError) as error:
        raise MissingExtraError(
            f"the engine 'minkowski' needs the package MinkowskiEngine 0.5.4, which cannot be "
            f"imported here ({str(error).splitlines()[0]}); build and install it with `python "
            "tools/build_minkowski.py --install`, or use the engine 'torch', which needs nothing"
        ) from error
    finally:
        for name in put_back:
            delattr(collections, name)


@dataclass(frozen=True, eq=False)
class MinkowskiKernelMap:
    """One kernel map inside MinkowskiEngine, named by what it connects."""

    manager: Any
    """MinkowskiEngine's CoordinateManager."""
    source_key: Any
    target_key: Any
    generator: Any
    """MinkowskiEngine's KernelGenerator: size, stride and dilation."""
    is_transposed: bool = False

    @property
    def transposed(self) -> MinkowskiKernelMap:
        """The same pairs seen from the other side, for the transposed convolution."""
        return MinkowskiKernelMap(
            self.manager, self.target_key, self.source_key, self.generator, not self.is_transposed
        )


class MinkowskiCoordinateManager(CoordinateManager):
    """The voxels of a batch at every stride, as MinkowskiEngine orders them."""

    def __init__(self, finest: VoxelLevel) -> None:
        """Hand voxels to MinkowskiEngine.

        Args:
            finest: the voxels of the batch, at least one.

        Raises:
            MissingExtraError: MinkowskiEngine is absent, or was built without CUDA and is needed
                there.
        """
        engine = import_minkowski()
        self.device = finest.coords.device
        on_cpu = self.device.type == "cpu"
        if not on_cpu and not engine.is_cuda_available():
            raise MissingExtraError(
                f"the voxels are on {self.device} but this MinkowskiEngine was built for the CPU "
                "only; move network and voxels to the CPU, or use the engine 'torch'"
            )
        map_types = engine.CoordinateMapType
        self._manager = engine.CoordinateManager(
            D=DIMENSION, coordinate_map_type=map_types.CPU if on_cpu else map_types.CUDA
        )
        key, (kept, _) = self._manager.insert_and_map(finest.coords.contiguous(), finest.stride)
        self._keys = {finest.stride: key}
        self.sorted_rows: Tensor = kept.to(torch.int64)
        """(V,) int64: row of `finest` that each of MinkowskiEngine's rows is."""

    @property
    def strides(self) -> tuple[int, ...]:
        """The edge lengths known so far, ascending."""
        return tuple(sorted(self._keys))

    def _key(self, stride: int) -> Any:
        if stride not in self._keys:
            finer = max(s for s in self._keys if stride % s == 0)
            self._keys[stride] = self._manager.stride(self._keys[finer], stride // finer)
        return self._keys[stride]

    def level(self, stride: int) -> VoxelLevel:
        """The voxels of one edge length, in MinkowskiEngine's row order.

        Raises:
            ValueError: `stride` is finer than, or not a multiple of, the voxels given.
        """
        if all(stride % known for known in self._keys):
            raise ValueError(
                f"there are no voxels of stride {stride}; known strides are {self.strides}, and "
                "only their multiples can be made"
            )
        return VoxelLevel(stride, self._manager.get_coordinates(self._key(stride)), None)

    def row_order(self, coords: Tensor, stride: int) -> RowPermutation | None:
        """Not offered: tensors come to this engine by `to_minkowski` only."""
        raise ValueError("`maps` belongs to the engine 'minkowski'; leave it out")

    def kernel_map(
        self, in_stride: int, out_stride: int, kernel_size: int, dilation: int = 1
    ) -> KernelMap:
        """What `minkowski_convolution` needs, in the place of a kernel map of ours.

        Args:
            in_stride: of the input voxels, in finest voxels.
            out_stride: of the output voxels, a multiple of it.
            kernel_size: offsets along each axis.
            dilation: distance between offsets, in input voxels.
        """
        generator = import_minkowski().KernelGenerator(
            kernel_size=kernel_size,
            stride=out_stride // in_stride,
            dilation=dilation,
            dimension=DIMENSION,
        )
        kernel_map = MinkowskiKernelMap(
            self._manager, self._key(in_stride), self._key(out_stride), generator
        )
        return cast(KernelMap, kernel_map)


def to_minkowski(x: SparseTensor) -> SparseTensor:
    """The same tensor on coordinates that MinkowskiEngine manages.

    Its `features` and `coords` keep the caller's row order. A tensor without voxels, which
    MinkowskiEngine cannot hold, stays as it is.

    Raises:
        MissingExtraError: see `import_minkowski` and `MinkowskiCoordinateManager`.
    """
    import_minkowski()
    if len(x) == 0 or isinstance(x.maps, MinkowskiCoordinateManager):
        return x
    maps = MinkowskiCoordinateManager(x.maps.transformed_level(x.stride))
    order = maps.sorted_rows if x.rows is None else x.rows.order[maps.sorted_rows]  # (V,) int64
    rank = torch.empty_like(order)  # (V,) int64, the inverse permutation
    rank[order] = torch.arange(len(order), device=order.device)
    features = x.sorted_features.index_select(0, maps.sorted_rows)  # (V, C)
    return SparseTensor._on(features, x.stride, maps, RowPermutation(order, rank))


def minkowski_convolution(
    features: Tensor, kernel: Tensor, kernel_map: MinkowskiKernelMap
) -> Tensor:
    """Convolve by MinkowskiEngine, differentiably.

    Args:
        features: (V_in, C_in) in MinkowskiEngine's row order; half precision is computed as float.
        kernel: (K, C_in, C_out).
        kernel_map: from the `MinkowskiCoordinateManager` of these rows.

    Returns:
        (V_out, C_out), of the dtype of `features`.
    """
    engine = import_minkowski()
    if kernel.shape[0] != math.prod(kernel_map.generator.kernel_size):
        raise ValueError(
            f"the kernel has {kernel.shape[0]} offsets, expected "
            f"{math.prod(kernel_map.generator.kernel_size)}"
        )
    function = (
        engine.MinkowskiConvolutionTransposeFunction
        if kernel_map.is_transposed
        else engine.MinkowskiConvolutionFunction
    )
    whole = torch.float64 if features.dtype == torch.float64 else torch.float32
    with torch.autocast(features.device.type, enabled=False):
        out: Tensor = function.apply(
            features.to(whole),
            kernel.to(whole).contiguous(),
            kernel_map.generator,
            importlib.import_module("MinkowskiEngineBackend._C").ConvolutionMode.DEFAULT,
            kernel_map.source_key,
            kernel_map.target_key,
            kernel_map.manager,
        )
    return out.to(features.dtype)
