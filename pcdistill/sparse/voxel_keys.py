"""Voxel coordinates as one sortable 64-bit integer each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

COORDINATE_LIMIT = 2**30
"""Largest magnitude of a coordinate, so that a neighbor still fits int32."""

KEY_LIMIT = 2**62
"""Number of cells that one key space may hold."""


class Bounds(NamedTuple):
    """The smallest box around all voxels, in units of the finest voxel, both ends included."""

    low: tuple[int, int, int, int]
    """(batch, x, y, z)."""
    high: tuple[int, int, int, int]


@dataclass(frozen=True)
class VoxelKeyCodec:
    """Mixed-radix numbers of the cells of a box: keys ascend with (batch, x, y, z).

    The numbering is linear: the key of a cell plus `delta` of an offset is the key of the
    neighboring cell, as long as that cell is inside the box.
    """

    low: tuple[int, int, int, int]
    """First (batch, x, y, z) of the box, in its own cells."""
    extent: tuple[int, int, int, int]
    """Cells of the box along each of them."""

    @staticmethod
    def around(bounds: Bounds, stride: int, margin: int) -> VoxelKeyCodec:
        """Number the cells that cover a box.

        Args:
            bounds: the box, in finest voxels.
            stride: edge of a cell, in finest voxels.
            margin: cells that are added on each side along x, y and z.

        Raises:
            ValueError: the box holds more cells than a key can number.
        """
        low = [bounds.low[0]] + [c // stride - margin for c in bounds.low[1:]]
        high = [bounds.high[0]] + [c // stride + margin for c in bounds.high[1:]]
        extent = [end - begin + 1 for begin, end in zip(low, high, strict=True)]
        if extent[0] * extent[1] * extent[2] * extent[3] >= KEY_LIMIT:
            raise ValueError(
                f"voxel coordinates run from {bounds.low} to {bounds.high} (batch, x, y, z), which "
                f"is more cells than the {KEY_LIMIT} that can be told apart; remove stray points, "
                "use larger voxels or split the batch"
            )
        return VoxelKeyCodec((low[0], low[1], low[2], low[3]), (*extent,))  # type: ignore[arg-type]

    def pack(self, cells: Tensor) -> Tensor:
        """Number cells.

        Args:
            cells: (V, 4) integer, (batch, x, y, z) in units of this space's cells, inside the box.

        Returns:
            (V,) int64.
        """
        key = cells[:, 0].to(torch.int64) - self.low[0]  # (V,)
        for axis in (1, 2, 3):
            key = key * self.extent[axis] + (cells[:, axis].to(torch.int64) - self.low[axis])
        return key

    def delta(self, offset: tuple[int, int, int]) -> int:
        """Difference of keys for an (x, y, z) offset in cells."""
        x, y, z = offset
        return (x * self.extent[2] + y) * self.extent[3] + z


def voxel_bounds(coords: Tensor) -> Bounds:
    """Compute the box around voxels; a box around the origin when there are none.

    Args:
        coords: (V, 4) integer (batch, x, y, z).

    Raises:
        ValueError: a batch index is negative or a coordinate exceeds `COORDINATE_LIMIT`.
    """
    if coords.shape[0] == 0:
        return Bounds((0, 0, 0, 0), (0, 0, 0, 0))
    ends = torch.stack((coords.amin(dim=0), coords.amax(dim=0))).to(torch.int64).tolist()  # (2, 4)
    low, high = tuple(ends[0]), tuple(ends[1])
    if low[0] < 0:
        raise ValueError(f"coords has a negative batch index {low[0]}, expected 0 or more")
    if min(low[1:]) < -COORDINATE_LIMIT or max(high) > COORDINATE_LIMIT:
        raise ValueError(
            f"voxel coordinates run from {low} to {high} (batch, x, y, z), beyond the limit of "
            f"+-{COORDINATE_LIMIT}; remove stray points or use larger voxels"
        )
    return Bounds(low, high)
