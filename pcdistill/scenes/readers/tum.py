"""Reader of TUM RGB-D sequences.

    rgb.txt            lines "timestamp rgb/NAME.png", seconds
    depth.txt          lines "timestamp depth/NAME.png"; 16 bits, 5000 counts per metre
    groundtruth.txt    lines "timestamp tx ty tz qx qy qz qw": camera-to-world, metres, z up
    intrinsics.txt     3 x 3, or "fx fy cx cy [distortion]"; also camera.txt or calibration.txt;
                       without one the camera of freiburg1, 2 or 3 where the folder is named so

Images, depth and poses have clocks of their own: each colour image takes the nearest depth image
and the nearest pose within 20 ms, as the benchmark's own tools do, and is left out without them.
"""

from __future__ import annotations

import logging
import math
import re
from bisect import bisect_left
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from torch import Tensor, isfinite

from pcdistill.errors import SceneError
from pcdistill.geometry import pinhole_intrinsics, pose_from_quaternion
from pcdistill.scenes.checks.camera_checks import check_principal_point, require_size
from pcdistill.scenes.checks.depth_limits import within_limit
from pcdistill.scenes.checks.pose_conventions import POSE_CONVENTIONS
from pcdistill.scenes.formats.text import parse_numbers, read_numbers, read_rows
from pcdistill.scenes.frames import StoredFrame
from pcdistill.scenes.paths import is_existing_file, path_inside
from pcdistill.scenes.reader_settings import ReaderSettings
from pcdistill.scenes.readers.base import Reader, Scan, refuse_all_but
from pcdistill.scenes.readers.capture.build_scene import build_scene
from pcdistill.scenes.readers.capture.camera_files import read_camera_matrix, validate_camera_matrix
from pcdistill.scenes.readers.capture.frame_checks import (
    check_frames,
    video_frame_step,
)
from pcdistill.scenes.readers.capture.naming import find_scan_folders, unique_frame_names
from pcdistill.scenes.readers.capture.surface import load_checked_surface, surface_file
from pcdistill.scenes.scene import Scene

_LOG = logging.getLogger(__name__)

DEPTH_SCALE = 5000.0
"""Counts per metre of the depth images."""

MAX_GAP = 0.02
"""Seconds between a colour image and its depth image or pose, as in the benchmark's tools."""

FREIBURG = {
    "freiburg1": (517.306408, 516.469215, 318.643040, 255.313989),
    "freiburg2": (520.908620, 521.007327, 325.141442, 249.701764),
    "freiburg3": (535.4, 539.2, 320.1, 247.6),
}
"""fx, fy, cx, cy in pixels of the colour camera of each group of sequences, 640 x 480."""

_DISTORTED = ("freiburg1", "freiburg2")
_CAMERA_FILES = ("intrinsics.txt", "camera.txt", "calibration.txt")

T = TypeVar("T")


class _Camera(NamedTuple):
    intrinsics: Tensor
    source: str
    distortion_ignored: bool


def find_tum(folder: Path) -> tuple[Scan, ...]:
    """The folder itself where it is a TUM RGB-D sequence, or those of its folders that are."""
    return find_scan_folders(folder, _is_tum)


def _is_tum(folder: Path) -> bool:
    lists = ("rgb.txt", "depth.txt", "groundtruth.txt")
    return is_existing_file(folder / "rgb.txt") and any(
        is_existing_file(folder / name) for name in lists[1:]
    )


def open_tum(scan: Scan, settings: ReaderSettings) -> Scene:
    """Read a TUM RGB-D sequence; images stay on disk until they are asked for.

    The lens distortion of freiburg1 and 2 is not corrected (the benchmark's depth is registered to
    the distorted images): towards the corners points are off by some pixels, which is logged.

    Raises:
        SceneError: something is missing, damaged, or does not fit together.
    """
    folder = scan.folder
    depth_scale = settings.depth_scale or DEPTH_SCALE
    camera = _read_camera(folder)
    images = _read_list(folder / "rgb.txt")
    depths = _read_list(folder / "depth.txt")
    poses = _read_poses(folder / "groundtruth.txt")
    images = images[:: video_frame_step(scan, settings, len(images))]
    frames: list[StoredFrame] = []
    missing = incomplete = 0
    image_size = None
    for name, (time, path) in zip(unique_frame_names([p for _, p in images]), images, strict=True):
        depth, pose = _nearest(depths, time), _nearest(poses, time)
        if pose is None or not isfinite(pose).all():
            missing += 1
            continue
        if depth is None or not (
            is_existing_file(folder / path) and is_existing_file(folder / depth)
        ):
            incomplete += 1
            continue
        if image_size is None:
            image_size = check_principal_point(
                folder / camera.source, camera.intrinsics, folder / path
            )
        for file in (folder / path, folder / depth):
            require_size(folder / camera.source, image_size, file)
        frames.append(
            StoredFrame(
                name=name,
                image_size=image_size,
                intrinsics=camera.intrinsics,
                camera_to_world=POSE_CONVENTIONS[settings.pose_convention].read(pose),
                image_path=folder / path,
                depth_path=folder / depth,
                depth_scale=depth_scale,
            )
        )
    left_out = check_frames(folder / "rgb.txt", frames, missing, incomplete)
    frames = within_limit(folder, frames)
    named = surface_file(scan, settings)
    surface, surface_name = load_checked_surface(scan, settings, named, frames, depth_scale)
    provenance: dict[str, Any] = {
        "reader": "tum",
        "surface": surface_name,
        "camera": camera.source,
        "distortion_ignored": camera.distortion_ignored,
        "depth_scale": depth_scale,
        "poses": settings.pose_convention,
        **left_out,
    }
    return build_scene(scan, settings, frames, surface, up=settings.up_axis, provenance=provenance)


