"""Camera models of COLMAP, and the pinholes among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pcdistill.errors import SceneError
from pcdistill.geometry import pinhole_intrinsics
from pcdistill.scenes.formats.images import MAX_IMAGE_PIXELS
from pcdistill.scenes.frames import check_camera


class CameraModel(NamedTuple):
    """One row of COLMAP's table of camera models."""

    number: int
    """In binary files."""
    name: str
    """In text files."""
    parameters: int
    """How many it has."""
    focal_lengths: int
    """How many of them, at the start, are focal lengths; then cx and cy, then distortion."""


CAMERA_MODELS = tuple(
    CameraModel(number, name, parameters, focal_lengths)
    for number, (name, parameters, focal_lengths) in enumerate(
        (
            ("SIMPLE_PINHOLE", 3, 1),
            ("PINHOLE", 4, 2),
            ("SIMPLE_RADIAL", 4, 1),
            ("RADIAL", 5, 1),
            ("OPENCV", 8, 2),
            ("OPENCV_FISHEYE", 8, 2),
            ("FULL_OPENCV", 12, 2),
            ("FOV", 5, 2),
            ("SIMPLE_RADIAL_FISHEYE", 4, 1),
            ("RADIAL_FISHEYE", 5, 1),
            ("THIN_PRISM_FISHEYE", 12, 2),
            ("RAD_TAN_THIN_PRISM_FISHEYE", 16, 2),
            ("SIMPLE_DIVISION", 4, 1),
            ("DIVISION", 5, 2),
            ("SIMPLE_FISHEYE", 3, 1),
            ("FISHEYE", 4, 2),
            ("EUCM", 6, 2),
            ("EQUIRECTANGULAR", 2, 0),  # width and height
        )
    )
)
"""COLMAP's table (src/colmap/sensor/models.h, 4.1)."""

_STRAIGHT = (
    "SIMPLE_PINHOLE",
    "PINHOLE",
    "SIMPLE_RADIAL",
    "RADIAL",
    "OPENCV",
    "FULL_OPENCV",
    "SIMPLE_DIVISION",
    "DIVISION",
)  # pinholes where all distortion is zero
_MEND = (
    "expected PINHOLE or SIMPLE_PINHOLE; undistort to PINHOLE (`colmap image_undistorter "
    "--image_path images --input_path sparse/0 --output_path dense`) and give the folder dense"
)
WRITE_AGAIN = "it is damaged or truncated, write the model again"


@dataclass(frozen=True, eq=False)
class ColmapCamera:
    """One pinhole camera of a model."""

    image_size: tuple[int, int]
    """(H, W), pixels."""
    intrinsics: Tensor
    """(3, 3) float64; integer coordinates are pixel centres (COLMAP's are pixel corners)."""


def model_of_number(where: str, number: int) -> CameraModel:
    """The camera model of a number in a binary file.

    Raises:
        SceneError: it is not in the table.
    """
    if 0 <= number < len(CAMERA_MODELS):
        return CAMERA_MODELS[number]
    raise SceneError(
        f"{where}: its camera model has the number {number}, which is unknown here, perhaps newer "
        f"than this reader, which knows 0 to {len(CAMERA_MODELS) - 1}, {_MEND}"
    )


def model_of_name(where: str, name: str) -> CameraModel:
    """The camera model of a name in a text file.

    Raises:
        SceneError: it is not in the table.
    """
    for model in CAMERA_MODELS:
        if model.name == name:
            return model
    raise SceneError(
        f"{where}: is no camera that is read here, its model {name[:40]} is unknown, perhaps newer "
        f"than this reader, {_MEND}"
    )


def require_read(where: str, model: CameraModel) -> None:
    """Refuse a camera model that is no pinhole, whatever its parameters are.

    Raises:
        SceneError: it is one.
    """
    if model.name not in _STRAIGHT:
        lens = "" if model.focal_lengths == 0 else " with lens distortion"
        raise SceneError(
            f"{where} is a {model.name}{lens}, a camera model that is not read ({model.number}, "
            f"{model.name}), {_MEND}"
        )


def pinhole_camera(
    where: str, model: CameraModel, image_size: tuple[int, int], parameters: Sequence[float]
) -> ColmapCamera:
    """The camera where it is a pinhole without distortion.

    Args:
        where: the camera, for messages.
        model: of the table.
        image_size: (H, W), pixels, as declared.
        parameters: as many as the model has.

    Raises:
        SceneError: it bends lines, or its numbers make no camera.
    """
    require_read(where, model)
    height, width = image_size
    if width < 1 or height < 1 or width * height > MAX_IMAGE_PIXELS:
        raise SceneError(
            f"{where} has images of {width} x {height} pixels, expected a size; {WRITE_AGAIN}"
        )
    focals = model.focal_lengths
    if any(value != 0 for value in parameters[focals + 2 :]):
        raise SceneError(
            f"{where} is a {model.name} with lens distortion, a camera model that is not read "
            f"({model.number}, {model.name}), {_MEND}"
        )
    cx, cy = parameters[focals], parameters[focals + 1]
    intrinsics = pinhole_intrinsics(parameters[0], parameters[focals - 1], cx - 0.5, cy - 0.5)
    check_camera(where, intrinsics, torch.eye(4, dtype=torch.float64))
    return ColmapCamera(image_size, intrinsics)
