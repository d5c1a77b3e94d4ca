"""Coordinate manager: the voxels of a batch at every stride, and the kernel maps between them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pcdistill.geometry import require_shape
from pcdistill.sparse.grid_symmetry import GridSymmetry, kernel_permutation
from pcdistill.sparse.kernel_map import KernelMap, build_kernel_map
from pcdistill.sparse.voxel_keys import Bounds, VoxelKeyCodec, voxel_bounds


@dataclass(frozen=True, eq=False)
class RowPermutation:
    """Permutation between the caller's rows and the internal rows, sorted by coordinate."""

    order: Tensor
    """(V,) int64: internal row i is the caller's row order[i]."""
    rank: Tensor
    """(V,) int64: the caller's row i is the internal row rank[i]."""


@dataclass(frozen=True, eq=False)
class VoxelLevel:
    """The occupied voxels of one edge length."""

    stride: int
    """Edge in units of the finest voxel."""
    coords: Tensor
    """(V, 4) int32 (batch, x, y, z), sorted, multiples of `stride`."""
    rows: RowPermutation | None
    """The caller's row order where it gave these voxels unsorted."""


def sort_voxels(
    coords: Tensor, bounds: Bounds, stride: int
) -> tuple[Tensor, RowPermutation | None]:
    """Sort voxels by (batch, x, y, z), so that neighbors in space are near in memory.

    Args:
        coords: (V, 4) int32, multiples of `stride`.
        bounds: box around them.
        stride: edge of a voxel.

    Returns:
        sorted coords, and the row order (None when they were sorted already).

    Raises:
        ValueError: the same voxel is given twice, or the box is too large for 64-bit keys.
    """
    cells = torch.div(coords, stride, rounding_mode="floor")
    cells[:, 0] = coords[:, 0]  # (V, 4); the batch index stays
    keys = VoxelKeyCodec.around(bounds, stride, 0).pack(cells)  # (V,) int64
    if bool((keys[1:] > keys[:-1]).all()):
        return coords, None
    keys, order = torch.sort(keys, stable=True)
    repeated = int((keys[1:] == keys[:-1]).sum())
    if repeated:
        raise ValueError(
            f"coords has {repeated} repeated rows of {len(coords)}, expected every voxel once; "
            "merge the points of a voxel first (pcdistill.geometry.voxelize)"
        )
    rank = torch.empty_like(order)  # (V,) int64, the inverse of `order`
    rank[order] = torch.arange(len(order), device=order.device)
    return coords[order], RowPermutation(order, rank)


def check_coords(coords: Tensor, stride: int) -> tuple[Tensor, Bounds]:
    """Check voxel coordinates and give them as int32 with the box around them.

    Raises:
        ValueError: wrong shape, not integers, out of range, or not multiples of `stride`.
    """
    require_shape("coords", coords, None, 4)
    if coords.is_floating_point() or coords.is_complex() or coords.dtype == torch.bool:
        raise ValueError(f"coords has dtype {coords.dtype}, expected integers (int32)")
    if stride < 1:
        raise ValueError(f"stride is {stride}, expected 1 or more")
    bounds = voxel_bounds(coords)
    if stride > 1 and bool((coords[:, 1:] % stride != 0).any()):
        raise ValueError(
            f"coords has entries that are not multiples of stride {stride}; coordinates are "
            "counted in the finest voxels whatever the stride"
        )
    return coords.to(torch.int32, copy=True), bounds  # the caller may change its own later


