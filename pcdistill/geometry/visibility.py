"""Visibility of points in a frame: projection and occlusion test against depth."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pcdistill.geometry.cameras import invert_pose, project_transposed
from pcdistill.geometry.checks import require_finite, require_shape


class Projection(NamedTuple):
    """Where each point of a scene lands in one frame."""

    pixels: Tensor
    """(N, 2) int64, (column, row); 0 where the point is not visible."""
    depth: Tensor
    """(N,) float64, metres along the optical axis, for every point."""
    visible: Tensor
    """(N,) bool: inside the image, in front of the camera, not occluded."""


def project_points(
    points: Tensor,
    camera_to_world: Tensor,
    intrinsics: Tensor,
    image_size: tuple[int, int],
    depth: Tensor | None = None,
    *,
    depth_tolerance: float = 0.25,
    border: int = 10,
) -> Projection:
    """Project points into one frame; keep those that the frame really sees.

    A point is visible when its pixel (rounded half to even) is at least `border` pixels away from
    the image's edge, it lies in front of the camera, and, if `depth` is given, its own distance z
    agrees with the measured one: ``|depth - z| <= depth_tolerance * depth``. A pixel without a
    reading sees nothing. Points with non-finite coordinates are never visible. All arithmetic is
    float64 whatever the dtype of the inputs.

    Args:
        points: (N, 3) float, metres, world frame.
        camera_to_world: (4, 4) float, metres; camera axes +x right, +y down, +z forward.
        intrinsics: (3, 3) float, pixels, for images of `image_size`.
        image_size: (H, W).
        depth: (H, W) float, metres along the optical axis; 0, negative, non-finite = unknown.
        depth_tolerance: unitless, relative to the measured depth. 0.25 in OpenScene's ScanNet
            code (its paper says 0.2), 0.02 for Matterport3D.
        border: pixels; 10 in OpenScene's indoor code, 5 for nuScenes.

    Returns:
        A `Projection` on the device of `points`.

    Raises:
        ValueError: an argument does not have the shape above, `depth` has not the image's size,
            a pose or camera matrix is non-finite (lost tracking: skip that frame), or a setting
            is negative.

    Source: OpenScene (Peng et al., CVPR 2023), section 3.1 and its released preprocessing.
    """
    require_shape("points", points, None, 3)
    check_view(intrinsics, image_size, depth, depth_tolerance, border)
    world_to_camera = invert_pose(camera_to_world).to(points.device)
    candidates, pixels_inside, z = project_visible(
        points.double().T,
        world_to_camera,
        intrinsics.double(),
        image_size,
        depth,
        depth_tolerance,
        border,
    )
    visible = torch.zeros(len(points), dtype=torch.bool, device=points.device)
    visible[candidates] = True
    pixels = torch.zeros((len(points), 2), dtype=torch.int64, device=points.device)
    pixels[candidates] = pixels_inside
    return Projection(pixels, z, visible)


def check_view(
    intrinsics: Tensor,
    image_size: tuple[int, int],
    depth: Tensor | None,
    depth_tolerance: float,
    border: int,
) -> None:
    """Check the arguments that describe a view.

    Args:
        intrinsics: (3, 3) float, pixels.
        image_size: (H, W), pixels.
        depth: (H, W) float32, metres; None without.
        depth_tolerance: 0 or more, relative to the depth.
        border: 0 or more, pixels.

    Raises:
        ValueError: see `project_points`.
    """
    require_shape("intrinsics", intrinsics, 3, 3)
    require_finite("intrinsics", intrinsics)
    if not depth_tolerance >= 0 or border < 0:
        raise ValueError(
            f"depth_tolerance and border must be >= 0, got {depth_tolerance} and {border}"
        )
    if depth is not None and tuple(depth.shape) != tuple(image_size):
        raise ValueError(
            f"depth has shape {tuple(depth.shape)}, expected the image size {tuple(image_size)}"
        )


def project_visible(
    positions: Tensor,
    world_to_camera: Tensor,
    intrinsics: Tensor,
    image_size: tuple[int, int],
    depth: Tensor | None,
    depth_tolerance: float,
    border: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Apply the rule of `project_points` to arguments that are checked already.

    Every point is treated by the same operations, each rounded on its own, so that its answer does
    not depend on the points beside it.

    Args:
        positions: (3, N) float64, metres, world frame.
        world_to_camera: (4, 4) float64, metres.
        intrinsics: (3, 3) float64, pixels.
        image_size: (H, W).
        depth: (H, W) float, metres, or None.
        depth_tolerance: unitless.
        border: pixels.

    Returns:
        visible: (M,) int64, ascending indices into the points.
        pixels: (M, 2) int64, (column, row) of these.
        depth: (N,) float64, metres along the optical axis, of all points.
    """
    height, width = image_size
    columns, rows, z = project_transposed(positions, world_to_camera, intrinsics)
    columns.round_()
    rows.round_()
    inside = (columns >= border) & (columns < width - border)
    inside &= rows >= border
    inside &= rows < height - border
    inside &= z > 0
    candidates = torch.nonzero(inside)[:, 0]
    pixels = torch.stack([columns[candidates], rows[candidates]], dim=1).long()
    if depth is None:
        return candidates, pixels, z
    flat_index = pixels[:, 1] * width + pixels[:, 0]
    measured = depth.to(positions.device).flatten()[flat_index].double()
    unoccluded = (measured - z[candidates]).abs() <= depth_tolerance * measured
    unoccluded &= measured.isfinite()
    return candidates[unoccluded], pixels[unoccluded], z
