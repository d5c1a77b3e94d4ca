"""Scene with z up from the frames and the surface of a capture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from pcdistill.scenes.formats.ply import Ply
from pcdistill.scenes.frames import Frame, StoredFrame
from pcdistill.scenes.origin import describe_way_back, move_frames
from pcdistill.scenes.reader_settings import ReaderSettings, UpAxis
from pcdistill.scenes.readers.base import Scan
from pcdistill.scenes.resampled_frames import ResampledFrame
from pcdistill.scenes.scene import Scene

_TO_Z_UP: dict[str, list[list[float]]] = {
    "z": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "y": [[1, 0, 0], [0, 0, -1], [0, 1, 0]],
    "-y": [[1, 0, 0], [0, 0, 1], [0, -1, 0]],
}


def build_scene(
    scan: Scan,
    settings: ReaderSettings,
    frames: Sequence[StoredFrame],
    surface: Ply,
    *,
    up: UpAxis,
    provenance: dict[str, Any],
) -> Scene:
    """Build the scene of a surface and the frames that saw it, near the origin, with z up.

    Args:
        scan: its name and folder.
        settings: `image_size` resizes the frames.
        frames: in the coordinate frame of the surface's file: its offset is taken off them here.
        surface: its normals are dropped where they are all zero.
        up: the axis that points up so far.
        provenance: added to that of every capture.
    """
    rotation = torch.tensor(_TO_Z_UP[up], dtype=torch.float64)
    turn = torch.eye(4, dtype=torch.float64)
    turn[:3, :3] = rotation
    turned: list[Frame] = [
        replace(frame, camera_to_world=turn @ frame.camera_to_world)
        for frame in move_frames(frames, surface.offset)
    ]
    if settings.image_size is not None:
        turned = [ResampledFrame(frame, settings.image_size) for frame in turned]
    normals = None
    if surface.normals is not None and bool((surface.normals != 0).any()):
        lengths = surface.normals.double().norm(dim=1, keepdim=True)
        unit = torch.where(lengths > 0, surface.normals.double() / lengths, 0.0)
        normals = (torch.nan_to_num(unit) @ rotation.T).float()
    return Scene(
        name=scan.name,
        points=(surface.points.double() @ rotation.T).float(),
        colors=surface.colors,
        normals=normals,
        faces=surface.faces if surface.faces is not None and len(surface.faces) else None,
        frames=tuple(turned),
        provenance={
            "source": str(scan.folder),
            "up": up,
            **describe_way_back(surface.offset, rotation, surface.metres_per_unit),
            **({"points_left_out": surface.left_out} if surface.left_out else {}),
            **provenance,
        },
    )
