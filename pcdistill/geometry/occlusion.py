"""Rendered depth for occlusion tests: ray casting of a mesh, splatting of points."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pcdistill.geometry.cameras import camera_rays, invert_pose, project_to_pixels
from pcdistill.geometry.checks import require_finite, require_shape
from pcdistill.geometry.neighbors import ThinnedTree
from pcdistill.jit import njit

SPACING_NEIGHBORS = 4
"""On a square grid the fourth neighbour is one cell away, as are the first three."""
_MAX_SPACING = 4.0  # times the median; lone points do not hide what is far behind them
_DISC_RADIUS = 0.8  # of the spacing; discs on a square grid close all gaps from 0.71 on
_MAX_DISC = 256  # pixels from the centre; what is nearer lies almost in the camera
_NEAREST = 1e-3  # metres; what is nearer lies in the camera


class MeshDepthRenderer:
    """Depth of any view of a triangle mesh, by casting a ray through pixel centres.

    Both sides of a triangle are seen, because scans hold surfaces and not bodies.

    Args:
        points: (N, 3) float, metres, world frame.
        faces: (F, 3) int64, triangles over `points`.

    Raises:
        ValueError: an argument does not have the shape above.
    """

    def __init__(self, points: Tensor, faces: Tensor) -> None:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene

        require_shape("points", points, None, 3)
        require_shape("faces", faces, None, 3)
        self._scene: Any = EmbreeScene()
        corners = points.detach().cpu().float()[faces.cpu()]
        TriangleMesh(self._scene, np.ascontiguousarray(corners.numpy()))

    def render(
        self,
        camera_to_world: Tensor,
        intrinsics: Tensor,
        image_size: tuple[int, int],
        pixels: Tensor | None = None,
    ) -> Tensor:
        """Depth of one view.

        Args:
            camera_to_world: (4, 4) float, metres; +x right, +y down, +z forward.
            intrinsics: (3, 3) float, pixels; integer coordinates are pixel centres.
            image_size: (H, W).
            pixels: (M, 2) int64, (column, row) inside of the image: cast only these, which is
                all that a visibility test needs; the others are 0.

        Returns:
            (H, W) float32, metres along the optical axis, 0 where nothing is hit.

        Raises:
            ValueError: a matrix has another shape or is not finite.
        """
        height, width = image_size
        if pixels is None:
            wanted = torch.arange(height * width)
        else:
            require_shape("pixels", pixels, None, 2)
            wanted = torch.unique(pixels[:, 1].cpu() * width + pixels[:, 0].cpu())
        depth = torch.zeros(height * width)
        if len(wanted):
            depth[wanted] = self._cast(camera_to_world, intrinsics, wanted, width)
        return depth.view(height, width)

    def _cast(
        self, camera_to_world: Tensor, intrinsics: Tensor, wanted: Tensor, width: int
    ) -> Tensor:
        require_shape("camera_to_world", camera_to_world, 4, 4)
        require_finite("camera_to_world", camera_to_world)
        require_shape("intrinsics", intrinsics, 3, 3)
        require_finite("intrinsics", intrinsics)
        pose = camera_to_world.detach().cpu().double()
        rays = camera_rays(wanted, width, intrinsics.detach().cpu())  # (P, 3), of depth one
        directions = np.ascontiguousarray((rays @ pose[:3, :3].T).float().numpy())
        origins = np.ascontiguousarray(np.broadcast_to(pose[:3, 3].float().numpy(), rays.shape))
        found = self._scene.run(origins, directions, output=True)
        distance = np.where(found["primID"] >= 0, found["tfar"], 0)
        return torch.from_numpy(distance.astype(np.float32))


def point_spacing(points: Tensor, neighbors: int = SPACING_NEIGHBORS) -> Tensor:
    """Measure how far apart the points of a cloud are around each point.

    Args:
        points: (N, 3) float, metres.
        neighbors: the distance to the neighbour of this number is the spacing.

    Returns:
        (N,) float32, metres, at most four times the median of the cloud; 0 for a single point.

    Raises:
        ValueError: wrong shape, non-finite points, or no neighbour is asked for.
    """
    require_shape("points", points, None, 3)
    require_finite("points", points)
    if neighbors < 1:
        raise ValueError(f"neighbors is {neighbors}, expected at least 1")
    count = min(neighbors, len(points) - 1)
    if count < 1:
        return torch.zeros(len(points), device=points.device)
    cloud = points.detach().cpu().double().numpy()
    distances, _ = ThinnedTree(cloud, count + 1).nearest(cloud, count + 1)
    spacing = torch.from_numpy(distances[:, -1]).float()
    return spacing.clamp(max=_MAX_SPACING * float(spacing.median())).to(points.device)


def splat_depth(
    points: Tensor,
    normals: Tensor,
    spacing: Tensor,
    camera_to_world: Tensor,
    intrinsics: Tensor,
    image_size: tuple[int, int],
) -> Tensor:
    """Render the depth of a point cloud: every point is a disc that lies in its surface.

    The disc of a point has a radius of 0.8 of the spacing, which closes the gaps of a surface whose
    points are `spacing` apart. A pixel sees the disc where the ray through its centre meets it (at
    most 256 pixels away), and at the depth where it does, so that a floor seen at a flat angle
    does not hide itself. A point without a normal is seen in its own pixel alone, as is each point
    at least. The nearest of all gives a pixel's depth.

    Args:
        points: (N, 3) float, metres, world frame.
        normals: (N, 3) float, of the surface around each point, of either sign; zero if unknown.
        spacing: (N,) float, metres, see `point_spacing`.
        camera_to_world: (4, 4) float, metres; +x right, +y down, +z forward.
        intrinsics: (3, 3) float, pixels; integer coordinates are pixel centres.
        image_size: (H, W).

    Returns:
        (H, W) float32, metres along the optical axis, 0 where no disc is; on the device of
        `points`. Computed on the CPU.

    Raises:
        ValueError: an argument has another shape, or a pose is not finite.

    Source: Pfister et al., Surfels: surface elements as rendering primitives, SIGGRAPH 2000.
    """
    require_shape("points", points, None, 3)
    require_shape("normals", normals, len(points), 3)
    require_shape("spacing", spacing, len(points))
    world_to_camera = invert_pose(camera_to_world).cpu()
    matrix = intrinsics.detach().cpu().double()
    pixels, z = project_to_pixels(points.detach().cpu().double(), world_to_camera, matrix)
    near = (z > _NEAREST) & z.isfinite() & pixels.isfinite().all(dim=1)
    near &= (pixels.abs() < _MAX_DISC + max(image_size)).all(dim=1)
    rotation, translation = world_to_camera[:3, :3], world_to_camera[:3, 3]
    depth = np.full(image_size, np.inf, dtype=np.float32)
    _draw_discs(
        depth,
        pixels[near].round().long().numpy(),
        (points.detach().cpu()[near].double() @ rotation.T + translation).numpy(),
        (normals.detach().cpu()[near].double() @ rotation.T).numpy(),
        _DISC_RADIUS * spacing.detach().cpu()[near].double().numpy(),
        matrix.numpy(),
        torch.linalg.inv(matrix).numpy(),
    )
    depth[np.isinf(depth)] = 0
    return torch.from_numpy(depth).to(points.device)


def zbuffer_depth(pixels: Tensor, depth: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Render the depth of the nearest point that lands in each pixel.

    Args:
        pixels: (M, 2) int64, (column, row) inside of the image.
        depth: (M,) float, metres along the optical axis.
        image_size: (H, W).

    Returns:
        (H, W) float32, metres, 0 where no point lands; on the device of `pixels`.

    Raises:
        ValueError: an argument has another shape.
    """
    require_shape("pixels", pixels, None, 2)
    require_shape("depth", depth, len(pixels))
    height, width = image_size
    nearest = torch.full((height * width,), torch.inf, device=pixels.device)
    nearest.scatter_reduce_(0, pixels[:, 1] * width + pixels[:, 0], depth.float(), "amin")
    nearest[nearest.isinf()] = 0
    return nearest.view(height, width)


