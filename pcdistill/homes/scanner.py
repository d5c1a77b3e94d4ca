"""Simulated scanner: one surface fused from drifting, noisy depth, with holes.

Nothing of the home's own geometry reaches the scan but through pictures of it. Classes and objects
are carried onto the surface for evaluation only, by what most views show at each vertex.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pcdistill.geometry import (
    ThinnedTree,
    drop_small_pieces,
    fuse_surface,
    merge_close_vertices,
    rotation_from_quaternion,
)
from pcdistill.homes.home import Home
from pcdistill.homes.mesh import vertex_normals
from pcdistill.homes.portable_math import transform
from pcdistill.homes.render import Rendering, render
from pcdistill.homes.sensor import add_sensor_noise
from pcdistill.jit import njit

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class ScannerSettings:
    """How good a scanner is; lengths in metres."""

    voxel_size: float = 0.03
    """Of the volume that depth is fused in."""
    truncation: float = 0.06
    """Distance from the surface up to which the volume knows it."""
    spacing: float = 0.05
    """Of the mesh, after vertices were merged."""
    least_piece: int = 12
    """Vertices of the smallest floating piece that stays."""
    drift: float = 0.009
    """Standard deviation of a pose's place along each axis."""
    turn: float = 0.006
    """Standard deviation of a pose's direction about each axis, radians."""
    smoothness: float = 0.85
    """Correlation of the error of a pose with that of the pose before."""


class View(NamedTuple):
    """One image of the scan, with the estimated pose."""

    rendering: Rendering
    """With the sensor's noise; what it shows is exact."""
    camera_to_world: Tensor
    """(4, 4) float64, with the drift of tracking."""


class ScannedSurface(NamedTuple):
    """A fused mesh with what the views say of its vertices."""

    points: Tensor
    """(N, 3) float32, metres."""
    faces: Tensor
    """(F, 3) int64."""
    normals: Tensor
    """(N, 3) float32, from the faces."""
    colors: Tensor
    """(N, 3) uint8, mean over the views that see the vertex; where none does, the colour of the
    nearest one that is seen."""
    instances: Tensor
    """(N,) int32, the object that most of them show there; -1 where none sees it."""


def film(
    home: Home,
    walk: Sequence[Tensor],
    intrinsics: Tensor,
    image_size: tuple[int, int],
    seed: int,
    settings: ScannerSettings,
) -> list[View]:
    """Take a picture from every pose (4, 4) of a walk; the poses that come with them drift.

    Args:
        home: the home.
        walk: true poses (4, 4), metres.
        intrinsics: (3, 3) float, pixels.
        image_size: (H, W) pixels.
        seed: of drift and noise.
        settings: of the scanner.
    """
    views = []
    for index, (true, believed) in enumerate(zip(walk, drifted(walk, seed, settings), strict=True)):
        number = seed * 1000 + index
        exact = render(home.surface, true, intrinsics, image_size, seed=number)
        noisy = add_sensor_noise(exact, number, float(intrinsics[0, 0]))
        views.append(View(noisy, believed))
    return views


def drifted(walk: Sequence[Tensor], seed: int, settings: ScannerSettings) -> list[Tensor]:
    """Poses (4, 4) float64 as tracking finds them: errors that change slowly from pose to pose.

    Args:
        walk: true poses (4, 4), metres.
        seed: of the drift.
        settings: of the scanner.
    """
    rng = np.random.default_rng([seed, 8])
    keep, fresh = settings.smoothness, np.sqrt(1 - settings.smoothness**2)
    error = rng.standard_normal(6)
    poses = []
    for pose in walk:
        shift, turn = settings.drift * error[:3], settings.turn * error[3:]
        moved = pose.numpy().copy()
        moved[:3, :3] = transform(pose.numpy()[:3, :3].T, _small_rotation(turn)).T
        moved[:3, 3] += shift
        poses.append(torch.from_numpy(moved))
        error = keep * error + fresh * rng.standard_normal(6)
    return poses


def _small_rotation(turn: Array) -> Array:
    """(3, 3) rotation about an axis by its length in radians, from the half-angle quaternion."""
    x, y, z = turn / 2
    length = np.sqrt(1 + x * x + y * y + z * z)
    rotation: Array = rotation_from_quaternion(
        x / length, y / length, z / length, 1 / length
    ).numpy()
    return rotation


