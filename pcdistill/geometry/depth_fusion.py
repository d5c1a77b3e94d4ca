"""Depth fusion: posed depth images to one coloured point cloud with normals."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pcdistill.geometry.cameras import back_project
from pcdistill.geometry.checks import require_finite, require_shape
from pcdistill.jit import njit

_WINDOW = 3  # pixels on each side of the plane fit; 7 x 7 tames a Kinect's depth steps
_KEY_BITS = 21  # per axis, so that a cell of the signed grid is one int64
_HALF_GRID = 2 ** (_KEY_BITS - 1)


class FusedCloud(NamedTuple):
    """One point for each voxel that was observed often enough, sorted by voxel."""

    points: Tensor
    """(N, 3) float32, metres, world frame."""
    colors: Tensor
    """(N, 3) uint8."""
    normals: Tensor
    """(N, 3) float32, unit length, towards the cameras."""


def fuse_depth(
    frames: Iterable[tuple[Tensor, Tensor, Tensor, Tensor]],
    *,
    voxel_size: float = 0.02,
    min_observations: int = 3,
    max_depth: float = 10.0,
    depth_jump: float = 0.04,
    max_incidence: float = 80.0,
    layer_distance: float = 0.04,
) -> FusedCloud:
    """Merge posed depth images into a cloud; memory grows with the surface, not with the frames.

    Each pixel becomes a world point with a colour and the normal of the plane fitted to its
    surroundings; each voxel keeps the mean over the pixels of all frames. Pixels at a depth
    discontinuity, where sensors report a distance between the two surfaces (flying pixels), and
    surfaces seen at a grazing angle are left out. Where depth noise or drifting poses stack
    several layers of one surface, the layer with most observations remains.

    Args:
        frames: (depth, image, intrinsics, camera_to_world) each; depth (H, W) float, metres,
            0 = unknown; image (H, W, 3) uint8, registered to the depth; intrinsics (3, 3) float,
            pixels, of the depth; camera_to_world (4, 4) float, metres. Read once, one at a time.
        voxel_size: metres.
        min_observations: pixels, over all frames, below which a voxel is dropped.
        max_depth: metres; farther readings are ignored.
        depth_jump: unitless; neighbouring pixels whose depths differ by more than this share of
            the smaller lie on different surfaces.
        max_incidence: degrees between viewing ray and normal, beyond which a pixel is ignored.
        layer_distance: metres along the normal within which parallel layers are one surface;
            0 keeps every layer.

    Returns:
        A `FusedCloud` on the CPU; empty if no pixel is left.

    Raises:
        ValueError: the frame (by its place, from 0) with a wrong shape, images of different size,
            or a non-finite pose; a setting out of range; or a point too far out for the grid.
    """
    if not 0 < voxel_size < math.inf:
        raise ValueError(f"voxel_size must be a positive length in metres, got {voxel_size}")
    if not 0 < max_incidence <= 90:
        raise ValueError(f"max_incidence must be in (0, 90] degrees, got {max_incidence}")
    if not depth_jump > 0 or not max_depth > 0:
        raise ValueError(f"depth_jump and max_depth must be > 0, got {depth_jump} and {max_depth}")
    if not 0 <= layer_distance < math.inf:
        raise ValueError(f"layer_distance must be a length in metres >= 0, got {layer_distance}")
    sums = _VoxelSums(voxel_size)
    cosine = math.cos(math.radians(max_incidence))
    for place, (depth, image, intrinsics, camera_to_world) in enumerate(frames):
        try:
            _require_frame(depth, image, intrinsics, camera_to_world)
            reliable, normals = depth_normals(depth, intrinsics, max_depth, depth_jump, cosine)
            kept = torch.where(reliable, depth.float().cpu(), 0.0)
            points, pixels = back_project(kept.double(), intrinsics.cpu(), camera_to_world.cpu())
            rotation = camera_to_world[:3, :3].double().cpu()
            colors = image.cpu().reshape(-1, 3)[pixels].double()
            world_normals = normals.reshape(-1, 3)[pixels].double() @ rotation.T
            sums.add(points, torch.cat([points, colors, world_normals], dim=1))
        except ValueError as error:
            raise ValueError(f"frame {place}: {error}") from error
    keys, counts, means = sums.observed(min_observations)
    normals = torch.nn.functional.normalize(means[:, 6:], dim=1)
    normals[normals.norm(dim=1) < 0.5] = torch.tensor([0.0, 0.0, 1.0], dtype=normals.dtype)
    reach = round(layer_distance / voxel_size)
    best = _best_layer(keys, counts, means[:, :3] / voxel_size, normals, reach)
    colors = means[best, 3:6].round().clamp(0, 255).to(torch.uint8)
    return FusedCloud(means[best, :3].float(), colors, normals[best].float())


def _require_frame(
    depth: Tensor, image: Tensor, intrinsics: Tensor, camera_to_world: Tensor
) -> None:
    require_shape("depth", depth, None, None)
    require_shape("image", image, *depth.shape, 3)
    require_shape("intrinsics", intrinsics, 3, 3)
    require_shape("camera_to_world", camera_to_world, 4, 4)
    require_finite("intrinsics", intrinsics)
    require_finite("camera_to_world", camera_to_world)


def depth_normals(
    depth: Tensor,
    intrinsics: Tensor,
    max_depth: float = math.inf,
    depth_jump: float = 0.04,
    min_cosine: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Normals of a depth image, and which of its pixels lie on a well-seen surface.

    In a pinhole image the inverse depth of a plane is linear in the pixel position, so the normal
    follows from a least-squares fit of inverse depth in a 7 x 7 window, restricted to pixels of
    the same surface.

    Args:
        depth: (H, W) float, metres; 0, negative and non-finite values mean unknown.
        intrinsics: (3, 3) float, pixels.
        max_depth: metres; farther readings count as unknown.
        depth_jump: unitless, as in `fuse_depth`.
        min_cosine: cosine of the largest angle between viewing ray and normal.

    Returns:
        reliable: (H, W) bool: known, away from depth discontinuities, not seen at grazing angle.
        normals: (H, W, 3) float32, camera frame, unit length, towards the camera; zero where not
            reliable.

    Raises:
        ValueError: an argument does not have the shape above.
    """
    require_shape("depth", depth, None, None)
    require_shape("intrinsics", intrinsics, 3, 3)
    metres = depth.detach().cpu().numpy().astype(np.float32)
    known = np.isfinite(metres) & (metres > 0) & (metres <= max_depth)
    inverse = np.divide(1.0, metres, out=np.zeros_like(metres), where=known)
    matrix = intrinsics.detach().cpu().numpy().astype(np.float64)
    normals = np.zeros((*metres.shape, 3), np.float32)
    reliable = np.zeros(metres.shape, np.bool_)
    _fit_planes(inverse, matrix, _WINDOW, depth_jump, min_cosine, normals, reliable)
    return torch.from_numpy(reliable).to(depth.device), torch.from_numpy(normals).to(depth.device)


