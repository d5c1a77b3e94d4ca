"""Frames of the cameras on a car, without depth."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from pcdistill.errors import SceneError
from pcdistill.scenes.formats.images import read_image_size
from pcdistill.scenes.frames import check_camera
from pcdistill.scenes.reader_settings import Intrinsics
from pcdistill.scenes.resampled_frames import ResizedFrame, resize_intrinsics_by_rule

IMAGE_SIZE = (450, 800)
"""(H, W) pixels, half of what the cameras record, as in OpenScene's preprocessing."""


def make_vehicle_frame(
    name: str,
    image_path: Path,
    file_size: tuple[int, int],
    intrinsics: Tensor,
    camera_to_world: Tensor,
    *,
    image_size: tuple[int, int] | None,
    scaling: Intrinsics,
) -> ResizedFrame:
    """Make a frame without depth whose camera matrix is scaled with its image.

    Args:
        name: of the frame.
        image_path: JPEG or PNG; only its header is read.
        file_size: (H, W) that `intrinsics` are for; the file must have it.
        intrinsics: (3, 3) float64, pixels.
        camera_to_world: (4, 4) float64, metres.
        image_size: (H, W) to resize to, None for `IMAGE_SIZE`.
        scaling: `own` maps pixel edges onto pixel edges as the resizing does; `openscene` maps
            corner pixel centres onto corner pixel centres as its scripts do, 0.02 pixels off at
            half the size.

    Raises:
        SceneError: the image has another size, or the camera is no pinhole at a rigid pose.
    """
    size = IMAGE_SIZE if image_size is None else image_size
    _require_pinhole(image_path, file_size, intrinsics, camera_to_world)
    _require_size(image_path, read_image_size(image_path), file_size)
    scaled = resize_intrinsics_by_rule(intrinsics, file_size, size, scaling)
    return ResizedFrame(
        *(name, size, scaled, camera_to_world, image_path),
        depth_path=None,
        file_size=file_size,
        resampling="area",
    )


def _require_pinhole(
    path: Path, image_size: tuple[int, int], intrinsics: Tensor, camera_to_world: Tensor
) -> None:
    """Refuse a camera that cannot have taken an image of this size."""
    check_camera(f"{path}: its camera", intrinsics, camera_to_world)
    (fx, skew, cx), (zero, fy, cy), bottom = intrinsics.tolist()
    height, width = image_size
    inside = 0 < cx < width and 0 < cy < height and width > 1 and height > 1
    focal = width / 20 < min(fx, fy) <= max(fx, fy) < 20 * width
    if not (inside and focal) or abs(skew) > fx / 10 or zero != 0 or bottom != [0.0, 0.0, 1.0]:
        rows = " / ".join(" ".join(f"{value:.5g}" for value in row) for row in intrinsics.tolist())
        raise SceneError(
            f"{path}: its camera matrix is {rows}, expected fx 0 cx / 0 fy cy / 0 0 1 in pixels of "
            f"an image of {width} x {height}; restore the original calibration"
        )


def _require_size(path: Path, found: tuple[int, int], expected: tuple[int, int]) -> None:
    if found != expected:
        raise SceneError(
            f"{path}: is {found[1]} x {found[0]} pixels, its camera matrix is for "
            f"{expected[1]} x {expected[0]}; restore the original image"
        )
