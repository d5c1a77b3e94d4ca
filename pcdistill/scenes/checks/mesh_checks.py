"""Checks of the mesh that comes with a published data set: extent and normals."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from pcdistill.errors import SceneError

_MAX_DISTANCE = 10_000.0  # metres from the origin


def check_mesh_extent(mesh: Path, points: Tensor) -> None:
    """Refuse a mesh without points, or with points where no room is.

    Args:
        mesh: its file, for the message.
        points: (N, 3) float32, metres.

    Raises:
        SceneError: there are no points, or one is too far from the origin or not finite.
    """
    if len(points) == 0:
        raise SceneError(f"{mesh}: has no points, expected a mesh; restore the original file")
    farthest = float(points.abs().max())
    if not farthest <= _MAX_DISTANCE:  # NaN as well
        raise SceneError(
            f"{mesh}: a point has the coordinate {farthest:g}, expected metres of at most "
            f"{_MAX_DISTANCE:g}; the file is damaged or of another unit, restore it"
        )


def normalize_normals(normals: Tensor | None) -> Tensor | None:
    """Scale the normals of a mesh file to unit length.

    Args:
        normals: (N, 3) float32, any length; None without.

    Returns:
        (N, 3) float32, zero where the file's are zero or not finite; None where all are.
    """
    if normals is None:
        return None
    length = normals.norm(dim=1, keepdim=True)
    known = torch.isfinite(length) & (length > 1e-6)
    return torch.where(known, normals / length, 0.0) if bool(known.any()) else None