@njit()
def _fit_planes(  # type: ignore[no-untyped-def]
    inverse, matrix, window, jump, min_cosine, normals, reliable
):
    """Fill `normals` and `reliable` from inverse depth (0 = unknown)."""
    height, width = inverse.shape
    fx, skew, cx = matrix[0, 0], matrix[0, 1], matrix[0, 2]
    fy, cy = matrix[1, 1], matrix[1, 2]
    for row in range(height):
        for column in range(width):
            center = inverse[row, column]
            if center == 0 or _at_discontinuity(inverse, row, column, jump):
                continue
            count = 0
            sum_u = sum_v = sum_w = sum_uu = sum_uv = sum_vv = sum_uw = sum_vw = 0.0
            for v in range(max(-window, -row), min(window, height - 1 - row) + 1):
                for u in range(max(-window, -column), min(window, width - 1 - column) + 1):
                    value = inverse[row + v, column + u]
                    w = value - center
                    if value == 0 or abs(w) > jump * max(value, center):
                        continue
                    count += 1
                    sum_u += u
                    sum_v += v
                    sum_w += w
                    sum_uu += u * u
                    sum_uv += u * v
                    sum_vv += v * v
                    sum_uw += u * w
                    sum_vw += v * w
            uu = sum_uu - sum_u * sum_u / count
            vv = sum_vv - sum_v * sum_v / count
            uv = sum_uv - sum_u * sum_v / count
            determinant = uu * vv - uv * uv
            if count < 6 or determinant < 1.0:  # a speck or a line of pixels spans no plane
                continue
            uw = sum_uw - sum_u * sum_w / count
            vw = sum_vw - sum_v * sum_w / count
            along_u = (uw * vv - vw * uv) / determinant
            along_v = (vw * uu - uw * uv) / determinant
            level = center + (sum_w - along_u * sum_u - along_v * sum_v) / count
            offset = level - along_u * column - along_v * row
            x = -fx * along_u
            y = -skew * along_u - fy * along_v
            z = -cx * along_u - cy * along_v - offset
            length = math.sqrt(x * x + y * y + z * z)
            ray_y = (row - cy) / fy
            ray_x = (column - cx - skew * ray_y) / fx
            ray = math.sqrt(ray_x * ray_x + ray_y * ray_y + 1.0)
            if level <= 0 or -(x * ray_x + y * ray_y + z) < min_cosine * length * ray:
                continue
            reliable[row, column] = True
            normals[row, column, 0] = x / length
            normals[row, column, 1] = y / length
            normals[row, column, 2] = z / length


