"""Frames: the posed RGB-D images of a scene, read when they are asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from pcdistill.errors import SceneError
from pcdistill.geometry import RIGID_TOLERANCE, rotation_error
from pcdistill.scenes.formats.images import read_color, read_depth
from pcdistill.scenes.issues import report_issue
from pcdistill.scenes.units import DEPTH_SCALE

_PIXELS_AT_ONCE = 1 << 20  # whose rays are in memory together


@runtime_checkable
class Frame(Protocol):
    """One posed image of a scene.

    `image()` and `depth()` describe the same pixel grid, the one `intrinsics` belong to.
    """

    @property
    def name(self) -> str:
        """Unique in its scene; a valid file name without suffix."""

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W), pixels."""

    @property
    def intrinsics(self) -> Tensor:
        """(3, 3) float64, pixels; integer coordinates are pixel centres."""

    @property
    def camera_to_world(self) -> Tensor:
        """(4, 4) float64, metres, rigid; camera axes +x right, +y down, +z forward."""

    def image(self) -> Tensor:
        """(H, W, 3) uint8, red green blue."""

    def depth(self) -> Tensor | None:
        """(H, W) float32, metres along the optical axis, 0 = unknown; None without a sensor."""


@dataclass(frozen=True, eq=False)
class MemoryFrame:
    """A frame whose pixels are in memory, such as a rendering."""

    name: str
    intrinsics: Tensor
    """(3, 3) float64, pixels."""
    camera_to_world: Tensor
    """(4, 4) float64, metres, rigid."""
    pixels: Tensor
    """(H, W, 3) uint8."""
    depth_pixels: Tensor | None = None
    """(H, W) float32, metres, 0 = unknown."""

    def __post_init__(self) -> None:
        check_camera(f"frame {self.name}", self.intrinsics, self.camera_to_world)
        if self.pixels.dtype != torch.uint8 or self.pixels.ndim != 3 or self.pixels.shape[2] != 3:
            raise ValueError(
                f"frame {self.name}: pixels are {_found(self.pixels)}, expected (H, W, 3) uint8"
            )
        depth = self.depth_pixels
        if depth is not None and (
            depth.dtype != torch.float32 or tuple(depth.shape) != self.image_size
        ):
            raise ValueError(
                f"frame {self.name}: depth is {_found(depth)}, "
                f"expected {self.image_size} float32 metres like the image"
            )

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W), pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def image(self) -> Tensor:
        """(H, W, 3) uint8, red green blue."""
        return self.pixels

    def depth(self) -> Tensor | None:
        """(H, W) float32, metres, 0 = unknown; None without a sensor."""
        return self.depth_pixels


@dataclass(frozen=True, eq=False)
class StoredFrame:
    """A frame whose pixels stay in image files until they are asked for."""

    name: str
    image_size: tuple[int, int]
    """(H, W), pixels."""
    intrinsics: Tensor
    """(3, 3) float64, pixels, for `image_size`."""
    camera_to_world: Tensor
    """(4, 4) float64, metres, rigid."""
    image_path: Path
    depth_path: Path | None = None
    """A 16-bit PNG, or a .npy array."""
    depth_scale: float = DEPTH_SCALE
    """Counts per metre where the depth file holds integers."""
    depth_intrinsics: Tensor | None = None
    """(3, 3) float64, of the depth file, where its camera has another size or focal length.

    Both cameras are taken to share centre and axes; `depth()` is then looked up per image pixel.
    """
    image_checksum: int | None = None
    """CRC-32 of the image file, where known; a file that changed is refused."""
    depth_checksum: int | None = None
    """CRC-32 of the depth file, where known."""
    farthest: float = math.inf
    """Metres at which the sensor's readings end: what the file has from there on is none."""

    def __post_init__(self) -> None:
        check_camera(f"frame {self.name}", self.intrinsics, self.camera_to_world)
        if min(self.image_size) < 1:
            raise ValueError(f"frame {self.name}: image_size is {self.image_size}, expected > 0")

    def image(self) -> Tensor:
        """(H, W, 3) uint8, red green blue.

        Raises:
            SceneError: the file is missing, damaged, or of another size.
        """
        pixels = read_color(self.image_path, checksum=self.image_checksum)
        _require_size(self.image_path, (pixels.shape[0], pixels.shape[1]), self.image_size)
        return pixels

    def depth(self) -> Tensor | None:
        """(H, W) float32, metres, 0 = unknown; None without a sensor.

        Raises:
            SceneError: the file is missing, damaged, or of another size.
        """
        if self.depth_path is None:
            return None
        depth = self.file_depth(self.depth_path)
        if self.farthest < math.inf:
            depth[depth >= self.farthest] = 0
        if self.depth_intrinsics is not None:
            return register_depth(depth, self.depth_intrinsics, self.intrinsics, self.image_size)
        _require_size(self.depth_path, (depth.shape[0], depth.shape[1]), self.image_size)
        return depth

    def file_depth(self, path: Path) -> Tensor:
        """(h, w) float32, metres, 0 = unknown: what the depth file holds, at its own size.

        Raises:
            SceneError: the file is missing or damaged.
        """
        return read_depth(path, depth_scale=self.depth_scale, checksum=self.depth_checksum)


