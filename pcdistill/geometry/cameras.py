"""Pinhole camera: projection, back-projection, resizing, and rigid poses."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pcdistill.geometry.checks import require_finite, require_shape

RIGID_TOLERANCE = 1e-2
"""Largest entry of |R R^T - 1| that still counts as a rotation: text files are rounded."""


def project_to_pixels(
    points: Tensor, world_to_camera: Tensor, intrinsics: Tensor
) -> tuple[Tensor, Tensor]:
    """Project world points into one pinhole view.

    Computed in the dtype of `points`; the matrices are cast to it.

    Args:
        points: (N, 3) float, metres, world frame.
        world_to_camera: (4, 4) float, rigid; camera axes +x right, +y down, +z forward.
        intrinsics: (3, 3) float, pixels; integer coordinates are pixel centres.

    Returns:
        pixels: (N, 2) float, (u, v) = (column, row), unrounded. Meaningless where depth <= 0,
            infinite or NaN where depth is 0.
        depth: (N,) float, metres along the optical axis.

    Raises:
        ValueError: an argument does not have the shape above.

    Source: Hartley & Zisserman, Multiple View Geometry, 2nd ed., Eq. (6.8).
    """
    require_shape("points", points, None, 3)
    require_shape("world_to_camera", world_to_camera, 4, 4)
    require_shape("intrinsics", intrinsics, 3, 3)
    columns, rows, depth = project_transposed(points.T, world_to_camera, intrinsics)
    return torch.stack([columns, rows], dim=1), depth


def project_transposed(
    positions: Tensor, world_to_camera: Tensor, intrinsics: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Project points that lie in columns; the result of each is independent of the others.

    Products and sums are elementwise and not a matrix product, which may round a point differently
    depending on the points beside it.

    Args:
        positions: (3, N) float, metres, world frame.
        world_to_camera: (4, 4) float, rigid.
        intrinsics: (3, 3) float, pixels.

    Returns:
        columns: (N,) pixels, in the dtype of the positions.
        rows: (N,) pixels.
        depth: (N,) metres along the optical axis.
    """
    px, py, pz = positions
    x, y, depth = (
        (px * a).add_(py * b).add_(pz * c).add_(d) for a, b, c, d in world_to_camera[:3].tolist()
    )
    fx, skew, cx = intrinsics[0].tolist()
    fy, cy = intrinsics[1, 1:].tolist()
    right = x * fx if skew == 0 else (x * fx).add_(y * skew)
    return right.div_(depth).add_(cx), (y * fy).div_(depth).add_(cy), depth


def invert_pose(camera_to_world: Tensor) -> Tensor:
    """(4, 4) float64: world-to-camera matrix of a pose.

    Args:
        camera_to_world: (4, 4) float, metres.

    Returns:
        (4, 4) float64 on the device of the input.

    Raises:
        ValueError: wrong shape, a non-finite value (lost tracking), or a matrix without inverse.
    """
    require_shape("camera_to_world", camera_to_world, 4, 4)
    require_finite("camera_to_world", camera_to_world)
    result = torch.linalg.inv_ex(camera_to_world.double())
    if int(result.info) != 0:
        raise ValueError("camera_to_world is singular, expected a rigid 4x4 transform")
    world_to_camera: Tensor = result.inverse
    return world_to_camera


def resize_intrinsics_openscene(
    intrinsics: Tensor, from_size: tuple[int, int], to_size: tuple[int, int]
) -> Tensor:
    """Camera matrix after an image was resized, by the rule of the OpenScene preprocessing.

    Rows scale by the ratio of heights. Columns scale as if the image kept its aspect ratio with
    the width rounded down to whole pixels, which differs from the ratio of widths when the two
    aspect ratios differ (ScanNet's 1296x968 to 320x240). The principal point maps corner pixel
    centres onto corner pixel centres.

    Args:
        intrinsics: (3, 3) float, pixels, for images of `from_size`.
        from_size: (H, W) before.
        to_size: (H, W) after.

    Returns:
        (3, 3) of the dtype and device of `intrinsics`; a copy.

    Raises:
        ValueError: wrong shape, or a size below one pixel (below two where it changes).
    """
    require_shape("intrinsics", intrinsics, 3, 3)
    (height, width), (to_height, to_width) = from_size, to_size
    if min(height, width, to_height, to_width) < 1:
        raise ValueError(f"image sizes {from_size} and {to_size} must be at least one pixel")
    adjusted = intrinsics.clone()
    if (height, width) == (to_height, to_width):
        return adjusted
    if min(height, width) < 2:
        raise ValueError(f"an image of size {from_size} cannot be resized to {to_size}")
    kept_aspect_width = to_height * width // height
    adjusted[0, :2] *= kept_aspect_width / width
    adjusted[1, 1] *= to_height / height
    adjusted[0, 2] *= (to_width - 1) / (width - 1)
    adjusted[1, 2] *= (to_height - 1) / (height - 1)
    return adjusted