@njit()
def _at_discontinuity(inverse, row, column, jump):  # type: ignore[no-untyped-def]
    """Whether one of the four neighbours lies on another surface; unknown ones do not count."""
    height, width = inverse.shape
    center = inverse[row, column]
    for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        i, j = row + down, column + right
        if 0 <= i < height and 0 <= j < width:
            other = inverse[i, j]
            # a relative difference of inverse depths is that of the depths
            if other != 0 and abs(other - center) > jump * min(other, center):
                return True
    return False


class _VoxelSums:
    """Running sums per occupied voxel, kept sorted by voxel."""

    def __init__(self, voxel_size: float) -> None:
        self._voxel_size = voxel_size
        self._keys = torch.empty(0, dtype=torch.int64)
        self._sums: Tensor | None = None  # (V, 1 + C) float64, first column the count

    def add(self, points: Tensor, values: Tensor) -> None:
        """Add (P, C) float64 values at (P, 3) float64 points."""
        if len(points) == 0:
            return
        cells = (points * (1.0 / self._voxel_size)).floor_()
        if float(cells.abs().max()) >= _HALF_GRID:
            raise ValueError(
                f"points lie up to {float(points.abs().max()):.6g} m from the origin, too far for "
                f"voxels of {self._voxel_size} m; check the unit of poses and depth"
            )
        keys = _grid_keys(cells)
        counted = torch.cat([values.new_ones((len(values), 1)), values], dim=1)
        keys, sums = _sum_by_key(keys, counted)
        if self._sums is not None:
            keys, sums = _sum_by_key(torch.cat([self._keys, keys]), torch.cat([self._sums, sums]))
        self._keys, self._sums = keys, sums

    def observed(self, at_least: int) -> tuple[Tensor, Tensor, Tensor]:
        """Keys (V,), counts (V,) and means (V, C) of the voxels with that many observations."""
        if self._sums is None:
            return self._keys, torch.zeros(0), torch.zeros((0, 9), dtype=torch.float64)
        chosen = self._sums[:, 0] >= at_least
        sums = self._sums[chosen]
        return self._keys[chosen], sums[:, 0], sums[:, 1:] / sums[:, :1]


def _grid_keys(cells: Tensor) -> Tensor:
    """(P,) int64 keys of (P, 3) signed whole numbers, in the order of (x, y, z)."""
    x, y, z = (cells.long() + _HALF_GRID).unbind(1)
    keys: Tensor = (x << 2 * _KEY_BITS) | (y << _KEY_BITS) | z
    return keys


def _sum_by_key(keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct keys ascending, and the sum of the rows of each."""
    ordered, order = torch.sort(keys, stable=True)
    distinct, group = torch.unique_consecutive(ordered, return_inverse=True)
    sums = values.new_zeros((len(distinct), values.shape[1]))
    sums.index_add_(0, group, values[order])
    return distinct, sums


def _best_layer(
    keys: Tensor, counts: Tensor, positions: Tensor, normals: Tensor, reach: int
) -> Tensor:
    """(V,) bool: voxels with no better observed, parallel voxel up to `reach` cells along normal.

    `positions` are in units of the voxel size.
    """
    best = torch.ones(len(keys), dtype=torch.bool)
    if len(keys) == 0:
        return best
    for distance in range(1, reach + 1):
        for step in (distance, -distance):
            wanted = _grid_keys((positions + step * normals).floor())
            other = torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)
            parallel = (normals[other] * normals).sum(dim=1) > 0.5  # less than 60 degrees apart
            best &= ~((keys[other] == wanted) & parallel & (counts[other] > counts))
    return best