def scan_surface(
    views: Sequence[View], intrinsics: Tensor, low: Tensor, high: Tensor, settings: ScannerSettings
) -> ScannedSurface:
    """Fuse the depth of all views into one mesh between two corners (3,) of the home.

    Args:
        views: with the poses that the scanner believes.
        intrinsics: (3, 3) float, pixels.
        low: (3,) lowest corner of the home, metres.
        high: (3,) highest, metres.
        settings: of the scanner.

    Raises:
        ValueError: see `pcdistill.geometry.fuse_surface`.
    """
    margin = 3 * settings.truncation
    fused = fuse_surface(
        ((view.rendering.depth, intrinsics, view.camera_to_world) for view in views),
        low - margin,
        high + margin,
        voxel_size=settings.voxel_size,
        truncation=settings.truncation,
    )
    sides = torch.from_numpy(vertex_normals(fused.points.numpy(), fused.faces.numpy()))
    merged = merge_close_vertices(fused.points, fused.faces, sides, settings.spacing)
    mesh = drop_small_pieces(merged.points, merged.faces, settings.least_piece)
    normals = vertex_normals(mesh.points.numpy(), mesh.faces.numpy())
    colors, instances = _seen_on(mesh.points.numpy(), views, intrinsics.numpy())
    return ScannedSurface(
        mesh.points.float(),
        mesh.faces,
        torch.from_numpy(normals.astype(np.float32)),
        torch.from_numpy(colors),
        torch.from_numpy(instances),
    )


_SLOTS = 6
"""Objects that are told apart at a vertex."""


def _seen_on(points: Array, views: Sequence[View], matrix: Array) -> tuple[Array, Array]:
    """Mean colour (N, 3) uint8 and most frequent object (N,) int32 of points (N, 3)."""
    count = len(points)
    sums = np.zeros((count, 4), np.int64)
    objects = np.full((count, _SLOTS), -1, np.int32)
    times = np.zeros((count, _SLOTS), np.int32)
    for view in views:
        shown = view.rendering
        _look(
            points,
            view.camera_to_world.numpy(),
            matrix,
            shown.depth.numpy(),
            shown.image.numpy(),
            shown.instances.numpy(),
            sums,
            objects,
            times,
        )
    seen = sums[:, 3] > 0
    colors = np.zeros((count, 3), np.uint8)
    colors[seen] = (sums[seen, :3] + sums[seen, 3:] // 2) // sums[seen, 3:]
    if seen.any():  # depth of a drifted pose may have drawn what no view then agrees with
        _, nearest = ThinnedTree(points[seen], 1).nearest(points[~seen], 1)
        colors[~seen] = colors[seen][nearest[:, 0]]
    best = times.argmax(axis=1)
    return colors, objects[np.arange(count), best]


@njit(error_model="numpy")
def _look(  # type: ignore[no-untyped-def]
    points, pose, matrix, depth, image, instances, sums, objects, times
):
    """Add what one view shows at each point that it sees."""
    height, width = depth.shape
    for i in range(len(points)):
        dx = points[i, 0] - pose[0, 3]
        dy = points[i, 1] - pose[1, 3]
        dz = points[i, 2] - pose[2, 3]
        z = pose[0, 2] * dx + pose[1, 2] * dy + pose[2, 2] * dz
        if z <= 0.2:
            continue
        x = pose[0, 0] * dx + pose[1, 0] * dy + pose[2, 0] * dz
        y = pose[0, 1] * dx + pose[1, 1] * dy + pose[2, 1] * dz
        column = int(np.floor(x / z * matrix[0, 0] + matrix[0, 2] + 0.5))
        row = int(np.floor(y / z * matrix[1, 1] + matrix[1, 2] + 0.5))
        if column < 0 or row < 0 or column >= width or row >= height:
            continue
        reading = depth[row, column]
        if reading <= 0 or abs(reading - z) > 0.03 + 0.01 * z:
            continue
        for channel in range(3):
            sums[i, channel] += image[row, column, channel]
        sums[i, 3] += 1
        shown = instances[row, column]
        for slot in range(objects.shape[1]):
            if objects[i, slot] == shown or times[i, slot] == 0:
                objects[i, slot] = shown
                times[i, slot] += 1
                break
