"""Reader of COLMAP sparse models: cameras, poses and points from text or binary files."""

from __future__ import annotations

import math
import os
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from pcdistill.errors import SceneError
from pcdistill.geometry import invert_pose, pose_from_quaternion
from pcdistill.scenes.formats.images import MAX_IMAGE_PIXELS, drop_sentinels
from pcdistill.scenes.formats.text import number_of, split_fields, stream_lines
from pcdistill.scenes.paths import is_existing_file
from pcdistill.scenes.readers.colmap.cameras import (
    WRITE_AGAIN,
    CameraModel,
    ColmapCamera,
    model_of_name,
    model_of_number,
    pinhole_camera,
    require_read,
)

_MAX_NAME = 1024
_MAX_MODEL = 4 << 30
_SUFFIXES = (".bin", ".txt")  # COLMAP itself prefers the binary one


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


def read_cameras(folder: Path, suffix: str = "") -> dict[int, ColmapCamera]:
    """Cameras of a model by their number.

    Args:
        folder: of the model.
        suffix: ".bin" or ".txt" where both are there; the binary one by default.

    Raises:
        SceneError: the file is missing, cannot be read or is damaged, or a camera is no pinhole.
    """
    file = _model_file(folder, "cameras", suffix)
    cameras = {}
    rows = _binary_cameras(file) if file.suffix == ".bin" else _text_cameras(file)
    for number, model, width, height, parameters in rows:
        where = f"{file}: camera {number}"
        cameras[number] = pinhole_camera(where, model, (height, width), parameters)
    if not cameras:
        raise SceneError(f"{file}: has no camera, expected at least one; {WRITE_AGAIN}")
    return cameras


def read_images(folder: Path, suffix: str = "") -> list[ColmapImage]:
    """Registered images of a model, in the order of their names; see `read_cameras`.

    Raises:
        SceneError: the file is missing, cannot be read or is damaged.
    """
    file = _model_file(folder, "images", suffix)
    rows = _binary_images(file) if file.suffix == ".bin" else _text_images(file)
    images = []
    for quaternion, translation, camera_id, name in rows:
        w, x, y, z = quaternion
        world_to_camera = pose_from_quaternion((x, y, z, w), translation)
        finite = bool(torch.isfinite(world_to_camera).all())
        pose = invert_pose(world_to_camera) if finite else world_to_camera
        images.append(ColmapImage(name, camera_id, pose))
    return sorted(images, key=lambda image: image.name)


def count_images(folder: Path, suffix: str) -> int:
    """How many images a model has registered, by the count of its binary file or its lines.

    Raises:
        SceneError: the file is missing, cannot be read or is damaged.
    """
    file = _model_file(folder, "images", suffix)
    if file.suffix == ".txt":
        return sum(1 for _ in _text_images(file))
    with _opened(file) as stream:
        return _record_count(file, stream, 73)


def read_points(folder: Path, suffix: str = "") -> ColmapPoints | None:
    """Sparse points of a model; None where it has no file of them; see `read_cameras`.

    Raises:
        SceneError: the file cannot be read or is damaged.
    """
    if not any(is_existing_file(folder / f"points3D{kind}") for kind in _SUFFIXES):
        return None
    file = _model_file(folder, "points3D", suffix)
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
    return torch.from_numpy(drop_sentinels(metres))


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
    if (
        channels != 1
        or width * height == 0
        or width * height > MAX_IMAGE_PIXELS
        or found != expected
    ):
        raise SceneError(
            f"{path}: declares {width} x {height} pixels of {channels} channels and has {found} "
            "bytes, expected one channel of 4 bytes a pixel; run `colmap patch_match_stereo` again"
        )
    stream.seek(start)
    return width, height


def _model_file(folder: Path, name: str, wanted: str) -> Path:
    for suffix in (wanted, *_SUFFIXES):
        if suffix and is_existing_file(folder / f"{name}{suffix}"):
            return folder / f"{name}{suffix}"
    raise SceneError(
        f"{folder}: has neither {name}.bin nor {name}.txt, expected a COLMAP model; copy all of "
        "its files"
    )


_CameraRow = tuple[int, CameraModel, int, int, Sequence[float]]
_ImageRow = tuple[tuple[float, ...], tuple[float, ...], int, str]
_PointRow = tuple[float, ...]


def _binary_cameras(file: Path) -> Iterator[_CameraRow]:
    with _opened(file) as stream:
        for _ in range(_record_count(file, stream, 40)):
            number, kind, width, height = struct.unpack("<iiQQ", _read(file, stream, 24))
            model = model_of_number(f"{file}: camera {number}", kind)
            require_read(f"{file}: camera {number}", model)
            parameters = _read(file, stream, 8 * model.parameters)
            yield number, model, width, height, struct.unpack(f"<{model.parameters}d", parameters)
        _require_end(file, stream)


