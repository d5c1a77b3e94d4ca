"""Points of a scene in the frame of the files it was read from, offset and rotation undone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from pcdistill.scenes.formats.ply import write_ply
from pcdistill.scenes.origin import scene_to_source
from pcdistill.scenes.scene import Scene


def source_points(scene: Scene, rows: Tensor | None = None) -> Tensor:
    """(N, 3) float64, metres: the scene's points in the frame of its files.

    They are in the files' order; what the reader left out is missing.

    Args:
        scene: with N points.
        rows: (n,) int64, those that are wanted; all by default.
    """
    back = scene_to_source(scene.provenance)
    points = scene.points if rows is None else scene.points[rows]
    return points.double() @ back[:3, :3].T + back[:3, 3]


def source_coordinates(scene: Scene) -> Tensor:
    """(N, 3) float64: `source_points` in the unit of the files, which may be the foot."""
    units = scene.provenance.get("metres_per_unit", [1.0, 1.0, 1.0])
    return source_points(scene) / torch.tensor(units, dtype=torch.float64)


def source_normals(scene: Scene) -> Tensor | None:
    """(N, 3) float32 normals as `source_points` has the points; None where the scene has none."""
    if scene.normals is None:
        return None
    back = scene_to_source(scene.provenance)
    return (scene.normals.double() @ back[:3, :3].T).float()


def write_source_ply(
    path: str | Path,
    scene: Scene,
    *,
    colors: Tensor,
    labels: Tensor | None = None,
    scalars: Mapping[str, Tensor] | None = None,
    integers: Mapping[str, Tensor] | None = None,
    comments: Sequence[str] = (),
) -> None:
    """Write what is known of a scene's points as a PLY file in the frame and unit of its source.

    Coordinates are doubles where an offset was taken off. Normals and faces of the scene are kept.

    Args:
        path: where; folders above are made.
        scene: whose points.
        colors: (N, 3) uint8.
        labels: (N,) integer, as of `write_ply`.
        scalars: (N,) numbers, by name, as of `write_ply`.
        integers: (N,) integers, by name, as of `write_ply`.
        comments: of the header, as of `write_ply`.
    """
    moved = bool(scene_to_source(scene.provenance)[:3, 3].any())
    write_ply(
        path,
        source_coordinates(scene),
        colors=colors,
        normals=source_normals(scene),
        labels=labels,
        scalars=scalars,
        integers=integers,
        faces=scene.faces,
        doubles=moved,
        comments=comments,
    )
