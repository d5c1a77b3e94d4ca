"""Checks that a camera matrix belongs to its images: principal point, size, orientation."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from pcdistill.errors import SceneError
from pcdistill.scenes.formats.images import orientation_of, read_image_size
from pcdistill.scenes.issues import report_issue

MIDDLE = (0.3, 0.7)
"""Of an image's side: between which the principal point of a data set's own camera lies."""
ABOUT_MIDDLE = (0.2, 0.8)
"""The same of a capture, whose images may be cropped."""
_CENTERED = 0.03
"""Of an image's side: how far a principal point that is not cropped is from the middle at most."""
_NOT_CENTERED = 0.08
"""How far it must be from the middle of an image that it is not the one of."""


def principal_point_place(intrinsics: Tensor, image_size: tuple[int, int]) -> tuple[float, float]:
    """Where in an image the principal point is, across and down, as parts of its width and height.

    Args:
        intrinsics: (3, 3) float64, pixels.
        image_size: (H, W), pixels.
    """
    height, width = image_size
    return float(intrinsics[0, 2]) / width, float(intrinsics[1, 2]) / height


def is_centered(
    intrinsics: Tensor, image_size: tuple[int, int], limits: tuple[float, float]
) -> bool:
    """Whether the principal point is near enough to the middle that the camera is for the image.

    Args:
        intrinsics: (3, 3) float64, pixels.
        image_size: (H, W), pixels.
        limits: parts of a side between which it must be, `MIDDLE` or `ABOUT_MIDDLE`.
    """
    low, high = limits
    return all(low <= place <= high for place in principal_point_place(intrinsics, image_size))


def check_principal_point(where: Path, intrinsics: Tensor, image: Path) -> tuple[int, int]:
    """Refuse a camera whose principal point is not about in the middle of its images.

    Args:
        where: the file that holds the camera, for the message.
        intrinsics: (3, 3) float64, pixels.
        image: one of the images; its header is read.

    Returns:
        (H, W) of the image, pixels.

    Raises:
        SceneError: it is not: the camera matrix is for images of another size.
    """
    height, width = read_image_size(image)
    if not is_centered(intrinsics, (height, width), ABOUT_MIDDLE):
        guess = f"{2 * float(intrinsics[0, 2]):.4g} x {2 * float(intrinsics[1, 2]):.4g}"
        report_issue(
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
        report_issue(
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

    Args:
        where: the file that holds the camera, for the message.
        expected: (H, W) that the camera is for, pixels.
        image: its header is read.

    Raises:
        SceneError: the sizes differ.
    """
    found = read_image_size(image)
    if found == expected:
        return
    fix = "give the images that the cameras were made for"
    if found == expected[::-1]:
        fix = "turn the images as they were when the cameras were made"
        if orientation_of(image) > 4:
            fix = (
                "its EXIF orientation says that it is to be turned, which is not done here: write "
                "the images turned (`mogrify -auto-orient`)"
            )
    raise SceneError(
        f"{image}: is {found[1]} x {found[0]} pixels, {where.name} has a camera for "
        f"{expected[1]} x {expected[0]}; {fix}"
    )


def check_depth_aspect(
    depth: Path, depth_size: tuple[int, int], image_size: tuple[int, int], fix: str
) -> None:
    """Refuse depth whose sides are in another proportion than those of its image.

    Args:
        depth: the file, for the message.
        depth_size: (h, w), pixels.
        image_size: (H, W), pixels.
        fix: what to do, for the message.

    Raises:
        SceneError: the proportions differ by more than 5 %.
    """
    if abs(depth_size[0] * image_size[1] / (depth_size[1] * image_size[0]) - 1) > 0.05:
        raise SceneError(
            f"{depth}: is {depth_size[1]} x {depth_size[0]} pixels, its image {image_size[1]} x "
            f"{image_size[0]}, expected one shape; {fix}"
        )
