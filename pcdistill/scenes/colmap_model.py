"""COLMAP sparse models: cameras, poses and points from text or binary files."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from pcdistill.errors import SceneError
from pcdistill.geometry import invert_pose
from pcdistill.scenes.capture import is_there, pinhole, pose_of
from pcdistill.scenes.frames import check_camera
from pcdistill.scenes.images import LARGEST_IMAGE

_MODELS = (
    ("SIMPLE_PINHOLE", 3),
    ("PINHOLE", 4),
    ("SIMPLE_RADIAL", 4),
    ("RADIAL", 5),
    ("OPENCV", 8),
    ("OPENCV_FISHEYE", 8),
    ("FULL_OPENCV", 12),
    ("FOV", 5),
    ("SIMPLE_RADIAL_FISHEYE", 4),
    ("RADIAL_FISHEYE", 5),
    ("THIN_PRISM_FISHEYE", 12),
    ("RAD_TAN_THIN_PRISM_FISHEYE", 16),
)  # in the order of their numbers in binary files, with their counts of parameters
_ONE_FOCAL = ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL")
_STRAIGHT = (*_ONE_FOCAL, "PINHOLE", "OPENCV", "FULL_OPENCV")  # pinholes where nothing is distorted
_LARGEST_NAME = 1024
_LARGEST_MODEL = 4 << 30
_LARGEST_LINE = 64 << 20
_WRITE_AGAIN = "it is damaged or truncated, write the model again"


@dataclass(frozen=True, eq=False)
class ColmapCamera:
    """One pinhole camera of a model."""

    image_size: tuple[int, int]
    """(H, W), pixels."""
    intrinsics: Tensor
    """(3, 3) float64; integer coordinates are pixel centres (COLMAP's are pixel corners)."""


@dataclass(frozen=True, eq=False)
class ColmapImage:
    """One registered image of a model."""

    name: str
    """Path below the folder of images."""
    camera_id: int
    camera_to_world: Tensor
    """(4, 4) float64; NaN where the file gives no rotation."""


@dataclass(frozen=True, eq=False)
class ColmapPoints:
    """The sparse points of a model."""

    points: Tensor
    """(N, 3) float64, in the model's own unit."""
    colors: Tensor
    """(N, 3) uint8."""
    errors: Tensor
    """(N,) float64, mean reprojection error in pixels."""
    views: Tensor
    """(N,) int64, observations of each."""


def is_colmap_model(folder: Path) -> bool:
    """Whether `folder` has the cameras or images of a sparse model."""
    return any(
        is_there(folder / f"{name}{suffix}")
        for name in ("cameras", "images")
        for suffix in (".bin", ".txt")
    )


def read_cameras(folder: Path) -> dict[int, ColmapCamera]:
    """Cameras of a model by their number.

    Raises:
        SceneError: the file is missing or damaged, or a camera is no pinhole.
    """
    file = _model_file(folder, "cameras")
    cameras = {}
    rows = _binary_cameras(file) if file.suffix == ".bin" else _text_cameras(file)
    for number, model, width, height, parameters in rows:
        cameras[number] = _camera(file, number, model, width, height, parameters)
    if not cameras:
        raise SceneError(f"{file}: has no camera, expected at least one; {_WRITE_AGAIN}")
    return cameras


def read_images(folder: Path) -> list[ColmapImage]:
    """Registered images of a model, in the order of their names.

    Raises:
        SceneError: the file is missing or damaged.
    """
    file = _model_file(folder, "images")
    rows = _binary_images(file) if file.suffix == ".bin" else _text_images(file)
    images = []
    for quaternion, translation, camera_id, name in rows:
        w, x, y, z = quaternion
        world_to_camera = pose_of((x, y, z, w), translation)
        finite = bool(torch.isfinite(world_to_camera).all())
        pose = invert_pose(world_to_camera) if finite else world_to_camera
        images.append(ColmapImage(name, camera_id, pose))
    return sorted(images, key=lambda image: image.name)


def read_points(folder: Path) -> ColmapPoints | None:
    """Sparse points of a model; None where it has no file of them.

    Raises:
        SceneError: the file is damaged.
    """
    if not any(is_there(folder / f"points3D{suffix}") for suffix in (".bin", ".txt")):
        return None
    file = _model_file(folder, "points3D")
    rows = list(_binary_points(file) if file.suffix == ".bin" else _text_points(file))
    table = np.array(rows, dtype=np.float64).reshape(-1, 8)
    colors = torch.from_numpy(np.clip(table[:, 3:6], 0, 255).astype(np.uint8))
    points = torch.from_numpy(np.ascontiguousarray(table[:, :3]))
    errors = torch.from_numpy(np.ascontiguousarray(table[:, 6]))
    return ColmapPoints(points, colors, errors, torch.from_numpy(table[:, 7].astype(np.int64)))


def read_depth_map(path: Path) -> Tensor:
    """A depth map of COLMAP's dense stereo.

    Args:
        path: "WIDTH&HEIGHT&CHANNELS&" in ASCII, then float32 values, x fastest.

    Returns:
        (H, W) float32, in the model's own unit; 0 = unknown.

    Raises:
        SceneError: the file is missing, damaged, or of another size than it says.
    """
    try:
        with path.open("rb") as stream:
            width, height = _depth_header(path, stream)
            metres = np.fromfile(stream, dtype="<f4", count=width * height)
    except OSError as error:
        raise _unreadable(path, error) from error
    metres = metres.reshape(height, width).astype(np.float32)
    metres[~(np.isfinite(metres) & (metres > 0))] = 0
    return torch.from_numpy(metres)


def depth_map_size(path: Path) -> tuple[int, int]:
    """(H, W) of a depth map, which is checked against the size of the file.

    Raises:
        SceneError: the file is missing, damaged, or of another size than it says.
    """
    try:
        with path.open("rb") as stream:
            width, height = _depth_header(path, stream)
    except OSError as error:
        raise _unreadable(path, error) from error
    return height, width


def _depth_header(path: Path, stream: BinaryIO) -> tuple[int, int]:
    words = stream.read(64).split(b"&")
    if len(words) < 4 or not all(word.isdigit() and len(word) < 9 for word in words[:3]):
        raise SceneError(
            f"{path}: does not begin with 'WIDTH&HEIGHT&CHANNELS&', expected a depth map of "
            "COLMAP; run `colmap patch_match_stereo` again"
        )
    width, height, channels = (int(word) for word in words[:3])
    start = sum(len(word) + 1 for word in words[:3])
    expected = start + 4 * width * height
    found = os.fstat(stream.fileno()).st_size
    if channels != 1 or width * height == 0 or width * height > LARGEST_IMAGE or found != expected:
        raise SceneError(
            f"{path}: declares {width} x {height} pixels of {channels} channels and has {found} "
            "bytes, expected one channel of 4 bytes a pixel; run `colmap patch_match_stereo` again"
        )
    stream.seek(start)
    return width, height


def _model_file(folder: Path, name: str) -> Path:
    for suffix in (".bin", ".txt"):
        if is_there(folder / f"{name}{suffix}"):
            return folder / f"{name}{suffix}"
    raise SceneError(
        f"{folder}: has neither {name}.bin nor {name}.txt, expected a COLMAP model; copy all of "
        "its files"
    )


def _camera(
    file: Path, number: int, model: str, width: int, height: int, parameters: list[float]
) -> ColmapCamera:
    if width < 1 or height < 1 or width * height > LARGEST_IMAGE:
        raise SceneError(
            f"{file}: camera {number} has images of {width} x {height} pixels, expected a size; "
            f"{_WRITE_AGAIN}"
        )
    focals = 1 if model in _ONE_FOCAL else 2
    distortion = parameters[focals + 2 :]
    if model not in _STRAIGHT or any(value != 0 for value in distortion):
        raise SceneError(
            f"{file}: camera {number} is a {model} with lens distortion, expected PINHOLE or "
            "SIMPLE_PINHOLE; undistort the images with `colmap image_undistorter --image_path "
            "images --input_path sparse/0 --output_path dense` and give the folder dense"
        )
    fx, fy = parameters[0], parameters[focals - 1]
    cx, cy = parameters[focals], parameters[focals + 1]
    intrinsics = pinhole(fx, fy, cx - 0.5, cy - 0.5)
    check_camera(f"{file}: camera {number}", intrinsics, torch.eye(4, dtype=torch.float64))
    return ColmapCamera((height, width), intrinsics)


_CameraRow = tuple[int, str, int, int, list[float]]
_ImageRow = tuple[tuple[float, ...], tuple[float, ...], int, str]
_PointRow = tuple[float, ...]


def _binary_cameras(file: Path) -> Iterator[_CameraRow]:
    with _opened(file) as stream:
        for _ in range(_record_count(file, stream, 48)):
            number, kind, width, height = struct.unpack("<iiQQ", _read(file, stream, 24))
            if not 0 <= kind < len(_MODELS):
                raise SceneError(f"{file}: camera {number} has model {kind}; {_WRITE_AGAIN}")
            model, count = _MODELS[kind]
            yield (
                number,
                model,
                width,
                height,
                list(struct.unpack(f"<{count}d", _read(file, stream, 8 * count))),
            )
        _require_end(file, stream)


def _text_cameras(file: Path) -> Iterator[_CameraRow]:
    counts = dict(_MODELS)
    for where, words in _text_rows(file):
        if len(words) < 5 or words[1] not in counts:
            raise SceneError(
                f"{where}: is no camera, expected 'ID MODEL WIDTH HEIGHT PARAMETERS' with one of "
                f"COLMAP's models; {_WRITE_AGAIN}"
            )
        parameters = [_real(where, word) for word in words[4:]]
        if len(parameters) != counts[words[1]]:
            raise SceneError(
                f"{where}: has {len(parameters)} parameters, a {words[1]} camera has "
                f"{counts[words[1]]}; {_WRITE_AGAIN}"
            )
        yield (
            _whole(where, words[0]),
            words[1],
            _whole(where, words[2]),
            _whole(where, words[3]),
            parameters,
        )


def _binary_images(file: Path) -> Iterator[_ImageRow]:
    with _opened(file) as stream:
        for _ in range(_record_count(file, stream, 73)):
            values = struct.unpack("<I7dI", _read(file, stream, 64))
            name = bytearray()
            while (letter := _read(file, stream, 1)) != b"\0":
                name += letter
                if len(name) > _LARGEST_NAME:
                    raise SceneError(f"{file}: has an image name without end; {_WRITE_AGAIN}")
            (seen,) = struct.unpack("<Q", _read(file, stream, 8))
            _skip(file, stream, 24 * seen)
            yield values[1:5], values[5:8], values[8], name.decode("utf-8", "replace")
        _require_end(file, stream)


def _text_images(file: Path) -> Iterator[_ImageRow]:
    pose_line = True  # two lines an image; the second, its observations, may be empty
    for where, words in _text_rows(file, keep_empty=True):
        if not pose_line:
            if len(words) % 3:
                raise SceneError(
                    f"{where}: has {len(words)} words, expected 'X Y POINT3D_ID' of each "
                    f"observation; {_WRITE_AGAIN}"
                )
            pose_line = True
            continue
        if not words:
            continue
        if len(words) < 10:
            raise SceneError(
                f"{where}: is no image, expected 'ID QW QX QY QZ TX TY TZ CAMERA_ID NAME'; "
                f"{_WRITE_AGAIN}"
            )
        values = tuple(_real(where, word) for word in words[1:8])
        yield values[:4], values[4:], _whole(where, words[8]), " ".join(words[9:])
        pose_line = False


def _binary_points(file: Path) -> Iterator[_PointRow]:
    with _opened(file) as stream:
        for _ in range(_record_count(file, stream, 51)):
            _, x, y, z, red, green, blue, error, seen = struct.unpack(
                "<Q3d3BdQ", _read(file, stream, 51)
            )
            _skip(file, stream, 8 * seen)
            yield x, y, z, red, green, blue, error, seen
        _require_end(file, stream)


def _text_points(file: Path) -> Iterator[_PointRow]:
    for where, words in _text_rows(file):
        if len(words) < 8 or len(words) % 2:
            raise SceneError(
                f"{where}: is no point, expected 'ID X Y Z R G B ERROR' and pairs of its track; "
                f"{_WRITE_AGAIN}"
            )
        values = [_real(where, word) for word in words[1:8]]
        if not all(0 <= value <= 255 for value in values[3:6]):
            raise SceneError(f"{where}: has no colour from 0 to 255; {_WRITE_AGAIN}")
        yield *values, (len(words) - 8) / 2


def _text_rows(file: Path, *, keep_empty: bool = False) -> Iterator[tuple[str, list[str]]]:
    number = 0
    with _opened(file) as stream:
        while line := stream.readline(_LARGEST_LINE):
            number += 1
            words = line.decode("utf-8", "replace").split()
            if words and words[0].startswith("#"):
                continue
            if words or keep_empty:
                yield f"{file}:{number}", words


def _opened(file: Path) -> BinaryIO:
    try:
        return file.open("rb")
    except OSError as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: OSError) -> SceneError:
    return SceneError(
        f"{file}: cannot be read ({error.strerror or error}), expected a file of COLMAP; restore it"
    )


