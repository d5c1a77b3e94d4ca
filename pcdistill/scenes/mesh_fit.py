"""The mesh that a published data set comes with: its normals, and whether frames fit it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pcdistill.errors import SceneError
from pcdistill.scenes.consistency import View, measure_agreement
from pcdistill.scenes.frames import Frame

_CHECKED_FRAMES = 6
_LEAST_AGREEMENT = 0.5
_LEAST_TILES = 50


def require_mesh_fit(
    where: Path, frames: Sequence[Frame], mesh: Path, points: Tensor, depth_scale: float
) -> None:
    """Refuse a scan in which no frame's depth is that of the mesh.

    One frame that fits is enough: rooms of a house hide each other, so that others may not. Where
    too little of the mesh is in view of a frame nothing is said.

    Args:
        where: the scan, for the message.
        frames: those that should see the mesh.
        mesh: its file, for the message.
        points: (N, 3) float32, metres.
        depth_scale: counts per metre the depth was read with, for the message.

    Raises:
        SceneError: frames see the mesh, and in none of them it is where the depth says.
    """
    count = min(len(frames), _CHECKED_FRAMES)
    found = []
    for i in range(count):
        frame = frames[round(i * (len(frames) - 1) / max(count - 1, 1))]
        depth = frame.depth()
        if depth is None:
            continue
        view = View(depth, frame.intrinsics, frame.camera_to_world)
        agreement = measure_agreement([view], points)
        if agreement.compared >= _LEAST_TILES:
            found.append(agreement)
        if found and found[-1].share >= _LEAST_AGREEMENT:
            return
    if not found:
        return
    best = max(found, key=lambda agreement: agreement.share)
    ratios = sorted(agreement.ratio for agreement in found)
    ratio = ratios[len(ratios) // 2]
    fitting = f", {depth_scale / ratio:.3g} would fit better" if ratio > 0 else ""
    raise SceneError(
        f"{where}: in none of {len(found)} frames looked at the depth agrees with {mesh.name} "
        f"({best.share:.0%} at best, within 25 %), expected most of it; check `depth_scale` (it is "
        f"{depth_scale:g}{fitting}) and that poses, depth and mesh are of one scan"
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