def _read_camera(folder: Path) -> _Camera:
    files = [folder / name for name in _CAMERA_FILES if is_existing_file(folder / name)]
    file = next(iter(files), None)
    if len(files) > 1:
        _LOG.warning(
            "%s: has the cameras %s, taking the first",
            *(folder, ", ".join(path.name for path in files)),
        )
    if file is not None:
        numbers = read_numbers(file, "a 3 x 3 matrix or fx fy cx cy with up to 5 distortions")
        if len(numbers) == 16 or (len(numbers) == 9 and numbers[6:] == [0, 0, 1]):
            return _Camera(read_camera_matrix(file), file.name, False)
        if not 4 <= len(numbers) <= 9:
            raise SceneError(
                f"{file}: has {len(numbers)} numbers, expected a 3 x 3 matrix or fx fy cx cy with "
                "up to 5 distortion coefficients; write the camera so"
            )
        matrix = validate_camera_matrix(file, pinhole_intrinsics(*numbers[:4]))
        distorted = any(number != 0 for number in numbers[4:])
        camera = _Camera(matrix, file.name, distorted)
    else:
        place = folder.resolve()
        found = re.search(r"freiburg[123]", f"{place.parent.name}/{place.name}")
        if found is None:
            raise SceneError(
                f"{folder / 'intrinsics.txt'}: is missing and the folder is not named after "
                "freiburg1, 2 or 3, expected the camera; write its 3 x 3 matrix in pixels there"
            )
        known = found.group()
        camera = _Camera(pinhole_intrinsics(*FREIBURG[known]), known, known in _DISTORTED)
        _LOG.info("%s: no intrinsics.txt, taking the camera of %s", folder, known)
    if camera.distortion_ignored:
        _LOG.warning(
            "%s: the lens distortion of %s is ignored, image corners are off by some pixels",
            folder,
            camera.source,
        )
    return camera


def _lines(file: Path, what: str) -> list[tuple[str, list[str]]]:
    lines = [(f"{file}:{number}", words) for number, words in read_rows(file, what)]
    if not lines:
        raise SceneError(f"{file}: has no line, expected {what}; restore the file")
    return lines


def _read_list(file: Path) -> list[tuple[float, str]]:
    entries = []
    for where, words in _lines(file, "lines of a timestamp and an image file"):
        if len(words) != 2:
            raise SceneError(
                f"{where}: has {len(words)} words, expected a timestamp and an image file; "
                "restore the file"
            )
        name = words[1].replace("\\", "/")
        if path_inside(file.parent, name) is None:
            raise SceneError(
                f"{where}: names '{name[:80]}', which is outside of the sequence, expected a file "
                "below its folder; copy the images there and name them so"
            )
        entries.append((_time(where, words[0]), name))
    return sorted(entries)


def _read_poses(file: Path) -> list[tuple[float, Tensor]]:
    entries = []
    for where, words in _lines(file, "lines of a timestamp, a position and a quaternion"):
        numbers = parse_numbers(where, words[1:], 7)
        length = math.hypot(*numbers[3:])
        if math.isfinite(length) and length > 0 and abs(length - 1) > 0.1:
            raise SceneError(
                f"{where}: its quaternion has length {length:.3g}, expected 1 from "
                "'timestamp tx ty tz qx qy qz qw'; write the poses so"
            )
        entries.append((_time(where, words[0]), pose_from_quaternion(numbers[3:], numbers[:3])))
    return sorted(entries, key=lambda entry: entry[0])


def _time(where: str, word: str) -> float:
    (time,) = parse_numbers(where, [word], 1)
    if not math.isfinite(time):
        raise SceneError(f"{where}: its timestamp is {word}, expected seconds; restore the file")
    return time


def _nearest(entries: list[tuple[float, T]], time: float) -> T | None:
    place = bisect_left(entries, time, key=lambda entry: entry[0])
    near = entries[max(place - 1, 0) : place + 1]
    best = min(near, key=lambda entry: abs(entry[0] - time), default=None)
    return best[1] if best is not None and abs(best[0] - time) <= MAX_GAP else None


TUM = Reader(
    "rgb.txt depth.txt groundtruth.txt (a TUM RGB-D sequence)",
    find_tum,
    open_tum,
    settings=refuse_all_but(
        "depth_scale",
        "up_axis",
        "frame_step",
        "image_size",
        "pose_convention",
        "surface_file",
        "fuse_voxel_size",
    ),
)
