"""An image of one of the cameras on a car, resized when it is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from pcdistill.errors import SceneError
from pcdistill.geometry import resize_intrinsics, resize_intrinsics_openscene
from pcdistill.scenes.formats.images import read_color, read_image_size
from pcdistill.scenes.frames import check_camera
from pcdistill.scenes.reader_settings import Intrinsics

IMAGE_SIZE = (450, 800)
"""(H, W) pixels, half of what the cameras record, as in OpenScene's preprocessing."""


@dataclass(frozen=True, eq=False)
class VehicleFrame:
    """A frame that has no depth; its image file stays on disk until it is asked for."""

    name: str
    image_size: tuple[int, int]
    """(H, W), pixels, of what `image` gives."""
    intrinsics: Tensor
    """(3, 3) float64, pixels, for `image_size`."""
    camera_to_world: Tensor
    """(4, 4) float64, metres, rigid."""
    image_path: Path
    file_size: tuple[int, int]
    """(H, W), pixels, of the file."""

    def image(self) -> Tensor:
        """(H, W, 3) uint8, red green blue.

        Raises:
            SceneError: the file is missing, damaged, or of another size.
        """
        pixels = read_color(self.image_path)
        _require_size(self.image_path, (pixels.shape[0], pixels.shape[1]), self.file_size)
        return resize_color(pixels, self.image_size)

    def depth(self) -> None:
        """There is no depth camera on the car."""
        return None


def make_vehicle_frame(
    name: str,
    image_path: Path,
    file_size: tuple[int, int],
    intrinsics: Tensor,
    camera_to_world: Tensor,
    *,
    image_size: tuple[int, int] | None,
    scaling: Intrinsics,
) -> VehicleFrame:
    """A frame whose camera matrix is scaled with its image.

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
    if scaling == "openscene":
        scaled = resize_intrinsics_openscene(intrinsics, file_size, size)
    else:
        scaled = resize_intrinsics(intrinsics, file_size, size)
    return VehicleFrame(name, size, scaled, camera_to_world, image_path, file_size)


def resize_color(pixels: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Shrink an image by averaging what each new pixel covers, or enlarge it bilinearly.

    At half the size this is also what linear interpolation between pixel centres gives.

    Args:
        pixels: (h, w, 3) uint8.
        image_size: (H, W).

    Returns:
        (H, W, 3) uint8.
    """
    if tuple(pixels.shape[:2]) == image_size:
        return pixels
    shrinks = image_size[0] <= pixels.shape[0] and image_size[1] <= pixels.shape[1]
    resized = torch.empty((*image_size, pixels.shape[2]), dtype=torch.uint8)
    for channel in range(pixels.shape[2]):  # one at a time: floats take four times the memory
        plane = pixels[None, None, :, :, channel].float()
        if shrinks:
            plane = functional.interpolate(plane, size=image_size, mode="area")
        else:
            plane = functional.interpolate(
                plane, size=image_size, mode="bilinear", align_corners=False
            )
        resized[..., channel] = (plane[0, 0] + 0.5).floor().clamp(0, 255).to(torch.uint8)
    return resized


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
