"""Uniform grid over the points for frustum culling."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pcdistill.geometry.cameras import invert_pose
from pcdistill.geometry.checks import require_shape
from pcdistill.geometry.visibility import check_view, project_visible

_CELLS_ALONG = 48
"""Cells along the longest side of the points; for a room, a few tens of points a cell."""
_SLACK = 1e-9
"""Relative; cells that a view misses by less than rounding are kept."""


class VisiblePoints(NamedTuple):
    """The points that one frame sees."""

    seen: Tensor
    """(M,) int64, ascending."""
    pixels: Tensor
    """(M, 2) int64, (column, row) of each."""


class PointGrid:
    """The points of a scene, ordered once so that every frame of it is quick.

    A view keeps the cells whose box its frustum may touch: the four sides of the image without its
    border, the plane of the camera, and where there is a depth image the nearest and farthest
    reading with their tolerance. Only points of these cells are projected, by the arithmetic of
    `project_points`, so that the answer is the same to the last bit. Points with non-finite
    coordinates are in no cell.

    Args:
        points: (N, 3) float, metres, world frame.

    Raises:
        ValueError: wrong shape.
    """

    def __init__(self, points: Tensor) -> None:
        require_shape("points", points, None, 3)
        kept = points.isfinite().all(dim=1).nonzero()[:, 0]
        positions = points[kept].double()
        cells, order = _cells_of(positions).sort(stable=True)
        _, sizes = torch.unique_consecutive(cells, return_counts=True)
        ordered = positions[order]
        self._index = kept[order]
        self._positions = ordered.T.contiguous()  # (3, P)
        self._sizes = sizes
        self._first = sizes.cumsum(0) - sizes
        low, high = (
            torch.segment_reduce(ordered, bound, lengths=sizes, axis=0, unsafe=True)
            for bound in ("min", "max")
        )
        self._centers = (low + high) / 2
        self._halves = (high - low) / 2

    def visible_from(
        self,
        camera_to_world: Tensor,
        intrinsics: Tensor,
        image_size: tuple[int, int],
        depth: Tensor | None = None,
        *,
        depth_tolerance: float = 0.25,
        border: int = 10,
    ) -> VisiblePoints:
        """Find the points that one frame sees, by the rules of `project_points`.

        Args:
            camera_to_world: (4, 4) float, metres.
            intrinsics: (3, 3) float, pixels.
            image_size: (H, W), pixels.
            depth: (H, W) float32, metres, 0 = unknown; None without an occlusion test.
            depth_tolerance: of the occlusion test, relative to the measured depth.
            border: pixels along the image border that see nothing.

        Returns:
            What `project_points` calls visible, on the device of the points.

        Raises:
            ValueError: as `project_points`.
        """
        check_view(intrinsics, image_size, depth, depth_tolerance, border)
        device = self._index.device
        world_to_camera = invert_pose(camera_to_world).to(device)
        matrix = intrinsics.to(device, torch.float64)
        near, far = 0.0, torch.inf
        if depth is not None:
            readings = depth[(depth > 0) & depth.isfinite()]
            if len(readings) == 0:
                near = torch.inf
            else:
                near = (1 - depth_tolerance) * float(readings.min())
                far = (1 + depth_tolerance) * float(readings.max())
        kept = self._touched(world_to_camera, matrix, image_size, border, near, far)
        chosen = _ranges(self._first[kept], self._sizes[kept])
        inside, pixels, _ = project_visible(
            self._positions[:, chosen],
            world_to_camera,
            matrix,
            image_size,
            depth,
            depth_tolerance,
            border,
        )
        seen, order = self._index[chosen[inside]].sort()
        return VisiblePoints(seen, pixels[order])

    def _touched(
        self,
        world_to_camera: Tensor,
        intrinsics: Tensor,
        image_size: tuple[int, int],
        border: int,
        near: float,
        far: float,
    ) -> Tensor:
        """(C,) bool: cells whose box reaches into every half-space of the frustum."""
        planes = _frustum(intrinsics, image_size, border)  # (5, 3), through the camera's centre
        rotation, translation = world_to_camera[:3, :3], world_to_camera[:3, 3]
        normals, offsets = planes @ rotation, planes @ translation
        nearest, reach = self._extent(normals, offsets)
        touched = (nearest + reach >= 0).all(dim=1)
        z, reach_z = self._extent(normals[4:], offsets[4:])
        touched &= (z + reach_z >= near * (1 - _SLACK))[:, 0]
        touched &= (z - reach_z <= far * (1 + _SLACK))[:, 0]
        return touched

    def _extent(self, normals: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """Signed distance of each box's centre to each plane and how far the box reaches, (C, P).

        Distances are in units of the length of a plane's normal.
        """
        size = self._centers.abs() @ normals.abs().T + offsets.abs()
        middle = self._centers @ normals.T + offsets
        return middle, self._halves @ normals.abs().T + _SLACK * size


def _frustum(intrinsics: Tensor, image_size: tuple[int, int], border: int) -> Tensor:
    """(5, 3) float64: camera-frame normals of left, right, top, bottom, and the image plane.

    A point in front of the camera that rounds into the image has a product >= 0 with each.
    """
    height, width = image_size
    u, v = intrinsics[0], intrinsics[1]
    z = torch.tensor([0, 0, 1], dtype=torch.float64, device=intrinsics.device)
    v = torch.stack([torch.zeros_like(v[0]), v[1], v[2]])
    low, right, bottom = border - 0.5, width - border - 0.5, height - border - 0.5
    return torch.stack([u - low * z, right * z - u, v - low * z, bottom * z - v, z])


def _cells_of(positions: Tensor) -> Tensor:
    """(P,) int64: a number for the cell of each point."""
    if len(positions) == 0:
        return torch.zeros(0, dtype=torch.int64, device=positions.device)
    low, high = positions.aminmax(dim=0)
    edge = float((high - low).max()) / _CELLS_ALONG
    if not 0 < edge < torch.inf:
        return torch.zeros(len(positions), dtype=torch.int64, device=positions.device)
    x, y, z = ((positions - low) / edge).floor().long().clamp_(0, _CELLS_ALONG).unbind(1)
    return (x * (_CELLS_ALONG + 1) + y) * (_CELLS_ALONG + 1) + z


def _ranges(first: Tensor, sizes: Tensor) -> Tensor:
    """All numbers of the ranges [first, first + size), one range after the other."""
    if len(first) == 0:
        return first
    before = sizes.cumsum(0) - sizes
    total = int(sizes.sum())
    start = (first - before).repeat_interleave(sizes, output_size=total)
    return start + torch.arange(total, device=first.device)