class CoordinateManager:
    """Voxels and kernel maps of one batch, made when first asked for and kept.

    They are ordinary tensors even where inference mode is on, so that training may go on with them.
    All layers share them, transposed convolutions use those of the convolution they undo, and a
    later forward pass on the same voxels can use them again.
    """

    @torch.inference_mode(False)
    def __init__(self, coords: Tensor, stride: int = 1) -> None:
        """Take the voxels of the finest level.

        Args:
            coords: (V, 4) integer (batch, x, y, z), unique rows in any order.
            stride: edge of these voxels in units of the coordinates.

        Raises:
            ValueError: see `check_coords` and `sort_voxels`.
        """
        checked, self.bounds = check_coords(coords, stride)
        ordered, rows = sort_voxels(checked, self.bounds, stride)
        self._given: dict[int, Tensor] = {stride: checked}
        self._levels = {stride: VoxelLevel(stride, ordered, rows)}
        self._kernel_maps: dict[tuple[int, int, int, int], KernelMap] = {}
        self.device = coords.device

    @property
    def strides(self) -> tuple[int, ...]:
        """The edge lengths known so far, ascending."""
        return tuple(sorted(self._levels))

    @torch.inference_mode(False)
    def level(self, stride: int) -> VoxelLevel:
        """The voxels of one edge length; coarser ones are made from finer ones.

        Raises:
            ValueError: `stride` is finer than, or not a multiple of, the voxels given.
        """
        if stride not in self._levels:
            finer = [s for s in self._levels if stride % s == 0]
            if not finer:
                raise ValueError(
                    f"there are no voxels of stride {stride}; known strides are {self.strides}, "
                    "and only their multiples can be made"
                )
            self._levels[stride] = self._coarsen(self._levels[max(finer)], stride)
        return self._levels[stride]

    def _coarsen(self, fine: VoxelLevel, stride: int) -> VoxelLevel:
        cells = torch.div(fine.coords, stride, rounding_mode="floor")  # (V_fine, 4)
        cells[:, 0] = fine.coords[:, 0]
        keys, order = torch.sort(VoxelKeyCodec.around(self.bounds, stride, 0).pack(cells))
        first = torch.ones_like(keys, dtype=torch.bool)  # (V_fine,): the first of its coarse voxel
        first[1:] = keys[1:] != keys[:-1]
        coords = cells[order[first]]  # (V, 4), sorted
        coords[:, 1:] *= stride
        return VoxelLevel(stride, coords, None)

    @torch.inference_mode(False)
    def kernel_map(
        self, in_stride: int, out_stride: int, kernel_size: int, dilation: int = 1
    ) -> KernelMap:
        """Pairs of a convolution from one level to a coarser or equal one.

        Args:
            in_stride: of the input voxels, in finest voxels.
            out_stride: of the output voxels, a multiple of it.
            kernel_size: offsets along each axis.
            dilation: distance between offsets, in input voxels.
        """
        key = (in_stride, out_stride, kernel_size, dilation)
        if key not in self._kernel_maps:
            source, target = self.level(in_stride), self.level(out_stride)
            self._kernel_maps[key] = build_kernel_map(
                source.coords, target.coords, self.bounds, *key
            )
        return self._kernel_maps[key]

    def transformed(self, turn: GridSymmetry) -> CoordinateManager:
        """These voxels as if the whole grid had been turned, with the same rows.

        A convolution on turned voxels is one on these with the slices of its kernel in another
        order, so nothing is searched again: kernel maps are shared, whichever of both is asked.
        Coordinates given out stay those from before the turn.
        """
        return _TransformedCoordinateManager(self, turn)

    def transformed_level(self, stride: int) -> VoxelLevel:
        """`level`, but with the coordinates where the voxels are after a turn, no longer sorted."""
        return self.level(stride)

    @property
    def nbytes(self) -> int:
        """Bytes of all kernel maps made so far."""
        return sum(kernel_map.nbytes for kernel_map in self._kernel_maps.values())

    @torch.inference_mode(False)
    def row_order(self, coords: Tensor, stride: int) -> RowPermutation | None:
        """Match a caller's rows with those of a level, which must hold the same voxels.

        Raises:
            ValueError: `coords` are not the voxels of that level.
        """
        level = self.level(stride)
        given = self._given.get(stride)
        same_shape = given is not None and given.shape == coords.shape
        if given is coords or (given is not None and same_shape and torch.equal(given, coords)):
            return level.rows
        checked, bounds = check_coords(coords, stride)
        ordered, rows = sort_voxels(checked, bounds, stride)
        if not torch.equal(ordered, level.coords):
            raise ValueError(
                f"coords ({len(coords)} voxels) are not the {len(level.coords)} voxels of stride "
                f"{stride} that `maps` was made for; leave `maps` out"
            )
        return rows


class _TransformedCoordinateManager(CoordinateManager):
    """See `CoordinateManager.transformed`."""

    def __init__(self, maps: CoordinateManager, turn: GridSymmetry) -> None:
        self.__dict__.update(maps.__dict__)  # the same levels and maps, found by either
        self._turn = turn

    def transformed(self, turn: GridSymmetry) -> CoordinateManager:
        raise ValueError("these voxels are turned already; turn the maps they were made from")

    def transformed_level(self, stride: int) -> VoxelLevel:
        level = self.level(stride)
        cells = torch.div(level.coords[:, 1:], stride, rounding_mode="floor")  # (V, 3)
        placed = torch.cat([level.coords[:, :1], stride * self._turn.cells(cells)], dim=1)  # (V, 4)
        return VoxelLevel(stride, placed, level.rows)

    def kernel_map(
        self, in_stride: int, out_stride: int, kernel_size: int, dilation: int = 1
    ) -> KernelMap:
        kernel_map = super().kernel_map(in_stride, out_stride, kernel_size, dilation)
        step = out_stride // in_stride
        return kernel_map.with_slices(kernel_permutation(self._turn, kernel_size, step, dilation))
