"""What must hold of the mesh that comes with a published data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pcdistill.errors import SceneError
from pcdistill.scenes.consistency import View, measure_agreement
from pcdistill.scenes.frames import Frame

_CHECKED_FRAMES = 6
_FARTHEST_POINT = 10_000.0  # metres from the origin
_LEAST_AGREEMENT = 0.5
_LEAST_TILES = 20
_LEAST_READINGS = 0.1  # of the pixels


def require_mesh_fit(
    where: Path,
    frames: Sequence[Frame],
    mesh: Path,
    points: Tensor,
    depth_scale: float,
    *,
    least_fitting: float = 0.5,
) -> None:
    """Refuse a scan in which too few frames have the depth of the mesh.

    A frame whose depth image is nearly empty does not count.

    Args:
        where: the scan, for the message.
        frames: those that should see the mesh; a few of them are looked at.
        mesh: its file, for the message.
        points: (N, 3) float32, metres.
        depth_scale: counts per metre the depth was read with, for the message.
        least_fitting: share of the frames in which most of the mesh in view must be where the depth
            says; 0 asks for one frame, where the mesh is a part that others may hide.

    Raises:
        SceneError: frames see the mesh, and in too few of them it is where the depth says.
    """
    count = min(len(frames), _CHECKED_FRAMES)
    found = []
    for i in range(count):
        frame = frames[round(i * (len(frames) - 1) / max(count - 1, 1))]
        depth = frame.depth()
        if depth is not None and float((depth > 0).double().mean()) >= _LEAST_READINGS:
            view = View(depth, frame.intrinsics, frame.camera_to_world)
            found.append(measure_agreement([view], points))
    fitting = sum(a.share >= _LEAST_AGREEMENT and a.compared >= _LEAST_TILES for a in found)
    if not found or fitting >= max(1, least_fitting * len(found)):
        return
    ratios = sorted(agreement.ratio for agreement in found if agreement.compared)
    ratio = ratios[len(ratios) // 2] if ratios else 0.0
    better = f", about {depth_scale / ratio:.0f} would fit better" if ratio > 0 else ""
    raise SceneError(
        f"{where}: in {fitting} of {len(found)} frames looked at the depth agrees with {mesh.name} "
        "within 25 %, expected most of them; check `depth_scale` (it is "
        f"{depth_scale:g}{better}) and that poses, depth and mesh are of one scan"
    )


def require_extent(mesh: Path, points: Tensor) -> None:
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
    if not farthest <= _FARTHEST_POINT:  # NaN as well
        raise SceneError(
            f"{mesh}: a point has the coordinate {farthest:g}, expected metres of at most "
            f"{_FARTHEST_POINT:g}; the file is damaged or of another unit, restore it"
        )


def unit_normals(normals: Tensor | None) -> Tensor | None:
    """Normals of a mesh file at unit length.

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