def resize_intrinsics(
    intrinsics: Tensor, from_size: tuple[int, int], to_size: tuple[int, int]
) -> Tensor:
    """Camera matrix after an image was stretched, its borders onto its borders.

    Integer coordinates are pixel centres: u + 0.5 scales with the width, v + 0.5 with the height.

    Args:
        intrinsics: (3, 3) float, pixels, for images of `from_size`.
        from_size: (H, W) before.
        to_size: (H, W) after.

    Returns:
        (3, 3) of the dtype and device of `intrinsics`; a copy.
    """
    scaled = intrinsics.clone()
    for row, axis in ((0, 1), (1, 0)):
        factor = to_size[axis] / from_size[axis]
        scaled[row] *= factor
        scaled[row, 2] += 0.5 * (factor - 1)
    return scaled


def back_project(
    depth: Tensor, intrinsics: Tensor, camera_to_world: Tensor
) -> tuple[Tensor, Tensor]:
    """Back-project every pixel that has a depth reading to a world point.

    Args:
        depth: (H, W) float, metres; 0, negative and non-finite values mean unknown.
        intrinsics: (3, 3) float, pixels, for images of that size.
        camera_to_world: (4, 4) float, metres; camera axes +x right, +y down, +z forward.

    Returns:
        points: (P, 3) of the dtype of `depth`, world frame, metres; computed in float64.
        pixel_index: (P,) int64, row-major index of each point's pixel, ascending.

    Raises:
        ValueError: wrong shape, or a non-finite pose.
    """
    require_shape("depth", depth, None, None)
    require_shape("intrinsics", intrinsics, 3, 3)
    require_shape("camera_to_world", camera_to_world, 4, 4)
    require_finite("camera_to_world", camera_to_world)
    flat = depth.flatten()
    pixel_index = torch.nonzero((flat > 0) & flat.isfinite())[:, 0]
    z = flat[pixel_index].double()
    in_camera = camera_rays(pixel_index, depth.shape[1], intrinsics) * z[:, None]
    pose = camera_to_world.to(device=depth.device, dtype=torch.float64)
    points = in_camera @ pose[:3, :3].T + pose[:3, 3]
    return points.to(depth.dtype), pixel_index


def camera_rays(pixel_index: Tensor, width: int, intrinsics: Tensor) -> Tensor:
    """Viewing directions with z = 1 of row-major pixel indices.

    Args:
        pixel_index: (P,) int64, row * width + column.
        width: columns of the image.
        intrinsics: (3, 3) float, pixels.

    Returns:
        (P, 3) float64, camera frame.
    """
    matrix = intrinsics.to(device=pixel_index.device, dtype=torch.float64)
    y = ((pixel_index // width) - matrix[1, 2]) / matrix[1, 1]
    x = ((pixel_index % width) - matrix[0, 2] - matrix[0, 1] * y) / matrix[0, 0]
    return torch.stack([x, y, torch.ones_like(x)], dim=1)


def pinhole_intrinsics(fx: float, fy: float, cx: float, cy: float) -> Tensor:
    """(3, 3) float64: camera matrix of a pinhole, pixels.

    Args:
        fx: focal length across.
        fy: focal length down.
        cx: column of the principal point.
        cy: row of the principal point.
    """
    return torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=torch.float64)


def pose_from_quaternion(quaternion: Sequence[float], translation: Sequence[float]) -> Tensor:
    """Build a rigid motion from a quaternion and a translation.

    Args:
        quaternion: x, y, z, w; of any length but zero.
        translation: three metres.

    Returns:
        (4, 4) float64; NaN where the numbers give none.
    """
    values = torch.tensor([*quaternion, *translation], dtype=torch.float64)
    norm = values[:4].norm()
    pose = torch.full((4, 4), torch.nan, dtype=torch.float64)
    if not torch.isfinite(values).all() or not 1e-6 < float(norm) < 1e6:
        return pose
    pose[:3, :3] = rotation_from_quaternion(*(values[:4] / norm).tolist())
    pose[:3, 3] = values[4:]
    pose[3] = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    return pose


def rotation_from_quaternion(x: float, y: float, z: float, w: float) -> Tensor:
    """(3, 3) float64: the rotation of a quaternion of unit length.

    Args:
        x: first of the vector part.
        y: second.
        z: third.
        w: scalar part.
    """
    return torch.tensor(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ],
        dtype=torch.float64,
    )


def rotation_error(rotations: Tensor) -> Tensor:
    """Measure how far matrices are from rotations: the largest entry of |R R^T - 1|.

    Mirrored rotations count as rotations.

    Args:
        rotations: (..., 3, 3) float.

    Returns:
        (...) of the same dtype; `RIGID_TOLERANCE` is what text files may be off.
    """
    identity = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
    return (rotations @ rotations.mT - identity).abs().amax(dim=(-2, -1))


def is_rigid(motion: Tensor, tolerance: float = RIGID_TOLERANCE) -> bool:
    """Whether a matrix turns and moves and does nothing else: no scale, shear or mirror.

    Args:
        motion: (4, 4) float.
        tolerance: of `rotation_error`, and of the last row.
    """
    bottom = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=motion.dtype, device=motion.device)
    return (
        bool(torch.isfinite(motion).all())
        and float(rotation_error(motion[:3, :3])) <= tolerance
        and float((motion[3] - bottom).abs().max()) <= tolerance
        and float(torch.linalg.det(motion[:3, :3])) > 0
    )
