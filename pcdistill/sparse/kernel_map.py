"""Kernel maps: pairs of input and output voxels under each offset of a convolution kernel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pcdistill.sparse.neighbor_search import binary_search_neighbors, merge_scan_neighbors
from pcdistill.sparse.voxel_keys import Bounds, VoxelKeyCodec


def kernel_offsets(kernel_size: int, dilation: int = 1) -> tuple[tuple[int, int, int], ...]:
    """Offsets (x, y, z) of a cubic kernel in cells of the input, in the order of the weight slices.

    x runs fastest, then y, then z. An odd kernel is centered, an even one starts at the voxel.

    Source: MinkowskiEngine 0.5.4, region type HYPER_CUBE (order found by impulse tests).
    """
    start = -(kernel_size // 2) if kernel_size % 2 else 0
    steps = [dilation * (start + i) for i in range(kernel_size)]
    return tuple((x, y, z) for z in steps for y in steps for x in steps)


class NeighborTable:
    """Source row that each target row meets under each of the K offsets of a kernel.

    Its pairs and its transpose are made when first asked for, and kept.
    """

    def __init__(
        self,
        rows: Tensor,
        n_source: int,
        *,
        symmetric: bool = False,
        one_target: bool = False,
        one_source: bool = False,
        transposed: NeighborTable | None = None,
    ) -> None:
        """Take the table.

        Args:
            rows: (K, n_target) int32 source rows; `n_source` where no voxel is. Within an offset
                no other appears twice.
            n_source: number of source rows.
            symmetric: the pairs of offset K-1-k are those of offset k, source and target exchanged.
            one_target: every source row has exactly one target, as where the kernel is as large
                as the stride.
            one_source: every target row has exactly one source.
            transposed: the table with source and target exchanged, where it is known.
        """
        self.rows, self.n_source, self.n_target = rows, n_source, rows.shape[1]
        self.symmetric, self.one_target, self.one_source = symmetric, one_target, one_source
        self._transposed = transposed

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Pairs of each of the K offsets."""
        return tuple((self.rows < self.n_source).sum(dim=1).tolist())

    @cached_property
    def pairs(self) -> tuple[Tensor, Tensor]:
        """(P,) int32 source and target rows by offset, targets ascending within one."""
        present = self.rows < self.n_source  # (K, n_target) bool
        target = torch.arange(self.n_target, dtype=torch.int32, device=self.rows.device)
        return self.rows[present], target.expand_as(self.rows)[present]  # (P,) each

    @property
    def transposed(self) -> NeighborTable:
        """The same pairs with sources and targets exchanged; for tables that are not symmetric."""
        if self._transposed is None:
            self._transposed = self._exchanged()
        return self._transposed

    @torch.inference_mode(False)
    def _exchanged(self) -> NeighborTable:
        shape = (len(self.rows), self.n_source + 1)  # one more for what is absent
        rows = self.rows.new_full(shape, self.n_target)  # (K, n_source + 1) int32
        target = torch.arange(self.n_target, dtype=torch.int32, device=self.rows.device)
        rows.scatter_(1, self.rows.long(), target.expand_as(self.rows))  # rows[k, source] = target
        return NeighborTable(
            rows[:, :-1].contiguous(),
            self.n_target,
            one_target=self.one_source,
            one_source=self.one_target,
            transposed=self,
        )

    @property
    def nbytes(self) -> int:
        """Bytes of the table and what was made from it."""
        sides = [self] if self._transposed is None else [self, self._transposed]
        return sum(side.rows.nbytes for side in sides)


@dataclass(frozen=True, eq=False)
class KernelMap:
    """Pairs (source row, target row) for each of the K offsets, and the weights they meet."""

    table: NeighborTable
    slices: tuple[int, ...] | None = None
    """Which slice of the weights each offset takes, where it is not the one of its own number."""

    @property
    def n_source(self) -> int:
        """Rows of the input."""
        return self.table.n_source

    @property
    def n_target(self) -> int:
        """Rows of the output."""
        return self.table.n_target

    @property
    def symmetric(self) -> bool:
        """Whether offset K-1-k has the pairs of offset k with source and target exchanged."""
        return self.table.symmetric

    @property
    def counts(self) -> tuple[int, ...]:
        """Pairs of each of the K offsets."""
        return self.table.counts

    @property
    def transposed(self) -> KernelMap:
        """The same pairs with sources and targets exchanged."""
        if not self.symmetric:
            return KernelMap(self.table.transposed, self.slices)
        slices = range(len(self.table.rows)) if self.slices is None else self.slices
        return KernelMap(self.table, tuple(slices)[::-1])

    def with_slices(self, slices: tuple[int, ...]) -> KernelMap:
        """The same pairs for weights whose slices are taken in another order."""
        return KernelMap(self.table, slices)

    def weights(self, kernel: Tensor) -> list[Tensor]:
        """K views of (C_in, C_out) into (K, C_in, C_out), in the order of the offsets."""
        own = kernel.unbind(0)
        return list(own) if self.slices is None else [own[i] for i in self.slices]

    def pairs(self) -> tuple[Tensor, Tensor]:
        """(P,) int32 source and (P,) int32 target rows of all offsets together."""
        return self.table.pairs

    @property
    def nbytes(self) -> int:
        """Bytes that the map keeps, both sides together."""
        return self.table.nbytes


def build_kernel_map(
    in_coords: Tensor,
    out_coords: Tensor,
    bounds: Bounds,
    in_stride: int,
    out_stride: int,
    kernel_size: int,
    dilation: int,
) -> KernelMap:
    """Pair each output voxel u with the input voxels at u + d(k), d(k) the offsets of the kernel.

    Args:
        in_coords: (V_in, 4) int32, sorted by (batch, x, y, z), multiples of `in_stride`.
        out_coords: (V_out, 4) int32, likewise, multiples of `out_stride`.
        bounds: box around the finest voxels that both were made from.
        in_stride: of the input voxels, in finest voxels.
        out_stride: of the output voxels.
        kernel_size: offsets along each axis.
        dilation: distance between offsets, in input voxels.

    Returns:
        the map, whose table is (K, V_out) int32 with K = kernel_size^3.
    """
    offsets = kernel_offsets(kernel_size, dilation)
    reach = max(abs(c) for offset in offsets for c in offset)
    space = VoxelKeyCodec.around(bounds, in_stride, reach + out_stride // in_stride)
    keys = space.pack(_in_cells(in_coords, in_stride))  # (V_in,) int64, ascending
    symmetric = in_stride == out_stride and kernel_size % 2 == 1
    # (V_out,) int64, ascending
    wanted = keys if symmetric else space.pack(_in_cells(out_coords, in_stride))
    deltas = torch.tensor([space.delta(offset) for offset in offsets], dtype=torch.int64)  # (K,)
    search = merge_scan_neighbors if keys.device.type == "cpu" else binary_search_neighbors
    rows = search(keys, wanted, deltas.view(kernel_size, -1), dilation)  # (K, V_out) int32
    even = kernel_size % 2 == 0  # an odd kernel is centered, and leaves cells beyond its end
    one_target = even and kernel_size * in_stride == out_stride and dilation == 1
    return KernelMap(NeighborTable(rows, len(keys), symmetric=symmetric, one_target=one_target))


def _in_cells(coords: Tensor, stride: int) -> Tensor:
    """(V, 4) int32: coordinates counted in voxels of edge `stride`; the batch index stays."""
    if stride == 1:
        return coords
    cells = torch.div(coords, stride, rounding_mode="floor")
    cells[:, 0] = coords[:, 0]
    return cells
