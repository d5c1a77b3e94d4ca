"""Depth of a view where no sensor measured it: of a mesh by ray casting, of points by splatting."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from pcdistill.geometry.cameras import camera_rays, invert_pose, project_to_pixels
from pcdistill.geometry.checks import require_finite, require_shape

SPACING_NEIGHBOURS = 4
"""On a square grid the fourth neighbour is one cell away, as are the first three."""
_WIDEST_SPACING = 4.0  # times the median; lone points do not hide what is far behind them
_WIDEST_SPLAT = 12.0  # pixels; nearer surfaces are dense enough, and discs cost their area
_NEAREST = 1e-3  # metres; what is nearer lies in the camera


class MeshDepth:
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

    def view(
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


def point_spacing(points: Tensor, neighbours: int = SPACING_NEIGHBOURS) -> Tensor:
    """How far apart the points of a cloud are around each point.

    Args:
        points: (N, 3) float, metres.
        neighbours: the distance to the neighbour of this number is the spacing.

    Returns:
        (N,) float32, metres, at most four times the median of the cloud; 0 for a single point.

    Raises:
        ValueError: wrong shape, non-finite points, or no neighbour is asked for.
    """
    require_shape("points", points, None, 3)
    require_finite("points", points)
    if neighbours < 1:
        raise ValueError(f"neighbours is {neighbours}, expected at least 1")
    count = min(neighbours, len(points) - 1)
    if count < 1:
        return torch.zeros(len(points), device=points.device)
    cloud = points.detach().cpu().double().numpy()
    distances, _ = cKDTree(cloud).query(cloud, k=[count + 1])
    spacing = torch.from_numpy(distances[:, 0]).float()
    return spacing.clamp(max=_WIDEST_SPACING * float(spacing.median())).to(points.device)


def splat_depth(
    points: Tensor,
    spacing: Tensor,
    camera_to_world: Tensor,
    intrinsics: Tensor,
    image_size: tuple[int, int],
) -> Tensor:
    """Depth of one view of a point cloud: every point is a disc that faces the camera.

    The disc of a point at depth z has a radius of ``focal length * spacing / z`` pixels, which
    closes the gaps of a surface whose points are `spacing` apart; at least half a pixel (its own
    pixel) and at most 12. It covers the pixels whose centres are that near to the centre of the
    pixel in which the point lands. The nearest disc of a pixel gives its depth.

    Args:
        points: (N, 3) float, metres, world frame.
        spacing: (N,) float, metres, see `point_spacing`.
        camera_to_world: (4, 4) float, metres; +x right, +y down, +z forward.
        intrinsics: (3, 3) float, pixels; integer coordinates are pixel centres.
        image_size: (H, W).

    Returns:
        (H, W) float32, metres along the optical axis, 0 where no disc is; on the device of
        `points`.

    Raises:
        ValueError: an argument has another shape, or a pose is not finite.
    """
    require_shape("points", points, None, 3)
    require_shape("spacing", spacing, len(points))
    height, width = image_size
    world_to_camera = invert_pose(camera_to_world).to(points.device)
    pixels, z = project_to_pixels(points.double(), world_to_camera, intrinsics.double())
    near = (z > _NEAREST) & z.isfinite() & pixels.isfinite().all(dim=1)
    pixels, z, spacing = pixels[near].round(), z[near], spacing[near].double()
    focal = float(intrinsics[[0, 1], [0, 1]].double().mean())
    radius = (focal * spacing / z).clamp(0.5, _WIDEST_SPLAT)
    reach = radius.ceil()
    inside = (pixels[:, 0] > -1 - reach) & (pixels[:, 0] < width + reach)
    inside &= (pixels[:, 1] > -1 - reach) & (pixels[:, 1] < height + reach)
    pixels, z, radius = pixels[inside].long(), z[inside].float(), radius[inside]

    widest_first = radius.argsort(descending=True)
    pixels, z, radius = pixels[widest_first], z[widest_first], radius[widest_first]
    depth = torch.full((height * width,), torch.inf, device=points.device)
    for right, down, distance in _disc_offsets(float(radius[0]) if len(radius) else 0.0):
        covering = int((radius >= distance).sum())
        columns, rows = pixels[:covering, 0] + right, pixels[:covering, 1] + down
        seen = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
        depth.scatter_reduce_(0, (rows * width + columns)[seen], z[:covering][seen], "amin")
    depth[~depth.isfinite()] = 0
    return depth.view(height, width)


def _disc_offsets(radius: float) -> list[tuple[int, int, float]]:
    """Offsets (column, row, distance) of the pixel centres within `radius` pixels."""
    reach = int(radius)
    steps = range(-reach, reach + 1)
    offsets = [(right, down, float(np.hypot(right, down))) for right in steps for down in steps]
    return [offset for offset in offsets if offset[2] <= radius]