def _text_cameras(file: Path) -> Iterator[_CameraRow]:
    for where, line in _text_lines(file):
        (words,) = split_fields([line])
        if not words:
            continue
        if len(words) < 5:
            raise SceneError(
                f"{where}: is no camera, expected 'ID MODEL WIDTH HEIGHT PARAMETERS' with one of "
                f"COLMAP's models; {WRITE_AGAIN}"
            )
        model = model_of_name(where, words[1])
        number = _whole(where, words[0])
        require_read(f"{where}: camera {number}", model)
        parameters = [_real(where, word) for word in words[4:]]
        if len(parameters) != model.parameters:
            raise SceneError(
                f"{where}: has {len(parameters)} parameters, a {model.name} camera has "
                f"{model.parameters}; {WRITE_AGAIN}"
            )
        yield number, model, _whole(where, words[2]), _whole(where, words[3]), parameters


def _binary_images(file: Path) -> Iterator[_ImageRow]:
    with _opened(file) as stream:
        for _ in range(_record_count(file, stream, 73)):
            values = struct.unpack("<I7dI", _read(file, stream, 64))
            name = bytearray()
            while (letter := _read(file, stream, 1)) != b"\0":
                name += letter
                if len(name) > _MAX_NAME:
                    raise SceneError(f"{file}: has an image name without end; {WRITE_AGAIN}")
            (seen,) = struct.unpack("<Q", _read(file, stream, 8))
            _skip(file, stream, 24 * seen)
            yield values[1:5], values[5:8], values[8], name.decode("utf-8", "replace")
        _require_end(file, stream)


def _text_images(file: Path) -> Iterator[_ImageRow]:
    pose_line = True  # two lines an image; the second, its observations, may be empty
    for where, line in _text_lines(file):
        if not pose_line:
            (words,) = split_fields([line])
            if len(words) % 3:
                raise SceneError(
                    f"{where}: has {len(words)} words, expected 'X Y POINT3D_ID' of each "
                    f"observation; {WRITE_AGAIN}"
                )
            pose_line = True
            continue
        if not line:
            continue
        words = re.split(r"[\s;]+", line, maxsplit=9)  # what is left is the name
        if len(words) < 10:
            words = re.split(r"[\s,;]+", line, maxsplit=9)
        (fields,) = split_fields([" ".join(words[:9])])
        if len(words) < 10 or len(fields) != 9:
            raise SceneError(
                f"{where}: is no image, expected 'ID QW QX QY QZ TX TY TZ CAMERA_ID NAME'; "
                f"{WRITE_AGAIN}"
            )
        values = tuple(_real(where, word) for word in fields[1:8])
        yield values[:4], values[4:], _whole(where, fields[8]), words[9]
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
    for where, line in _text_lines(file):
        (words,) = split_fields([line])
        if not words:
            continue
        if len(words) < 8 or len(words) % 2:
            raise SceneError(
                f"{where}: is no point, expected 'ID X Y Z R G B ERROR' and pairs of its track; "
                f"{WRITE_AGAIN}"
            )
        values = [_real(where, word) for word in words[1:8]]
        if not all(0 <= value <= 255 for value in values[3:6]):
            raise SceneError(f"{where}: has no colour from 0 to 255; {WRITE_AGAIN}")
        yield *values, (len(words) - 8) / 2


def _text_lines(file: Path) -> Iterator[tuple[str, str]]:
    """The place "FILE:LINE" and the text of each line that is no comment."""
    for number, line in enumerate(stream_lines(file, "a file of COLMAP"), start=1):
        if not line.lstrip().startswith("#"):
            yield f"{file}:{number}", line.strip()


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
    if count * smallest > size or size > _MAX_MODEL:
        raise SceneError(
            f"{file}: declares {count} records of at least {smallest} bytes and has {size}; "
            f"{WRITE_AGAIN}"
        )
    return int(count)


def _read(file: Path, stream: BinaryIO, size: int) -> bytes:
    content = stream.read(size)
    if len(content) != size:
        raise SceneError(f"{file}: ends within a record; {WRITE_AGAIN}")
    return content


def _skip(file: Path, stream: BinaryIO, size: int) -> None:
    if size > os.fstat(stream.fileno()).st_size - stream.tell():
        raise SceneError(f"{file}: ends within a record; {WRITE_AGAIN}")
    stream.seek(size, os.SEEK_CUR)


def _require_end(file: Path, stream: BinaryIO) -> None:
    if stream.read(1):
        raise SceneError(f"{file}: has more content than its count declares; {WRITE_AGAIN}")


def _real(where: str, word: str) -> float:
    try:
        return number_of(word)
    except ValueError as error:
        raise SceneError(f"{where}: '{word[:40]}' is no number; {WRITE_AGAIN}") from error


def _whole(where: str, word: str) -> int:
    value = _real(where, word)
    if not math.isfinite(value) or value != int(value):
        raise SceneError(f"{where}: '{word[:40]}' is no whole number; {WRITE_AGAIN}")
    return int(value)