def register_depth(
    depth: Tensor, depth_intrinsics: Tensor, intrinsics: Tensor, image_size: tuple[int, int]
) -> Tensor:
    """Look up, for each pixel of an image, the depth of another pinhole at the same place.

    Args:
        depth: (h, w) float32, metres, 0 = unknown.
        depth_intrinsics: (3, 3) float64, pixels, of `depth`.
        intrinsics: (3, 3) float64, pixels, of the image.
        image_size: (H, W) of the image.

    Returns:
        (H, W) float32, metres: the nearest depth pixel on each pixel's ray, 0 outside of it. Depth
        along the common optical axis is the same number in both cameras.
    """
    height, width = image_size
    to_depth = depth_intrinsics @ torch.linalg.inv(intrinsics)
    registered = torch.zeros(image_size, dtype=depth.dtype)
    step = max(_PIXELS_AT_ONCE // width, 1)
    for top in range(0, height, step):
        v, u = torch.meshgrid(
            torch.arange(top, min(top + step, height), dtype=torch.float64),
            torch.arange(width, dtype=torch.float64),
            indexing="ij",
        )
        rays = torch.stack([u, v, torch.ones_like(u)], dim=-1) @ to_depth.T  # (step, W, 3)
        columns, rows = torch.round(rays[..., 0]).long(), torch.round(rays[..., 1]).long()
        inside = (columns >= 0) & (columns < depth.shape[1]) & (rows >= 0) & (rows < depth.shape[0])
        registered[top : top + step][inside] = depth[rows[inside], columns[inside]]
    return registered


def name_backwards(fx: float, fy: float) -> str:
    """For messages: along which axis an image runs backwards, and how to turn it.

    Args:
        fx: focal length across, pixels; below 0 where columns run to the left.
        fy: focal length down, pixels; below 0 where rows run upwards.
    """
    ways = ["image columns run to the left"] * (fx < 0) + ["image rows run upwards"] * (fy < 0)
    flip = f"diag({-1 if fx < 0 else 1}, {-1 if fy < 0 else 1}, 1, 1)"
    return (
        f"a focal length is below 0: {' and '.join(ways)}, expected finite numbers with positive "
        "focal lengths for a camera with +x right and +y down; write them without the sign, each "
        f"camera-to-world pose P as F P F with F = {flip}, and the points x of a mesh or cloud as "
        "F x"
    )


def check_camera(where: str, intrinsics: Tensor, camera_to_world: Tensor) -> None:
    """Refuse a camera that is no pinhole at a rigid pose.

    Args:
        where: the file or frame the message names.
        intrinsics: (3, 3) float64, pixels.
        camera_to_world: (4, 4) float64, metres.

    Raises:
        ValueError: shape or dtype is another.
        SceneError: focal lengths are not positive (below 0, the image runs backwards), or the pose
            is not finite or not rigid.
    """
    for name, matrix, size in (("intrinsics", intrinsics, 3), ("pose", camera_to_world, 4)):
        if tuple(matrix.shape) != (size, size) or matrix.dtype != torch.float64:
            raise ValueError(
                f"{where}: {name} is {_found(matrix)}, expected ({size}, {size}) float64"
            )
    _refuse_negative(where, intrinsics)
    if not torch.isfinite(intrinsics).all() or not (intrinsics.diagonal() > 0).all():
        raise SceneError(
            f"{where}: intrinsics are {_short(intrinsics)}, expected finite numbers with positive "
            "focal lengths on the diagonal; give the camera matrix in pixels"
        )
    if not torch.isfinite(camera_to_world).all():
        raise SceneError(
            f"{where}: the pose has numbers that are not finite, expected a rigid camera-to-world "
            "matrix; leave the frame out"
        )
    rotation = camera_to_world[:3, :3]
    error = float(rotation_error(rotation))
    bottom = camera_to_world[3] - torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    if error > RIGID_TOLERANCE or float(bottom.abs().max()) > RIGID_TOLERANCE:
        report_issue(
            "poses_not_rigid",
            f"{where}: the pose is not rigid (rotation times its transpose is off the identity by "
            f"{error:.2g}, last row {_short(camera_to_world[3])}), expected rotation and "
            "translation in metres as a 4 x 4 camera-to-world matrix; remove scale from the poses",
        )
    if float(torch.linalg.det(rotation)) < 0:
        report_issue(
            "poses_mirrored",
            f"{where}: the pose mirrors the scene (its rotation has determinant -1), expected a "
            "right-handed camera with +x right, +y down, +z forward; negate one camera axis",
        )


def _refuse_negative(where: str, intrinsics: Tensor) -> None:
    fx, fy = float(intrinsics[0, 0]), float(intrinsics[1, 1])
    if (fx < 0 or fy < 0) and torch.isfinite(intrinsics).all():
        raise SceneError(f"{where}: intrinsics are {_short(intrinsics)}, {name_backwards(fx, fy)}")


def _require_size(path: Path, found: tuple[int, int], expected: tuple[int, int]) -> None:
    if found != expected:
        raise SceneError(
            f"{path}: is {found[1]} x {found[0]} pixels, the camera matrix is for "
            f"{expected[1]} x {expected[0]}; give images of one size"
        )


def _found(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _short(matrix: Tensor) -> str:
    return str([round(value, 4) for value in matrix.flatten().tolist()])
