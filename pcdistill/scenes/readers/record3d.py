"""Reader of Record3D captures (iPhone or iPad with LiDAR).

Export "EXR + RGB images", or unpack a .r3d file, which is a zip archive:

    metadata.json or metadata   K (by columns), w, h, poses (qx qy qz qw tx ty tz) of each frame,
                                perFrameIntrinsicCoeffs (fx fy cx cy) where focus changed
    rgb/N.jpg|png               colour of frame N; in .r3d files rgbd/N.jpg
    depth/N.exr|png|npy         metres (EXR, npy) or 16-bit millimetres (PNG)
    rgbd/N.depth                in .r3d files: float32 metres, raw or compressed with LZFSE

ARKit cameras look along -z with y up; its world has y up. Depth has fewer pixels than colour.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pcdistill.errors import SceneError
from pcdistill.geometry import pinhole_intrinsics, pose_from_quaternion, resize_intrinsics
from pcdistill.scenes.checks.camera_checks import (
    check_depth_aspect,
    check_principal_point,
    require_size,
)
from pcdistill.scenes.checks.depth_checks import check_depth_unit
from pcdistill.scenes.checks.depth_limits import within_limit
from pcdistill.scenes.checks.pose_conventions import POSE_CONVENTIONS
from pcdistill.scenes.formats.exr import read_exr_depth, read_exr_size
from pcdistill.scenes.formats.images import (
    COLOR_SUFFIXES,
    MAX_IMAGE_PIXELS,
    drop_sentinels,
    read_image_size,
)
from pcdistill.scenes.formats.lzfse_stream import expand_lzfse, is_lzfse, lzfse_size
from pcdistill.scenes.formats.text import read_json
from pcdistill.scenes.frames import StoredFrame
from pcdistill.scenes.paths import entries_of, is_existing_file, is_folder
from pcdistill.scenes.reader_settings import ReaderSettings
from pcdistill.scenes.readers.base import Reader, Scan, refuse_all_but
from pcdistill.scenes.readers.capture.build_scene import build_scene
from pcdistill.scenes.readers.capture.camera_files import validate_camera_matrix
from pcdistill.scenes.readers.capture.frame_checks import (
    CaptureFrame,
    check_frames,
    sample_depth_views,
    video_frame_step,
)
from pcdistill.scenes.readers.capture.naming import find_scan_folders, natural_sort_key
from pcdistill.scenes.readers.capture.surface import fuse_frames, read_surface, surface_file
from pcdistill.scenes.scene import Scene
from pcdistill.scenes.units import DEPTH_SCALE

_METADATA = ("metadata.json", "metadata")
_COLOR_FOLDERS = ("rgb", "rgbd")
_DEPTH_PLACES = (
    ("depth", ".exr"),
    ("depth", ".png"),
    ("depth", ".npy"),
    ("rgbd", ".exr"),
    ("rgbd", ".npy"),
    ("depth", ".depth"),
    ("rgbd", ".depth"),
)
_MAX_BLOB = 8 << 20  # bytes; depth has 0.2 MB, and what is compressed may expand a lot


@dataclass(frozen=True, eq=False)
class Record3dFrame(CaptureFrame):
    """A frame whose depth may be an EXR image or a blob of floats."""

    def file_depth(self, path: Path) -> Tensor:
        """(h, w) float32, metres, 0 = unknown.

        Raises:
            SceneError: the file is missing, damaged, or of another size.
            MissingExtraError: it is compressed and there is no package that expands it.
        """
        if path.suffix == ".exr":
            return read_exr_depth(path)
        if path.suffix == ".depth":
            return _read_blob(path, self.depth_size or (1, 1))
        return super().file_depth(path)


def find_record3d(folder: Path) -> tuple[Scan, ...]:
    """The folder itself where it is a Record3D capture, or those of its folders that are."""
    return find_scan_folders(folder, _is_record3d)


def _is_record3d(folder: Path) -> bool:
    return any(is_existing_file(folder / name) for name in _METADATA) and any(
        is_folder(folder / name) for name in _COLOR_FOLDERS
    )


def open_record3d(scan: Scan, settings: ReaderSettings) -> Scene:
    """Read a Record3D capture; images stay on disk until they are asked for.

    Raises:
        SceneError: something is missing, damaged, or does not fit together.
        MissingExtraError: depth is compressed with LZFSE and there is no package that expands it.
    """
    folder = scan.folder
    file = next(folder / name for name in _METADATA if is_existing_file(folder / name))
    content = read_json(file, "K, w, h and poses of a Record3D capture")
    size = (_count(file, content, "h"), _count(file, content, "w"))
    poses = _poses(file, content)
    images = _images(folder)
    names = sorted(images, key=natural_sort_key)
    names = names[:: video_frame_step(scan, settings, len(names))]
    frames: list[StoredFrame] = []
    missing = incomplete = 0
    for name in names:
        number = int(name) if name.isascii() and name.isdecimal() and len(name) < 10 else -1
        depth = _depth_file(folder, name)
        if not 0 <= number < len(poses) or not torch.isfinite(poses[number]).all():
            missing += 1
            continue
        if depth is None:
            incomplete += 1
            continue
        frames.append(_frame(file, content, number, size, images[name], depth, poses, settings))
    left_out = check_frames(file, frames, missing, incomplete)
    frames = within_limit(folder, frames)
    views = sample_depth_views(frames)
    depth_scale = settings.depth_scale or DEPTH_SCALE
    check_depth_unit(folder / "depth", views, depth_scale)
    named = surface_file(scan, settings)
    if named is not None:
        surface = read_surface(named)
    else:
        surface = fuse_frames(folder / "depth", frames, settings.fuse_voxel_size)
    provenance: dict[str, Any] = {
        "reader": "record3d",
        "surface": "fused depth" if named is None else named.name,
        **left_out,
    }
    up = "y" if settings.up_axis == "z" else settings.up_axis
    return build_scene(scan, settings, frames, surface, up=up, provenance=provenance)


def _frame(
    file: Path,
    content: dict[str, Any],
    number: int,
    size: tuple[int, int],
    image: Path,
    depth: Path,
    poses: list[Tensor],
    settings: ReaderSettings,
) -> StoredFrame:
    intrinsics = _intrinsics(file, content, number)
    image_size = read_image_size(image)
    if image_size != size:
        ratio = image_size[0] / size[0], image_size[1] / size[1]
        if abs(ratio[0] / ratio[1] - 1) > 0.02:
            require_size(file, size, image)
        intrinsics = resize_intrinsics(intrinsics, size, image_size)
    check_principal_point(file, intrinsics, image)
    if depth.suffix == ".depth":
        depth_size = _blob_size(file, content, depth, image_size)
    elif depth.suffix == ".exr":
        depth_size = read_exr_size(depth)
    else:
        depth_size = read_image_size(depth)
    check_depth_aspect(depth, depth_size, image_size, "turn both the same way")
    return Record3dFrame(
        name=str(number),
        image_size=image_size,
        intrinsics=intrinsics,
        camera_to_world=POSE_CONVENTIONS["camera_to_world_opengl"].read(poses[number]),
        image_path=image,
        depth_path=depth,
        depth_scale=settings.depth_scale or DEPTH_SCALE,
        depth_intrinsics=resize_intrinsics(intrinsics, image_size, depth_size),
        depth_size=depth_size,
    )


def _images(folder: Path) -> dict[str, Path]:
    place = next(folder / name for name in _COLOR_FOLDERS if is_folder(folder / name))
    images: dict[str, Path] = {}
    for path in entries_of(place):
        if path.suffix.lower() in COLOR_SUFFIXES and not path.name.startswith("."):
            images.setdefault(path.stem, path)
    if not images:
        raise SceneError(
            f"{place}: has no {' or '.join(COLOR_SUFFIXES)} file, expected one per frame; export "
            "the capture again"
        )
    return images


def _depth_file(folder: Path, name: str) -> Path | None:
    places = [folder / kind / f"{name}{suffix}" for kind, suffix in _DEPTH_PLACES]
    return next((place for place in places if is_existing_file(place)), None)


def _numbers(file: Path, what: str, values: Any, count: int) -> list[float]:
    if (
        not isinstance(values, list)
        or len(values) != count
        or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    ):
        raise SceneError(
            f"{file}: {what} is {str(values)[:60]}, expected {count} numbers; export the capture "
            "again"
        )
    try:
        return [float(value) for value in values]
    except OverflowError as error:
        raise SceneError(f"{file}: {what} has a number too large; export it again") from error


def _count(file: Path, content: dict[str, Any], key: str) -> int:
    value = content.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 100_000:
        raise SceneError(
            f"{file}: '{key}' is {str(value)[:40]}, expected the image's size in pixels; export "
            "the capture again"
        )
    return value


def _poses(file: Path, content: dict[str, Any]) -> list[Tensor]:
    entries = content.get("poses")
    if not isinstance(entries, list) or not entries:
        raise SceneError(
            f"{file}: has no list 'poses', expected qx qy qz qw tx ty tz of each frame; record "
            "with the LiDAR camera and export again"
        )
    poses = []
    for place, entry in enumerate(entries):
        numbers = _numbers(file, f"pose {place}", entry, 7)
        poses.append(pose_from_quaternion(numbers[:4], numbers[4:]))
    still = torch.eye(4, dtype=torch.float64)
    if len(poses) > 1 and all(torch.equal(pose, still) for pose in poses):
        raise SceneError(
            f"{file}: all {len(poses)} poses are the same, as from the selfie camera, which does "
            "not track, expected a moving camera; record with the LiDAR camera"
        )
    return poses


def _intrinsics(file: Path, content: dict[str, Any], number: int) -> Tensor:
    each = content.get("perFrameIntrinsicCoeffs")
    if isinstance(each, list) and number < len(each):
        what = f"perFrameIntrinsicCoeffs of frame {number}"
        return validate_camera_matrix(
            file, pinhole_intrinsics(*_numbers(file, what, each[number], 4))
        )
    columns = _numbers(file, "K", content.get("K"), 9)
    matrix = torch.tensor(columns, dtype=torch.float64).view(3, 3).T.contiguous()
    return validate_camera_matrix(file, matrix)


def _blob_size(
    file: Path, content: dict[str, Any], depth: Path, image_size: tuple[int, int]
) -> tuple[int, int]:
    """(h, w) of the depth blobs: from the metadata, or the LiDAR's in the image's shape."""
    if "dh" in content and "dw" in content:
        size = _count(file, content, "dh"), _count(file, content, "dw")
    else:
        size = (256, 192) if image_size[0] >= image_size[1] else (192, 256)
    if size[0] * size[1] * 4 > _MAX_BLOB or size[0] * size[1] > MAX_IMAGE_PIXELS:
        raise SceneError(
            f"{file}: declares depth of {size[1]} x {size[0]} pixels, more than {depth.name} can "
            "hold; export the capture again"
        )
    return size


def _read_blob(path: Path, size: tuple[int, int]) -> Tensor:
    try:
        with path.open("rb") as stream:
            content = stream.read(_MAX_BLOB + 1)
    except OSError as error:
        raise SceneError(
            f"{path}: cannot be read ({error.strerror or error}); restore it or drop its frame"
        ) from error
    expected = size[0] * size[1] * 4
    found = len(content)
    if found != expected and not is_lzfse(content):
        raise SceneError(
            f"{path}: holds {found} bytes, expected {expected} of raw depth ({size[1]} x {size[0]} "
            "float32), or LZFSE; it is damaged, export the capture again"
        )
    if found != expected:
        found = lzfse_size(path, content)
        content = expand_lzfse(path, content) if found == expected else content
    if found != expected or len(content) != expected:
        raise SceneError(
            f"{path}: holds {found} bytes, expected {size[1]} x {size[0]} float32 metres; it is "
            "damaged, export the capture again"
        )
    metres = np.frombuffer(content, dtype="<f4").reshape(size).astype(np.float32)
    return torch.from_numpy(drop_sentinels(metres))


RECORD3D = Reader(
    "metadata(.json) with rgb/ and depth/, or rgbd/ (a Record3D export)",
    find_record3d,
    open_record3d,
    settings=refuse_all_but(
        "depth_scale", "up_axis", "frame_step", "image_size", "surface_file", "fuse_voxel_size"
    ),
)
