"""What the student is trained on, and how scenes are turned into a batch of voxels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pcdistill.geometry import require_shape, voxelize

LARGEST_TILT = math.pi / 64
"""Radians about x and y; the reference loaders turn as little about them."""
SCALES = (0.9, 1.1)
"""Range of the random scale, as in the reference loaders."""


@dataclass(frozen=True, eq=False)
class TrainingScene:
    """One scene and the fused 2D features of its superpoints.

    Raises:
        ValueError: shapes do not fit together.
    """

    name: str
    points: Tensor
    """(N, 3) float32, metres."""
    superpoint_ids: Tensor
    """(N,) int64 in [0, S)."""
    superpoint_means: Tensor
    """(S, D) float, mean fused feature of each superpoint."""
    seen: Tensor
    """(N,) bool, points that have a fused feature."""
    features: Tensor | None = None
    """(N, D) float, fused feature per point; only point-wise distillation needs it."""

    def __post_init__(self) -> None:
        require_shape("points", self.points, None, 3)
        require_shape("superpoint_ids", self.superpoint_ids, len(self.points))
        require_shape("superpoint_means", self.superpoint_means, None, None)
        require_shape("seen", self.seen, len(self.points))
        if self.features is not None:
            channels = self.superpoint_means.shape[1]
            require_shape("features", self.features, len(self.points), channels)


class Batch(NamedTuple):
    """Voxels of several scenes, and which point stands for each."""

    coords: Tensor
    """(V, 4) int32, (batch, x, y, z)."""
    point_to_voxel: tuple[Tensor, ...]
    """Per scene (N,) int64, row of `coords`."""
    representative: tuple[Tensor, ...]
    """Per scene (V of that scene,) int64, lowest point of each voxel."""


def voxel_batch(points: Sequence[Tensor], voxel_size: float) -> Batch:
    """Voxelise several clouds (N, 3), metres, into one batch."""
    coords, point_to_voxel, representative = [], [], []
    first = 0
    for number, cloud in enumerate(points):
        voxels = voxelize(cloud, voxel_size)
        index = torch.full_like(voxels.coords[:, :1], number)
        coords.append(torch.cat([index, voxels.coords], dim=1))
        point_to_voxel.append(voxels.point_to_voxel + first)
        representative.append(voxels.representative)
        first += len(voxels.coords)
    return Batch(torch.cat(coords), tuple(point_to_voxel), tuple(representative))


def turn_and_scale(points: Tensor, generator: torch.Generator) -> Tensor:
    """Turn a cloud (N, 3) by any angle about z and a little about x and y, and scale it.

    Source: OpenScene's loaders, as recorded with the reference voxelisation.
    """
    draw = torch.rand(4, generator=generator, dtype=torch.float64)
    angles = (2 * draw[:3] - 1) * torch.tensor([LARGEST_TILT, LARGEST_TILT, math.pi])
    scale = SCALES[0] + (SCALES[1] - SCALES[0]) * draw[3]
    rotation = torch.eye(3, dtype=torch.float64)
    for axis, angle in enumerate(angles.tolist()):
        rotation = _rotation(axis, angle) @ rotation
    matrix = (scale * rotation).to(points.device, points.dtype)
    return points @ matrix.T


def _rotation(axis: int, angle: float) -> Tensor:
    one, two = (axis + 1) % 3, (axis + 2) % 3
    matrix = torch.eye(3, dtype=torch.float64)
    matrix[one, one] = matrix[two, two] = math.cos(angle)
    matrix[one, two], matrix[two, one] = -math.sin(angle), math.sin(angle)
    return matrix
