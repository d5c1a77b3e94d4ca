"""TSDF fusion: posed depth images to one mesh."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from skimage.measure import marching_cubes
from torch import Tensor

from pcdistill.geometry.checks import require_finite, require_shape
from pcdistill.jit import njit

Array = npt.NDArray[Any]

_MAX_VOXELS = 2**28  # a gibibyte of distances and one of weights


class FusedSurface(NamedTuple):
    """A triangle mesh; every vertex has a face."""

    points: Tensor
    """(N, 3) float64, metres, world frame."""
    faces: Tensor
    """(F, 3) int64; seen from the cameras, corners run counter-clockwise."""


def fuse_surface(
    frames: Iterable[tuple[Tensor, Tensor, Tensor]],
    low: Tensor,
    high: Tensor,
    *,
    voxel_size: float,
    truncation: float,
    max_depth: float = 5.0,
) -> FusedSurface:
    """Fuse depth images into the surface that they agree on; what none saw is a hole.

    Every voxel keeps the mean over the frames of its distance to the surface along the camera's
    axis, cut at `truncation` before and forgotten beyond it behind. The surface stands where the
    mean changes sign, between voxels that were all observed. Sums are made in one order and
    without contraction, so that the mesh is the same on every processor.

    Args:
        frames: (depth, intrinsics, camera_to_world) each; depth (H, W) float, metres, 0 = unknown;
            intrinsics (3, 3) float, pixels; camera_to_world (4, 4) float, metres. Read once.
        low: (3,) float64, metres, the lowest corner of the volume.
        high: (3,) float64, metres, the highest.
        voxel_size: metres.
        truncation: metres; a few times the noise of depth, and less than the thickness of what
            is seen from both sides.
        max_depth: metres; farther readings are ignored.

    Returns:
        A `FusedSurface` on the CPU; empty where nothing was observed.

    Raises:
        ValueError: a setting out of range, a frame of another shape or with a pose that is not
            finite, or a volume of more than 2^28 voxels.

    Source: Curless and Levoy, A Volumetric Method for Building Complex Models from Range Images,
    SIGGRAPH 1996; the mesh by marching cubes (Lewiner's, scikit-image).
    """
    if not 0 < voxel_size < math.inf or not 0 < truncation < math.inf:
        raise ValueError(
            f"voxel_size and truncation must be > 0 metres, got {voxel_size}, {truncation}"
        )
    require_shape("low", low, 3)
    require_shape("high", high, 3)
    corner = low.double().numpy()
    size = np.ceil((high.double().numpy() - corner) / voxel_size).astype(np.int64) + 1
    if (size < 2).any() or int(np.prod(size)) > _MAX_VOXELS:
        raise ValueError(f"a volume of {size.tolist()} voxels, expected 2 a side to 2^28 in all")
    distance = np.zeros(tuple(size), np.float32)
    weight = np.zeros(tuple(size), np.float32)
    for depth, intrinsics, camera_to_world in frames:
        require_shape("depth", depth, None, None)
        require_shape("intrinsics", intrinsics, 3, 3)
        require_shape("camera_to_world", camera_to_world, 4, 4)
        require_finite("camera_to_world", camera_to_world)
        _integrate(
            distance,
            weight,
            corner,
            voxel_size,
            truncation,
            max_depth,
            depth.float().numpy(),
            intrinsics.double().numpy(),
            camera_to_world.double().numpy(),
        )
    return _extract(distance, weight, corner, voxel_size)


def _extract(distance: Array, weight: Array, corner: Array, voxel_size: float) -> FusedSurface:
    """The surface between observed voxels where the mean distance changes sign."""
    observed = weight > 0
    cubes = observed[:-1, :-1, :-1].copy()
    for step in range(1, 8):
        x, y, z = step >> 2, step >> 1 & 1, step & 1
        cubes &= observed[x:, y:, z:][: cubes.shape[0], : cubes.shape[1], : cubes.shape[2]]
    # scikit-image asks the mask at the far corner of a cube
    mask = np.zeros_like(observed)
    mask[1:, 1:, 1:] = cubes
    near = (np.abs(distance) < 1) & observed
    if not mask.any() or not (near & (distance < 0)).any() or not (near & (distance > 0)).any():
        return FusedSurface(torch.zeros(0, 3).double(), torch.zeros(0, 3, dtype=torch.int64))
    vertices, faces, _, _ = marching_cubes(  # type: ignore[no-untyped-call]
        distance, 0.0, mask=mask, gradient_direction="descent"
    )
    points = corner + vertices.astype(np.float64) * voxel_size
    return FusedSurface(torch.from_numpy(points), torch.from_numpy(faces.astype(np.int64)))


@njit(error_model="numpy")
def _integrate(  # type: ignore[no-untyped-def]
    distance,
    weight,
    corner,
    voxel_size,
    truncation,
    max_depth,
    depth,
    matrix,
    pose,
):
    """Add one depth image to the volume."""
    height, width = depth.shape
    far = min(max_depth, depth.max()) + truncation
    # box around the camera and the far corners of what it sees
    first = np.empty(3, np.int64)
    last = np.empty(3, np.int64)
    for axis in range(3):
        least = limit = pose[axis, 3]
        for row in (0, height - 1):
            for column in (0, width - 1):
                x = (column - matrix[0, 2]) / matrix[0, 0] * far
                y = (row - matrix[1, 2]) / matrix[1, 1] * far
                place = pose[axis, 0] * x + pose[axis, 1] * y + pose[axis, 2] * far + pose[axis, 3]
                least = min(least, place)
                limit = max(limit, place)
        first[axis] = max(0, math.floor((least - corner[axis]) / voxel_size))
        last[axis] = min(distance.shape[axis], math.ceil((limit - corner[axis]) / voxel_size) + 1)
    for i in range(first[0], last[0]):
        dx = corner[0] + i * voxel_size - pose[0, 3]
        for j in range(first[1], last[1]):
            dy = corner[1] + j * voxel_size - pose[1, 3]
            for k in range(first[2], last[2]):
                dz = corner[2] + k * voxel_size - pose[2, 3]
                z = pose[0, 2] * dx + pose[1, 2] * dy + pose[2, 2] * dz
                if z <= 0.05 or z > far:
                    continue
                x = pose[0, 0] * dx + pose[1, 0] * dy + pose[2, 0] * dz
                y = pose[0, 1] * dx + pose[1, 1] * dy + pose[2, 1] * dz
                column = math.floor(x / z * matrix[0, 0] + matrix[0, 2] + 0.5)
                row = math.floor(y / z * matrix[1, 1] + matrix[1, 2] + 0.5)
                if column < 0 or row < 0 or column >= width or row >= height:
                    continue
                reading = depth[row, column]
                if reading <= 0 or reading > max_depth:
                    continue
                ahead = reading - z
                if ahead < -truncation:
                    continue
                fraction = (
                    np.float32(1.0) if ahead >= truncation else np.float32(ahead / truncation)
                )
                trust = np.float32(1.0 / (reading * reading))
                total = weight[i, j, k] + trust
                distance[i, j, k] += (fraction - distance[i, j, k]) * (trust / total)
                weight[i, j, k] = total
