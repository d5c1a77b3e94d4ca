"""Convolution on occupied voxels: sparse tensors, their coordinate maps, layers."""

from pcdistill.sparse.convolution import SparseConv3d, SparseConvTranspose3d
from pcdistill.sparse.coordinates import CoordinateMaps
from pcdistill.sparse.engines.minkowski_engine import minkowski_engine, on_minkowski
from pcdistill.sparse.engines.triton_engine import on_triton, triton_kernels
from pcdistill.sparse.grid_symmetry import GridTurn
from pcdistill.sparse.normalization import SparseBatchNorm
from pcdistill.sparse.pooling import SparseAvgPool3d, SparseMaxPool3d
from pcdistill.sparse.tensor import SparseTensor

__all__ = [
    "CoordinateMaps",
    "GridTurn",
    "SparseAvgPool3d",
    "SparseBatchNorm",
    "SparseConv3d",
    "SparseConvTranspose3d",
    "SparseMaxPool3d",
    "SparseTensor",
    "minkowski_engine",
    "on_minkowski",
    "on_triton",
    "triton_kernels",
]
