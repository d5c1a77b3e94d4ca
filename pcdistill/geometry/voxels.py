"""Voxelization: points binned into the cells of a regular grid."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from pcdistill.geometry.checks import require_finite, require_shape

_INT32_MAX = 2**31 - 1


class Voxels(NamedTuple):
    """The occupied cells of a grid, and which point is in which."""

    coords: Tensor
    """(V, 3) int32 in units of the voxel size, rows sorted by (x, y, z)."""
    point_to_voxel: Tensor
    """(N,) int64 in [0, V); -1 for points outside the clip box."""
    representative: Tensor
    """(V,) int64: the lowest index of the points in each voxel."""


def voxelize(
    points: Tensor,
    voxel_size: float,
    *,
    origin: Literal["minimum"] | Tensor | None = "minimum",
    transform: Tensor | None = None,
    clip_box: Tensor | None = None,
) -> Voxels:
    """Bin points into cubic voxels: ``floor(point * (1 / voxel_size))`` in float64.

    Args:
        points: (N, 3) float, metres.
        voxel_size: metres.
        origin: ``"minimum"`` shifts the coordinates so that the smallest of each axis is 0, as the
            reference does; None keeps them on the grid through the world origin, signed; (3,)
            integer is the cell of that grid that becomes (0, 0, 0).
        transform: (4, 4) float applied to the points first (an augmentation), or None.
        clip_box: (3, 2) float, metres: lower and upper bound per axis, relative to the centre of
            the points' bounding box before the transform. Points below a lower bound, or at or
            above an upper bound, belong to no voxel.

    Returns:
        `Voxels` on the device of `points`.

    Raises:
        ValueError: wrong shape, a non-finite coordinate, a voxel size that is not positive, or a
            grid too large for the coordinates.

    Source: OpenScene's released voxeliser, without its random augmentation.
    """
    require_shape("points", points, None, 3)
    require_finite("points", points)
    if not 0 < voxel_size < float("inf"):
        raise ValueError(f"voxel_size must be a positive length in metres, got {voxel_size}")
    if isinstance(origin, Tensor):
        require_shape("origin", origin, 3)
    elif origin not in ("minimum", None):
        raise ValueError(f"origin must be 'minimum' or None, got {origin!r}")
    kept = None
    if clip_box is not None:
        kept = torch.nonzero(_inside_box(points, clip_box))[:, 0]
    positions = (points if kept is None else points[kept]).double()
    if transform is not None:
        require_shape("transform", transform, 4, 4)
        matrix = transform.to(positions)
        positions = positions @ matrix[:3, :3].T + matrix[:3, 3]
    cells = (positions * (1.0 / voxel_size)).floor_()  # (N, 3) whole numbers
    coords, point_to_voxel, representative = _unique_cells(cells, origin)
    if kept is not None:
        everywhere = point_to_voxel.new_full((len(points),), -1)
        everywhere[kept] = point_to_voxel
        point_to_voxel, representative = everywhere, kept[representative]
    return Voxels(coords, point_to_voxel, representative)


def _inside_box(points: Tensor, clip_box: Tensor) -> Tensor:
    """(N,) bool: lower bounds inclusive, upper exclusive, relative to the bounding-box centre."""
    require_shape("clip_box", clip_box, 3, 2)
    if len(points) == 0:
        return points.new_zeros(0, dtype=torch.bool)
    low, high = points.amin(0), points.amax(0)
    center = low + (high - low) * 0.5
    lower, upper = (center.double() + clip_box.to(points.device).double().T).unbind(0)
    return ((points >= lower) & (points < upper)).all(dim=1)


def _unique_cells(
    cells: Tensor, origin: Literal["minimum"] | Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct rows of (N, 3) whole numbers in float64, sorted, with inverse and first index."""
    if len(cells) == 0:
        index = torch.zeros(0, dtype=torch.int64, device=cells.device)
        return cells.to(torch.int32), index, index.clone()
    low, high = cells.amin(0), cells.amax(0)
    extent = (high - low + 1).tolist()
    if isinstance(origin, Tensor):
        first = low - origin.to(low)  # coordinates of the lowest cell
    else:
        first = torch.zeros_like(low) if origin == "minimum" else low
    largest = max(max(extent), float(torch.stack([first, first + (high - low)]).abs().max()))
    if largest > _INT32_MAX or extent[0] * extent[1] * extent[2] >= 2.0**62:
        raise ValueError(
            f"the grid spans {extent[0]:.3g} x {extent[1]:.3g} x {extent[2]:.3g} voxels, which "
            "32-bit coordinates cannot hold; check the unit of the points or remove outliers"
        )
    shifted = (cells - low).long()
    keys = cell_keys(shifted, (int(extent[1]), int(extent[2])))
    ordered, order = torch.sort(keys, stable=True)
    starts = torch.ones_like(ordered, dtype=torch.bool)
    starts[1:] = ordered[1:] != ordered[:-1]
    point_to_voxel = torch.empty_like(order)
    point_to_voxel[order] = torch.cumsum(starts, dim=0) - 1
    representative = order[starts]
    coords = shifted[representative] + first.long()
    return coords.to(torch.int32), point_to_voxel, representative


def cell_keys(cells: Tensor, extent_yz: tuple[int, int]) -> Tensor:
    """One int64 per non-negative cell; keys sort as (x, y, z) does.

    Args:
        cells: (N, 3) int64, >= 0.
        extent_yz: number of cells along y and z; larger than any y and z.

    Returns:
        (N,) int64.
    """
    return (cells[:, 0] * extent_yz[0] + cells[:, 1]) * extent_yz[1] + cells[:, 2]
