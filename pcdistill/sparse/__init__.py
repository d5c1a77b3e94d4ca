"""Convolution on occupied voxels: sparse tensors, their coordinate maps, layers."""

from pcdistill.sparse.convolution import SparseConv3d, SparseConvTranspose3d
from pcdistill.sparse.coordinates import CoordinateManager
from pcdistill.sparse.engines.minkowski_engine import import_minkowski, to_minkowski
from pcdistill.sparse.engines.triton_engine import import_triton_kernels, to_triton
from pcdistill.sparse.grid_symmetry import GridSymmetry
from pcdistill.sparse.normalization import SparseBatchNorm, synchronize_batch_norms
from pcdistill.sparse.pooling import SparseAvgPool3d, SparseMaxPool3d
from pcdistill.sparse.tensor import SparseTensor

__all__ = [
    "CoordinateManager",
    "GridSymmetry",
    "SparseAvgPool3d",
    "SparseBatchNorm",
    "SparseConv3d",
    "SparseConvTranspose3d",
    "SparseMaxPool3d",
    "SparseTensor",
    "import_minkowski",
    "import_triton_kernels",
    "synchronize_batch_norms",
    "to_minkowski",
    "to_triton",
]
