"""Camera matrices and poses as files give them, and whether a camera is that of its images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pcdistill.errors import SceneError
from pcdistill.scenes.frames import check_camera
from pcdistill.scenes.images import image_size_of, orientation_of
from pcdistill.scenes.refusals import refuse
from pcdistill.scenes.text_files import read_numbers

_CENTERED = 0.03
"""Of an image's side: how far a principal point that is not cropped is from the middle at most."""
_NOT_CENTERED = 0.08
"""How far it must be from the middle of an image that it is not the one of."""


def pinhole(fx: float, fy: float, cx: float, cy: float) -> Tensor:
    """Camera matrix, (3, 3) float64."""
    return torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=torch.float64)


def pose_of(quaternion: Sequence[float], translation: Sequence[float]) -> Tensor:
    """A rigid motion from a quaternion and a translation.

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
    x, y, z, w = (values[:4] / norm).tolist()
    pose[:3, :3] = torch.tensor(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ],
        dtype=torch.float64,
    )
    pose[:3, 3] = values[4:]
    pose[3] = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    return pose


def require_center(where: Path, intrinsics: Tensor, image: Path) -> tuple[int, int]:
    """(H, W) of an image, whose camera's principal point must be in its middle third or so.

    Raises:
        SceneError: it is not: the camera matrix is for images of another size.
    """
    height, width = image_size_of(image)
    center = float(intrinsics[0, 2]) / width, float(intrinsics[1, 2]) / height
    if not all(0.2 <= place <= 0.8 for place in center):
        guess = f"{2 * float(intrinsics[0, 2]):.4g} x {2 * float(intrinsics[1, 2]):.4g}"
        refuse(
            "intrinsics",
            f"{where}: its principal point is that of images of about {guess} pixels, {image.name} "
            f"is {width} x {height}; scale the camera matrix to the images",
        )
    require_upright(where, intrinsics, (height, width), image)
    return height, width


def require_upright(
    where: Path, intrinsics: Tensor, image_size: tuple[int, int], image: Path
) -> None:
    """Refuse the camera matrix of images that lie on their side compared with these.

    Args:
        where: the file that holds the camera, for the message.
        intrinsics: (3, 3) float64, pixels.
        image_size: (H, W), pixels.
        image: for the message.

    Raises:
        SceneError: the principal point is in the middle of images whose sides are exchanged, and
            clearly not of these.
    """
    height, width = image_size
    center = float(intrinsics[0, 2]), float(intrinsics[1, 2])
    if (
        _off_center(center, height, width)
        <= _CENTERED
        < _NOT_CENTERED
        <= min(abs((center[0] + 0.5) / width - 0.5), abs((center[1] + 0.5) / height - 0.5))
    ):
        refuse(
            "intrinsics",
            f"{where}: its principal point ({center[0]:.4g}, {center[1]:.4g}) is that of images of "
            f"{height} x {width} pixels, {image.name} is {width} x {height}, expected the camera "
            "of these images and not of the same turned by 90 degrees; exchange fx with fy and cx "
            "with cy where only the matrix was left as it was, or give the images unturned",
        )


def _off_center(center: tuple[float, float], width: int, height: int) -> float:
    return max(abs((center[0] + 0.5) / width - 0.5), abs((center[1] + 0.5) / height - 0.5))


def require_size(where: Path, expected: tuple[int, int], image: Path) -> None:
    """Refuse an image of another size than its camera.

    Raises:
        SceneError: the sizes differ.
    """
    found = image_size_of(image)
    if found == expected:
        return
    mend = "give the images that the cameras were made for"
    if found == expected[::-1]:
        mend = "turn the images as they were when the cameras were made"
        if orientation_of(image) > 4:
            mend = (
                "its EXIF orientation says that it is to be turned, which is not done here: write "
                "the images turned (`mogrify -auto-orient`)"
            )
    raise SceneError(
        f"{image}: is {found[1]} x {found[0]} pixels, {where.name} has a camera for "
        f"{expected[1]} x {expected[0]}; {mend}"
    )


def require_one_shape(
    depth: Path, depth_size: tuple[int, int], image_size: tuple[int, int], mend: str
) -> None:
    """Refuse depth whose sides are in another proportion than those of its image.

    Args:
        depth: the file, for the message.
        depth_size: (h, w), pixels.
        image_size: (H, W), pixels.
        mend: what to do, for the message.

    Raises:
        SceneError: the proportions differ by more than 5 %.
    """
    if abs(depth_size[0] * image_size[1] / (depth_size[1] * image_size[0]) - 1) > 0.05:
        raise SceneError(
            f"{depth}: is {depth_size[1]} x {depth_size[0]} pixels, its image {image_size[1]} x "
            f"{image_size[0]}, expected one shape; {mend}"
        )


def read_camera_matrix(file: Path) -> Tensor:
    """(3, 3) float64 camera matrix from a text file with a 3 x 3 or 4 x 4 matrix.

    Raises:
        SceneError: the file is missing, damaged, or no camera matrix.
    """
    return checked_camera_matrix(file, read_matrix(file, (9, 16))[:3, :3].clone())


def checked_camera_matrix(file: Path, matrix: Tensor) -> Tensor:
    """`matrix` where it is one of a pinhole camera.

    Raises:
        SceneError: it is not; `file` is named.
    """
    check_camera(str(file), matrix, torch.eye(4, dtype=torch.float64))
    bottom = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    if float(matrix[1, 0].abs()) > 1e-6 or not torch.equal(matrix[2], bottom):
        raise SceneError(
            f"{file}: is no camera matrix, expected fx 0 cx / 0 fy cy / 0 0 1 in pixels; "
            "write it row by row"
        )
    return matrix


def read_matrix(file: Path, sizes: tuple[int, ...]) -> Tensor:
    """A square matrix of numbers from a text file, float64; numbers may be NaN or infinite.

    Args:
        file: text, numbers divided by blanks or commas.
        sizes: how many numbers there may be.

    Raises:
        SceneError: the file cannot be read or holds something else.
    """
    shapes = " or ".join(f"{round(size**0.5)} x {round(size**0.5)}" for size in sizes)
    numbers = read_numbers(file, shapes)
    if len(numbers) not in sizes:
        raise SceneError(
            f"{file}: has {len(numbers)} numbers, expected a {shapes} matrix; write it again"
        )
    side = round(len(numbers) ** 0.5)
    return torch.tensor(numbers, dtype=torch.float64).view(side, side)
