"""Frames that are resized when they are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from pcdistill.errors import SceneError
from pcdistill.geometry import resize_intrinsics, resize_intrinsics_openscene
from pcdistill.scenes.checks.camera_checks import MIDDLE, is_centered, require_upright
from pcdistill.scenes.formats.images import read_color, read_depth, read_image_size
from pcdistill.scenes.frames import Frame, check_camera, register_depth
from pcdistill.scenes.reader_settings import Intrinsics
from pcdistill.scenes.resampling import Resampling, resize
from pcdistill.scenes.units import DEPTH_SCALE


@dataclass(frozen=True, eq=False)
class ResizedFrame:
    """A frame whose pixels stay in larger (or smaller) files until they are asked for."""

    name: str
    image_size: tuple[int, int]
    """(H, W), pixels, after resizing."""
    intrinsics: Tensor
    """(3, 3) float64, pixels, for `image_size`."""
    camera_to_world: Tensor
    """(4, 4) float64, metres, rigid."""
    image_path: Path
    depth_path: Path | None
    """16-bit PNG of the same pixels; None where there is no depth camera."""
    file_size: tuple[int, int]
    """(H, W), pixels, of both files."""
    resampling: Resampling
    depth_scale: float = DEPTH_SCALE
    """Counts per metre."""

    def __post_init__(self) -> None:
        check_camera(f"frame {self.name}", self.intrinsics, self.camera_to_world)

    def image(self) -> Tensor:
        """(H, W, 3) uint8, red green blue.

        Raises:
            SceneError: the file is missing, damaged, or of another size.
        """
        pixels = read_color(self.image_path)
        self._require_size(self.image_path, pixels)
        return resize(pixels, self.image_size, self.resampling)

    def depth(self) -> Tensor | None:
        """(H, W) float32, metres, 0 = unknown; None without a sensor.

        Raises:
            SceneError: the file is missing, damaged, or of another size.
        """
        if self.depth_path is None:
            return None
        counts = read_depth(self.depth_path, depth_scale=1.0)
        self._require_size(self.depth_path, counts)
        return resize(counts, self.image_size, self.resampling).round() / self.depth_scale

    def _require_size(self, path: Path, pixels: Tensor) -> None:
        require_size(path, (pixels.shape[0], pixels.shape[1]), self.file_size)


def resize_intrinsics_by_rule(
    intrinsics: Tensor, from_size: tuple[int, int], to_size: tuple[int, int], rule: Intrinsics
) -> Tensor:
    """Camera matrix after an image was stretched to another size.

    Args:
        intrinsics: (3, 3) float64, pixels, for images of `from_size`.
        from_size: (H, W) before.
        to_size: (H, W) after.
        rule: `own` scales focal lengths with width and height and keeps the image's borders on its
            borders, so that an integer coordinate stays the centre of a pixel; `openscene` is the
            rule of `resize_intrinsics_openscene`.

    Returns:
        (3, 3) float64; a copy.
    """
    if rule == "openscene":
        return resize_intrinsics_openscene(intrinsics, from_size, to_size)
    return resize_intrinsics(intrinsics, from_size, to_size)


def require_size(path: Path, found: tuple[int, int], expected: tuple[int, int]) -> None:
    """Refuse an image file that is not of the size the camera is for.

    Args:
        path: of the image.
        found: (h, w) of it, pixels.
        expected: (H, W) that the camera is for, pixels.

    Raises:
        SceneError: the sizes differ.
    """
    if found != expected:
        raise SceneError(
            f"{path}: is {found[1]} x {found[0]} pixels, expected {expected[1]} x {expected[0]} "
            "like the colour images the camera is for; restore the original file"
        )


def check_matching_sizes(
    where: Path, intrinsics: Tensor, color: Path, depth: Path
) -> tuple[int, int]:
    """(H, W) of a frame's two files, read from their headers.

    Args:
        where: the file that holds the camera, for the message.
        intrinsics: (3, 3) float64, pixels, of the files.
        color: colour image.
        depth: depth image.

    Raises:
        SceneError: a header is damaged, the sizes differ, or the camera is one of other images.
    """
    size = read_image_size(color)
    require_size(depth, read_image_size(depth), size)
    if not is_centered(intrinsics, size, MIDDLE):
        guess = f"{2 * float(intrinsics[0, 2]):.0f} x {2 * float(intrinsics[1, 2]):.0f}"
        raise SceneError(
            f"{where}: its principal point is that of images of about {guess} pixels, "
            f"{color.name} is {size[1]} x {size[0]}; restore the original images or the camera file"
        )
    require_upright(where, intrinsics, size, color)
    return size


@dataclass(frozen=True, eq=False)
class ResampledFrame:
    """A frame shown at another size; its pixels are resized when they are asked for."""

    frame: Frame
    image_size: tuple[int, int]
    """(H, W), pixels, wanted."""

    @property
    def name(self) -> str:
        """That of the frame."""
        return self.frame.name

    @property
    def intrinsics(self) -> Tensor:
        """(3, 3) float64, pixels of the wanted size."""
        return resize_intrinsics(self.frame.intrinsics, self.frame.image_size, self.image_size)

    @property
    def camera_to_world(self) -> Tensor:
        """(4, 4) float64, metres, rigid."""
        return self.frame.camera_to_world

    def image(self) -> Tensor:
        """(H, W, 3) uint8; each pixel the mean of those it covers."""
        return resize(self.frame.image(), self.image_size, "antialias")

    def depth(self) -> Tensor | None:
        """(H, W) float32, metres; the nearest reading on each pixel's ray."""
        depth = self.frame.depth()
        if depth is None:
            return None
        return register_depth(depth, self.frame.intrinsics, self.intrinsics, self.image_size)
