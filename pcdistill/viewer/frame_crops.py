"""Crops of the frames that see a point, around the place where they see it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from pcdistill.geometry import project_points
from pcdistill.lifting import SceneProjector
from pcdistill.scenes import Frame

MAX_TRIES = 32
"""Frames whose depth is looked at for one point; the nearest ones."""
_SHARE = 0.35  # of the longer side of an image that a crop is wide
_MARK = (255, 59, 48)
_EDGE, _MARGIN, _ACROSS = 150, 6, 3  # pixels of a crop on a sheet, pixels after it, crops in a row


class FrameCrop(NamedTuple):
    """What one frame saw of a point."""

    frame: str
    """Name of the frame."""
    distance: float
    """Metres from the camera, along its axis."""
    image: Tensor
    """(h, w, 3) uint8: the image around the point, which a ring marks."""


class _Landing(NamedTuple):
    frame: Frame
    column: int
    row: int
    distance: float


def crop_frames(projector: SceneProjector, point: int, most: int = 6) -> list[FrameCrop]:
    """Cut what the nearest frames that see a point saw of it.

    Args:
        projector: of the scene, with the rules by which its features were lifted.
        point: row of the scene's points.
        most: crops at most.

    Raises:
        SceneError: an image is missing or damaged.
    """
    landings = [
        landing
        for frame in projector.scene.frames
        if (landing := _land(projector, frame, point, None)) is not None
    ]
    found: list[FrameCrop] = []
    for landing in sorted(landings, key=lambda one: one.distance)[:MAX_TRIES]:
        depth = projector.occlusion_depth(landing.frame)
        if depth is not None and _land(projector, landing.frame, point, depth) is None:
            continue
        image = landing.frame.image()
        crop = _cut(image, landing.column, landing.row)
        found.append(FrameCrop(landing.frame.name, landing.distance, crop))
        if len(found) == most:
            break
    return found


def crop_sheet(crops: Sequence[FrameCrop]) -> Tensor:
    """Crops in rows on white, each equally large.

    Args:
        crops: at least one.

    Returns:
        (H, W, 3) uint8.
    """
    sheet_rows = -(-len(crops) // _ACROSS)
    step = _EDGE + _MARGIN
    sheet = torch.full((sheet_rows * step, _ACROSS * step, 3), 255, dtype=torch.uint8)
    for number, crop in enumerate(crops):
        image = crop.image.permute(2, 0, 1)[None].float()  # (1, 3, h, w)
        large = functional.interpolate(image, (_EDGE, _EDGE), mode="bilinear", antialias=True)
        top, left = number // _ACROSS * step, number % _ACROSS * step
        sheet[top : top + _EDGE, left : left + _EDGE] = large[0].permute(1, 2, 0).round().byte()
    return sheet


def _land(
    projector: SceneProjector, frame: Frame, point: int, depth: Tensor | None
) -> _Landing | None:
    """Where a point is in a frame; None where the frame does not see it."""
    rules = projector.rules
    found = project_points(
        projector.scene.points[point : point + 1],
        frame.camera_to_world,
        frame.intrinsics,
        frame.image_size,
        depth,
        depth_tolerance=rules.depth_tolerance,
        border=rules.border,
    )
    if not bool(found.visible[0]):
        return None
    column, row = found.pixels[0].tolist()
    return _Landing(frame, column, row, float(found.depth[0]))


def _cut(image: Tensor, column: int, row: int) -> Tensor:
    """Square part of an (H, W, 3) uint8 image around a pixel, marked by a ring."""
    height, width = image.shape[:2]
    edge = min(max(32, round(_SHARE * max(height, width))), height, width)
    top = min(max(row - edge // 2, 0), height - edge)
    left = min(max(column - edge // 2, 0), width - edge)
    crop = image[top : top + edge, left : left + edge].clone()
    down = torch.arange(edge)[:, None] - (row - top)
    across = torch.arange(edge)[None] - (column - left)
    away = (down**2 + across**2).float().sqrt()  # (edge, edge) pixels
    radius = max(4.0, edge / 16)
    crop[(away - radius).abs() < max(1.0, edge / 120)] = torch.tensor(_MARK, dtype=torch.uint8)
    return crop
