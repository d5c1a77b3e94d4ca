"""Voxel batches: the scenes a student is trained on, its input, and their voxelization."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pcdistill.geometry import Voxels, require_shape, voxelize
from pcdistill.sparse import CoordinateManager

MAX_STRIDE = 16
"""Voxels along the edge of a coarsest one: how often the MinkUNet family halves the grid."""
INPUT_CHANNELS = {"constant": 3, "geometry": 4, "color": 7}
"""Channels of each kind of input; the published checkpoints have the constant one."""
UNIT_HEIGHT = 1.5
"""Metres."""


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
    normals: Tensor | None = None
    """(N, 3) float32, unit length; where given, the student sees them and the height."""
    colors: Tensor | None = None
    """(N, 3) uint8; where given besides normals, the student sees them too."""

    def __post_init__(self) -> None:
        require_shape("points", self.points, None, 3)
        require_shape("superpoint_ids", self.superpoint_ids, len(self.points))
        require_shape("superpoint_means", self.superpoint_means, None, None)
        require_shape("seen", self.seen, len(self.points))
        if self.features is not None:
            channels = self.superpoint_means.shape[1]
            require_shape("features", self.features, len(self.points), channels)
        if self.normals is not None:
            require_shape("normals", self.normals, len(self.points), 3)
        if self.colors is not None:
            require_shape("colors", self.colors, len(self.points), 3)


class StudentInput(NamedTuple):
    """Points of one scene with what the student is given of them."""

    points: Tensor
    """(N, 3) float32, or float64 where it was turned, metres."""
    normals: Tensor | None = None
    """(N, 3) float32, unit length; None for a student of constant input."""
    colors: Tensor | None = None
    """(N, 3) uint8; None for a student that sees no colour."""
    grid_shift: Tensor | None = None
    """(3,) float, in voxels: how far the points are moved on the grid, whose origin stays that of
    the unmoved points, so that the borders of voxels move at every stride; None for not at all."""

    def to(self, device: torch.device) -> StudentInput:
        """The same on another device."""
        return StudentInput(*(None if part is None else part.to(device) for part in self))  # type: ignore[arg-type]


class Batch(NamedTuple):
    """Voxels of several scenes, and which point stands for each."""

    coords: Tensor
    """(V, 4) int32, (batch, x, y, z)."""
    features: Tensor
    """(V, C) float32, the student's input, see `input_features`."""
    point_to_voxel: tuple[Tensor, ...]
    """Per scene (N,) int64, row of `coords`."""
    representative: tuple[Tensor, ...]
    """Per scene (V of that scene,) int64, lowest point of each voxel."""
    maps: CoordinateManager | None = None
    """Kernel maps of `coords` where they were made before; perhaps as of a turned grid."""


def input_features(cloud: StudentInput) -> Tensor:
    """(N, C) float32: input of the student; 3 ones, 4 of normal and height, or 7 with color.

    Constant input is the paper's ("pure point cloud without color or other attributes"). Normals
    and the height above the lowest points are geometry too and are learned from in far fewer
    steps. The height counts from the 1st percentile, in units of 1.5 m. Colours, where they are
    given, follow in [-1, 1].
    """
    if cloud.normals is None:
        return torch.ones(len(cloud.points), INPUT_CHANNELS["constant"], device=cloud.points.device)
    height = cloud.points[:, 2].float()  # (N,) metres
    lowest = height.sort().values[len(height) // 100] if len(height) else 0.0
    parts = [cloud.normals, ((height - lowest) / UNIT_HEIGHT)[:, None]]
    if cloud.colors is not None:
        parts.append(cloud.colors.float() / 127.5 - 1)
    return torch.cat(parts, dim=1)


def make_voxel_batch(clouds: Sequence[StudentInput], voxel_size: float) -> Batch:
    """Voxelize several clouds into one batch; the first point of a voxel stands for it.

    The lowest coordinates of a cloud are 0, or its `grid_shift`. The reference takes the minimum
    off in either case, after it has turned and scaled the points; of a shift nothing would be left
    then but where the borders of the finest voxels are.
    """
    return join_clouds([voxelize_cloud(cloud, voxel_size) for cloud in clouds])


class VoxelizedCloud(NamedTuple):
    """A cloud before it is one of a batch."""

    voxels: Voxels
    features: Tensor
    """(V, C) float32."""


def voxelize_cloud(cloud: StudentInput, voxel_size: float) -> VoxelizedCloud:
    """Voxelize one cloud, as `make_voxel_batch` does; voxels of so many metres."""
    voxels = _shifted_voxels(cloud, voxel_size)
    return VoxelizedCloud(voxels, input_features(cloud)[voxels.representative])


def join_clouds(clouds: Sequence[VoxelizedCloud]) -> Batch:
    """Make one batch of several clouds, in their order."""
    coords, features, point_to_voxel, representative = [], [], [], []
    first = 0  # voxels of the clouds before
    for number, (voxels, of_voxels) in enumerate(clouds):
        features.append(of_voxels)
        index = torch.full_like(voxels.coords[:, :1], number)  # (V of it, 1) int32
        coords.append(torch.cat([index, voxels.coords], dim=1))  # (V of it, 4) int32
        point_to_voxel.append(voxels.point_to_voxel + first)
        representative.append(voxels.representative)
        first += len(voxels.coords)
    return Batch(
        torch.cat(coords), torch.cat(features), tuple(point_to_voxel), tuple(representative)
    )


def _shifted_voxels(cloud: StudentInput, voxel_size: float) -> Voxels:
    if cloud.grid_shift is None or len(cloud.points) == 0:
        return voxelize(cloud.points, voxel_size)
    move = torch.eye(4, dtype=torch.float64)
    move[:3, 3] = cloud.grid_shift.double() * voxel_size
    lowest = (cloud.points.amin(dim=0).double() * (1.0 / voxel_size)).floor()  # (3,) voxels
    return voxelize(cloud.points, voxel_size, origin=lowest, transform=move)


def draw_shift(generator: torch.Generator) -> Tensor:
    """(3,) float32 shift on the grid, in voxels, from 0 to `MAX_STRIDE`."""
    return MAX_STRIDE * torch.rand(3, generator=generator)


def even_shifts(count: int) -> list[Tensor]:
    """`count` different shifts on the grid, (3,) float64 in voxels each; the first is 0.

    They are steps of an odd fraction of the coarsest voxel along the diagonal. Taken modulo any
    stride, a power of two, these are as evenly spread as they are over the coarsest voxel: the
    borders differ at every stride.
    """
    steps = count if count % 2 else count + 1
    return [
        torch.full((3,), MAX_STRIDE * number / steps, dtype=torch.float64)
        for number in range(count)
    ]
