"""Symmetries of the voxel grid: rotations by quarter turns, and reflections."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from pcdistill.sparse.kernel_map import kernel_offsets


class GridSymmetry(NamedTuple):
    """Rotation by quarter turns, or reflection, that maps the voxel grid onto itself."""

    axes: tuple[int, int, int] = (0, 1, 2)
    """Axis that is found on x, y and z afterwards."""
    flips: tuple[bool, bool, bool] = (False, False, False)
    """Whether it then runs backwards: cell c becomes cell -1 - c."""

    def matrix(self) -> Tensor:
        """(3, 3) float64 that maps directions: matrix @ direction."""
        turn = torch.zeros(3, 3, dtype=torch.float64)
        for row, (axis, flip) in enumerate(zip(self.axes, self.flips, strict=True)):
            turn[row, axis] = -1.0 if flip else 1.0
        return turn

    def cells(self, coords: Tensor) -> Tensor:
        """(V, 3) integer: where the cells `coords` (V, 3) are afterwards."""
        turned = coords[:, list(self.axes)]  # (V, 3)
        return torch.where(torch.tensor(self.flips, device=coords.device), -1 - turned, turned)


@lru_cache(maxsize=256)
def kernel_permutation(
    turn: GridSymmetry, kernel_size: int, stride: int, dilation: int = 1
) -> tuple[int, ...]:
    """Permutation of a kernel's slices that stands for turning the grid.

    Args:
        turn: of the grid.
        kernel_size: offsets along each axis.
        stride: output voxels' edge by that of the input voxels.
        dilation: distance between offsets, in input voxels.

    Returns:
        the slice of the weights that each of the kernel_size^3 offsets takes.

    Raises:
        ValueError: an odd kernel with a stride has no counterpart in a grid that runs backwards.
    """
    if kernel_size % 2 and stride > 1 and any(turn.flips):
        raise ValueError(
            f"a kernel of size {kernel_size} and stride {stride} cannot be mirrored on the grid; "
            "mirror the points instead"
        )
    offsets = kernel_offsets(kernel_size, dilation)
    number = {offset: k for k, offset in enumerate(offsets)}
    last = 0 if kernel_size % 2 else dilation * (kernel_size - 1)

    def turned(offset: tuple[int, int, int]) -> tuple[int, int, int]:
        x, y, z = (
            last - offset[axis] if flip else offset[axis]
            for axis, flip in zip(turn.axes, turn.flips, strict=True)
        )
        return x, y, z

    return tuple(number[turned(offset)] for offset in offsets)