@njit(nogil=True)
def _draw_discs(depth, pixels, positions, normals, radii, matrix, inverse):  # type: ignore[no-untyped-def]
    """Lower `depth`, (H, W), to the discs around `positions`, all in the camera's frame."""
    height, width = depth.shape
    for i in range(len(pixels)):
        column, row = pixels[i]
        x, y, z = positions[i]
        if 0 <= column < width and 0 <= row < height:
            depth[row, column] = min(depth[row, column], z)
        radius = radii[i]
        across, down = _reach(matrix, x, y, z, radius)
        height_over_plane = np.dot(normals[i], positions[i])
        for v in range(max(row - down, 0), min(row + down + 1, height)):
            for u in range(max(column - across, 0), min(column + across + 1, width)):
                ray_x = inverse[0, 0] * u + inverse[0, 1] * v + inverse[0, 2]
                ray_y = inverse[1, 1] * v + inverse[1, 2]
                slope = normals[i, 0] * ray_x + normals[i, 1] * ray_y + normals[i, 2]
                if slope == 0.0:
                    continue
                met = height_over_plane / slope
                off = (met * ray_x - x) ** 2 + (met * ray_y - y) ** 2 + (met - z) ** 2
                if met > 0.0 and off <= radius * radius and met < depth[v, u]:
                    depth[v, u] = met


@njit(nogil=True)
def _reach(matrix, x, y, z, radius):  # type: ignore[no-untyped-def]
    """Columns and rows from its centre within which a ball of `radius` is seen."""
    if z <= radius:
        return _MAX_DISC, _MAX_DISC
    widest = radius / (z - radius)
    rows = matrix[1, 1] * widest * (1 + abs(y) / z)
    columns = matrix[0, 0] * widest * (1 + abs(x) / z) + abs(matrix[0, 1]) * rows / matrix[1, 1]
    return (
        min(math.ceil(columns) + 1, _MAX_DISC),
        min(math.ceil(rows) + 1, _MAX_DISC),
    )
