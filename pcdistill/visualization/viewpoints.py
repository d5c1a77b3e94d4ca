"""Camera placement for pictures of a scene: bird's-eye view, hidden ceilings and near walls."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pcdistill.geometry import require_shape
from pcdistill.visualization.rasterize import rasterize_discs

CANDIDATES = 8
"""Directions tried around a scene; two for each side of its bounding rectangle."""
TRIED_POINTS = 12_000
"""Points on which a direction is tried."""
FLOOR_PERCENTILE = 2.0
"""Of the heights; below it is noise under the floor."""
LOWEST_CEILING = 1.8
"""Metres above the floor below which nothing is taken for a ceiling."""
CEILING_SHARE = 0.15
"""Share of the floor plan that a ceiling has to cover."""


@dataclass(frozen=True, eq=False)
class RenderCamera:
    """A camera to draw with."""

    camera_to_world: Tensor
    """(4, 4) float64 metres; +x right, +y down, +z forward."""
    intrinsics: Tensor
    """(3, 3) float64; focal lengths in pixels, or in pixels per metre if `orthographic`."""
    image_size: tuple[int, int]
    """(H, W) pixels."""
    orthographic: bool = False
    """Parallel rays instead of rays through the camera's centre."""


def birds_eye_view(
    points: Tensor,
    image_size: tuple[int, int] = (600, 800),
    *,
    azimuth: float | None = None,
    elevation: float = 50.0,
    field_of_view: float = 30.0,
    orthographic: bool = False,
    normals: Tensor | None = None,
    hide_ceiling: bool = True,
) -> RenderCamera:
    """Look down on a scene from beside it, everything in the picture.

    Args:
        points: (N, 3) float, metres, z up; at least one.
        image_size: (H, W) pixels.
        azimuth: degrees from +x towards +y of the side the camera stands on. By default the
            side of the bounding rectangle from which most points can be seen.
        elevation: degrees above the horizon; 90 looks straight down.
        field_of_view: degrees across the longer side of the image; unused if orthographic.
        orthographic: draw with parallel rays.
        normals: (N, 3), for `front_facing_mask` when directions are tried.
        hide_ceiling: leave what `below_ceiling_mask` finds out of the picture.

    Raises:
        ValueError: there is no point, or a number is out of range.
    """
    require_shape("points", points, None, 3)
    if len(points) == 0:
        raise ValueError("points is empty, expected at least one")
    if hide_ceiling:
        keep = below_ceiling_mask(points, normals)
        points, normals = points[keep], None if normals is None else normals[keep]
    if not 0 <= elevation <= 90:
        raise ValueError(f"elevation is {elevation} degrees, expected 0 to 90")
    if not 0 < field_of_view < 150:
        raise ValueError(f"field_of_view is {field_of_view} degrees, expected 0 to 150")
    positions = points.detach().cpu().double().numpy()
    directions = None if normals is None else normals.detach().cpu().double().numpy()
    step = max(1, len(positions) // TRIED_POINTS)
    some = positions[::step]
    some_normals = None if directions is None else directions[::step]

    def camera(angle: float, cloud: np.ndarray) -> RenderCamera:
        return _framed(cloud, angle, elevation, image_size, field_of_view, orthographic)

    if azimuth is None:
        first = _side_of_rectangle(some[:, :2])
        angles = [first + 90 * (i // 2) + (28 if i % 2 else -28) for i in range(CANDIDATES)]
        shares = [_share_visible(some, some_normals, camera(angle, some)) for angle in angles]
        azimuth = angles[int(np.argmax(shares))]
    return camera(azimuth, positions)


def below_ceiling_mask(points: Tensor, normals: Tensor | None = None) -> Tensor:
    """Find the points to keep so that one can look into a room from above.

    A ceiling is a level at least `LOWEST_CEILING` above the floor where the highest points of
    many square decimetres of the floor plan lie; it goes with everything above it. With normals,
    whatever looks down from above 1.6 m goes as well (sloped ceilings).

    Args:
        points: (N, 3) float, metres, z up.
        normals: (N, 3) float or None.

    Returns:
        (N,) bool; all true where no ceiling is found.
    """
    require_shape("points", points, None, 3)
    if len(points) == 0:
        return torch.ones(0, dtype=torch.bool, device=points.device)
    positions = points.detach().cpu().double().numpy()
    height = positions[:, 2] - np.percentile(positions[:, 2], FLOOR_PERCENTILE)
    keep = np.ones(len(height), dtype=bool)
    cells = np.floor(positions[:, :2] / 0.2).astype(np.int64)
    cells -= cells.min(axis=0)
    _, cell = np.unique(cells[:, 0] * (cells[:, 1].max() + 1) + cells[:, 1], return_inverse=True)
    tops = np.full(cell.max() + 1, -np.inf)
    np.maximum.at(tops, cell, height)
    levels = np.floor((tops[tops > LOWEST_CEILING] - LOWEST_CEILING) / 0.1).astype(np.int64)
    if len(levels):
        counts = np.bincount(levels)
        # Two bins, for a ceiling that lies on the border between them.
        counts = counts + np.append(counts[1:], 0)
        level = int(counts.argmax())
        if counts[level] > CEILING_SHARE * len(tops):
            keep &= height < LOWEST_CEILING + 0.1 * level - 0.05
    if normals is not None:
        require_shape("normals", normals, len(points), 3)
        keep &= ~((normals[:, 2].detach().cpu().numpy() < -0.7) & (height > 1.6))
    return torch.from_numpy(keep).to(points.device)


def front_facing_mask(points: Tensor, normals: Tensor, view: RenderCamera) -> Tensor:
    """Find the points that a look from outside should keep.

    Walls between the camera and the room are seen from behind and go; all else stays. Where the
    normals do not point into the room (the floor's do not point up), all points stay.

    Args:
        points: (N, 3) float, metres, z up.
        normals: (N, 3) float; zero where unknown.
        view: the camera.

    Returns:
        (N,) bool.
    """
    require_shape("points", points, None, 3)
    require_shape("normals", normals, len(points), 3)
    keep = _faces_camera(
        points.detach().cpu().double().numpy(), normals.detach().cpu().double().numpy(), view
    )
    return torch.from_numpy(keep).to(points.device)


def _faces_camera(positions: np.ndarray, normals: np.ndarray, view: RenderCamera) -> np.ndarray:
    if len(positions) == 0:
        return np.ones(0, dtype=bool)
    height = positions[:, 2] - np.percentile(positions[:, 2], FLOOR_PERCENTILE)
    floor = normals[(np.abs(height) < 0.15) & (np.abs(normals[:, 2]) > 0.7), 2]
    if len(floor) == 0 or (floor > 0).mean() < 0.9:
        return np.ones(len(positions), dtype=bool)
    pose = view.camera_to_world.numpy()
    towards = -pose[:3, 2] if view.orthographic else pose[:3, 3] - positions
    towards = towards / np.linalg.norm(towards, axis=-1, keepdims=True)
    upright = np.abs(normals[:, 2]) < 0.5
    behind: np.ndarray = upright & ((normals * towards).sum(axis=1) < -0.05)
    return ~behind


def _framed(
    positions: np.ndarray,
    azimuth: float,
    elevation: float,
    image_size: tuple[int, int],
    field_of_view: float,
    orthographic: bool,
) -> RenderCamera:
    """Place the camera as near as it can be with all but a few stray points in the picture.

    Args:
        positions: (N, 3) float64, metres, world frame.
        azimuth: of the camera around the scene, degrees.
        elevation: of the camera above the horizon, degrees.
        image_size: (H, W), pixels.
        field_of_view: along the longer side, degrees; not used where `orthographic`.
        orthographic: parallel instead of perspective projection.
    """
    height, width = image_size
    angle, rise = math.radians(azimuth), math.radians(elevation)
    backward = np.array(
        [math.cos(angle) * math.cos(rise), math.sin(angle) * math.cos(rise), math.sin(rise)]
    )
    right = np.array([-math.sin(angle), math.cos(angle), 0.0])
    rotation = np.stack([right, np.cross(-backward, right), -backward], axis=1)
    x, y, z = (positions @ rotation).T
    margin = 0.94
    if orthographic:
        (left, far_right), (top, bottom) = _extent(x, x), _extent(y, y)
        scale = margin * min(width / max(far_right - left, 1e-3), height / max(bottom - top, 1e-3))
        focal = scale
        center = np.array([(left + far_right) / 2, (top + bottom) / 2, z.min() - 1.0])
    else:
        focal = max(height, width) / 2 / math.tan(math.radians(field_of_view) / 2)
        tangents = margin * width / 2 / focal, margin * height / 2 / focal
        # A point is inside when |x - cx| <= t (z + d); both cx and the distance d follow.
        (left, far_right) = _extent(x + tangents[0] * z, x - tangents[0] * z)
        (top, bottom) = _extent(y + tangents[1] * z, y - tangents[1] * z)
        distance = max(
            (far_right - left) / 2 / tangents[0],
            (bottom - top) / 2 / tangents[1],
            0.05 - float(z.min()),
        )
        center = np.array([(left + far_right) / 2, (top + bottom) / 2, -distance])
    pose = np.eye(4)
    pose[:3, :3] = rotation
    pose[:3, 3] = rotation @ center
    intrinsics = np.array(
        [[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]], dtype=np.float64
    )
    return RenderCamera(
        torch.from_numpy(pose), torch.from_numpy(intrinsics), image_size, orthographic
    )


def _extent(low: np.ndarray, high: np.ndarray) -> tuple[float, float]:
    """Give the range of all but three in ten thousand points at each end."""
    if len(low) < 1000:
        return float(low.min()), float(high.max())
    return float(np.quantile(low, 0.0003)), float(np.quantile(high, 0.9997))


def _side_of_rectangle(plan: np.ndarray) -> float:
    """Direction, in degrees, across the longer side of the smallest rectangle around a plan."""
    best, side = math.inf, 0.0
    for degrees in range(0, 90, 3):
        angle = math.radians(degrees)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        turned = plan @ turn
        extent = np.subtract(*np.quantile(turned, [0.99, 0.01], axis=0))
        if extent[0] * extent[1] < best - 1e-9:
            best = float(extent[0] * extent[1])
            side = degrees + (90.0 if extent[0] >= extent[1] else 0.0)
    return side


def _share_visible(positions: np.ndarray, normals: np.ndarray | None, view: RenderCamera) -> float:
    """Fraction of the points that nothing hides, at a coarse resolution.

    Args:
        positions: (N, 3) float64, metres, world frame.
        normals: (N, 3) float64; with them, what faces away hides nothing.
        view: camera.
    """
    coarse = 12  # pixels of the picture per pixel tried
    height, width = view.image_size[0] // coarse + 1, view.image_size[1] // coarse + 1
    drawn = positions if normals is None else positions[_faces_camera(positions, normals, view)]
    column, row, depth, scale = project_to_image(drawn, view)
    nearest, _ = rasterize_discs(
        column / coarse, row / coarse, depth, np.full(len(depth), 1.0), 0.0, height, width
    )
    j = np.clip(np.rint(column / coarse).astype(np.int64), 0, width - 1)
    i = np.clip(np.rint(row / coarse).astype(np.int64), 0, height - 1)
    # What a coarse pixel spans in depth does not hide itself.
    slack = 0.1 + 2 * coarse / scale
    return float((depth <= nearest[i, j] + slack).sum()) / max(len(positions), 1)


def project_to_image(
    positions: np.ndarray, view: RenderCamera
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Give column, row, depth in metres and pixels per metre of (N, 3) world positions."""
    pose, intrinsics = view.camera_to_world.numpy(), view.intrinsics.numpy()
    x, y, z = ((positions - pose[:3, 3]) @ pose[:3, :3]).T
    focal = intrinsics[0, 0]
    scale = np.full(len(z), focal) if view.orthographic else focal / np.maximum(z, 1e-6)
    return x * scale + intrinsics[0, 2], y * scale + intrinsics[1, 2], z, scale