def _record_count(file: Path, stream: BinaryIO, smallest: int) -> int:
    size = os.fstat(stream.fileno()).st_size
    (count,) = struct.unpack("<Q", _read(file, stream, 8))
    if count * smallest > size or size > _LARGEST_MODEL:
        raise SceneError(
            f"{file}: declares {count} records of at least {smallest} bytes and has {size}; "
            f"{_WRITE_AGAIN}"
        )
    return int(count)


def _read(file: Path, stream: BinaryIO, size: int) -> bytes:
    content = stream.read(size)
    if len(content) != size:
        raise SceneError(f"{file}: ends within a record; {_WRITE_AGAIN}")
    return content


def _skip(file: Path, stream: BinaryIO, size: int) -> None:
    if size > os.fstat(stream.fileno()).st_size - stream.tell():
        raise SceneError(f"{file}: ends within a record; {_WRITE_AGAIN}")
    stream.seek(size, os.SEEK_CUR)


def _require_end(file: Path, stream: BinaryIO) -> None:
    if stream.read(1):
        raise SceneError(f"{file}: has more content than its count declares; {_WRITE_AGAIN}")


def _real(where: str, word: str) -> float:
    try:
        return float(word)
    except ValueError as error:
        raise SceneError(f"{where}: '{word[:40]}' is no number; {_WRITE_AGAIN}") from error


def _whole(where: str, word: str) -> int:
    value = _real(where, word)
    if not math.isfinite(value) or value != int(value):
        raise SceneError(f"{where}: '{word[:40]}' is no whole number; {_WRITE_AGAIN}")
    return int(value)
