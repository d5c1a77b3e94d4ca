"""Elastic distortion of a point cloud by smooth noise, trilinear between the nodes of a grid."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

SCALES = ((0.2, 0.4), (0.8, 1.6))
"""Spacing of the grid's nodes and size of the noise at them before it is smoothed, both in metres;
one distortion after the other, as in the reference. Smoothing leaves 0.11 of the size."""
MAX_NODES = 128
"""Along each axis; a cloud of more (26 m of the finer grid) sees the same noise again."""
_SMOOTHINGS = 2


class DisplacementField(NamedTuple):
    """Random displacements at the nodes of a grid."""

    nodes: Tensor
    """(X, Y, Z, 3) float32, metres."""
    first: Tensor
    """(3,) float64, place of the first node in metres."""
    spacing: float
    """Metres."""

    def at(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Interpolate at (N, 3) float64 points.

        Returns:
            (N, 3) float64 displacements, metres.
            (N, 3, 3) float64 Jacobian: of each component, the change along each axis.
        """
        place = (points - self.first) / self.spacing  # (N, 3) nodes
        below = place.floor()
        part = place - below  # (N, 3) in [0, 1)
        low = below.long()
        moved = torch.zeros_like(points)
        slope = points.new_zeros(len(points), 3, 3)
        sizes = torch.tensor(self.nodes.shape[:3], device=points.device)
        for corner in range(8):
            bits = torch.tensor([corner >> 2 & 1, corner >> 1 & 1, corner & 1]).to(low)
            index = (low + bits) % sizes  # (N, 3)
            value = self.nodes[index[:, 0], index[:, 1], index[:, 2]].double()  # (N, 3)
            share = torch.where(bits == 1, part, 1 - part)  # (N, 3) along each axis
            moved += share.prod(dim=1, keepdim=True) * value
            for axis in range(3):
                others = share[:, (axis + 1) % 3] * share[:, (axis + 2) % 3]  # (N,)
                sign = 2.0 * float(bits[axis]) - 1
                slope[:, :, axis] += (sign / self.spacing) * others[:, None] * value
        return moved, slope


def draw_field(
    points: Tensor, spacing: float, size: float, generator: torch.Generator
) -> DisplacementField:
    """Draw a field that covers a cloud.

    Args:
        points: (N, 3) float64, metres, at least one.
        spacing: between nodes, metres.
        size: standard deviation of the noise before it is smoothed, metres.
        generator: of the noise.
    """
    low = points.amin(dim=0)
    wanted = [int(n) + 3 for n in ((points.amax(dim=0) - low) / spacing).floor().tolist()]
    counts = [min(count, MAX_NODES) for count in wanted]
    noise = torch.randn(*counts, 3, generator=generator) * size
    for _ in range(_SMOOTHINGS):
        for axis in range(3):
            noise = _mean_of_three(noise, axis, wraps=wanted[axis] > MAX_NODES)
    return DisplacementField(noise.to(points.device), low - spacing, spacing)


def distort(
    points: Tensor, normals: Tensor | None, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """Distort a cloud by the fields of `SCALES`; normals follow their surface.

    Args:
        points: (N, 3) float, metres.
        normals: (N, 3) float32, unit length, or None.
        generator: of the noise.

    Returns:
        points, (N, 3) float64, and normals, (N, 3) float32.

    Source: OpenScene's and SAS's loaders (dataset/augmentation.py). These compute the distorted
    points of a training scene and then cut the undistorted ones into voxels.
    """
    moved = points.double()
    for spacing, size in SCALES if len(points) else ():
        displacement, slope = draw_field(moved, spacing, size, generator).at(moved)
        if normals is not None:
            normals = _turned_normals(normals, slope)
        moved = moved + displacement
    return moved, normals


def _turned_normals(normals: Tensor, slope: Tensor) -> Tensor:
    """(N, 3) float32 normals after a map whose derivative is 1 + slope (N, 3, 3).

    They go with the cofactors of the derivative, which are its inverse's transpose times its
    determinant.
    """
    rows = slope + torch.eye(3, dtype=slope.dtype, device=slope.device)  # (N, 3, 3)
    one, two, three = rows.unbind(dim=1)
    cofactors = torch.stack(
        [
            torch.linalg.cross(two, three),
            torch.linalg.cross(three, one),
            torch.linalg.cross(one, two),
        ],
        dim=1,
    )  # (N, 3, 3)
    sign = torch.sign((one * cofactors[:, 0]).sum(dim=1, keepdim=True))  # of the determinant
    turned = torch.einsum("nij,nj->ni", cofactors, normals.double()) * sign
    return torch.nn.functional.normalize(turned, dim=1).float()


def _mean_of_three(noise: Tensor, axis: int, *, wraps: bool) -> Tensor:
    """Mean of each node and its two neighbors along an axis; beyond the ends is nothing."""
    first, last = noise.narrow(axis, 0, 1), noise.narrow(axis, noise.shape[axis] - 1, 1)
    if not wraps:
        first, last = torch.zeros_like(first), torch.zeros_like(last)
    wide = torch.cat([last, noise, first], dim=axis)
    count = noise.shape[axis]
    parts = [wide.narrow(axis, start, count) for start in range(3)]
    return (parts[0] + parts[1] + parts[2]) / 3
