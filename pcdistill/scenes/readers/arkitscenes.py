"""Reader of ARKitScenes scans (raw or 3dod) as they are downloaded.

    Training/VIDEO/, Validation/VIDEO/           in 3dod one folder deeper, VIDEO/VIDEO_frames/
      lowres_wide.traj                           lines: time, axis-angle (radians), translation
                                                 (metres); world-to-camera, ten a second
      lowres_wide/VIDEO_TIME.png                 colour, 256 x 192; sharper where they were
      vga_wide/VIDEO_TIME.png                    downloaded: 640 x 480
      lowres_wide_intrinsics/VIDEO_TIME.pincam   width height fx fy cx cy, pixels; likewise vga_wide
      lowres_depth/VIDEO_TIME.png                16-bit millimetres
    VIDEO/VIDEO_3dod_mesh.ply                    the mesh, z up

Images come faster than poses: an image's pose lies between its two neighbours in time. Its depth
and camera are the nearest in time, at most one image of 60 a second away.
"""

from __future__ import annotations

import logging
import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pcdistill.errors import SceneError
from pcdistill.geometry import (
    invert_pose,
    pinhole_intrinsics,
    pose_from_quaternion,
    resize_intrinsics,
)
from pcdistill.scenes.checks.camera_checks import check_principal_point, require_size
from pcdistill.scenes.checks.depth_checks import check_depth_unit
from pcdistill.scenes.checks.depth_limits import within_limit
from pcdistill.scenes.formats.images import read_image_size
from pcdistill.scenes.formats.ply import Ply
from pcdistill.scenes.formats.text import parse_numbers, read_rows
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
from pcdistill.scenes.readers.capture.naming import find_scan_folders
from pcdistill.scenes.readers.capture.surface import fuse_frames, read_surface, surface_file
from pcdistill.scenes.scene import Scene
from pcdistill.scenes.units import DEPTH_SCALE

_LOG = logging.getLogger(__name__)

MAX_GAP = 0.018
"""Seconds between an image and its depth or camera: one image of 60 a second."""
MAX_POSE_GAP = 0.35
"""Seconds between the two poses that an image lies between; there are ten a second."""

_COLORS = ("vga_wide", "lowres_wide")
_TRAJECTORY = "lowres_wide.traj"
_MESH = "_3dod_mesh.ply"
_SPLITS = ("Training", "Validation")
_SAME_TIME = 1e-3  # seconds; times in file names are rounded
_MAX_CAMERA = 1 << 10  # bytes of a .pincam file
_MAX_TRAJECTORY = 16 << 20


@dataclass(frozen=True, eq=False)
class _Timed:
    """Files of one kind, sorted by the time in their names."""

    times: tuple[float, ...]
    paths: tuple[Path, ...]

    def nearest(self, time: float) -> Path | None:
        """The file nearest to `time`; None where none is within `MAX_GAP`."""
        near = _around(self.times, time)
        best = min(near, key=lambda place: abs(self.times[place] - time), default=None)
        if best is None or abs(self.times[best] - time) > MAX_GAP:
            return None
        return self.paths[best]


@dataclass(frozen=True, eq=False)
class _Trajectory:
    """Camera-to-world poses, sorted by time."""

    times: tuple[float, ...]
    quaternions: Tensor
    """(P, 4) float64: x y z w, of unit length; NaN where the file has no finite numbers."""
    centers: Tensor
    """(P, 3) float64, metres."""

    def at(self, time: float) -> Tensor | None:
        """(4, 4) float64 camera-to-world; None where no poses are near, NaN where they are."""
        near = _around(self.times, time)
        for place in near:
            if abs(self.times[place] - time) <= _SAME_TIME:
                return pose_from_quaternion(
                    self.quaternions[place].tolist(), self.centers[place].tolist()
                )
        if len(near) < 2 or self.times[near[1]] - self.times[near[0]] > MAX_POSE_GAP:
            return None
        first, second = near
        fraction = (time - self.times[first]) / (self.times[second] - self.times[first])
        before, after = self.quaternions[first], self.quaternions[second]
        if float(before @ after) < 0:  # the same rotation, on the near side of the sphere
            after = -after
        turn = torch.lerp(before, after, fraction)
        center = torch.lerp(self.centers[first], self.centers[second], fraction)
        return pose_from_quaternion(turn.tolist(), center.tolist())


def find_arkitscenes(folder: Path) -> tuple[Scan, ...]:
    """The folder itself where it is a scan, or the scans in it or in its splits."""
    own = folder.resolve()
    if _has_frames(folder) and own.name == f"{own.parent.name}_frames":
        return (Scan(own.parent.name, own.parent),)
    places = [folder, *(folder / split for split in _SPLITS)]
    return tuple(scan for place in places for scan in find_scan_folders(place, _is_scan))


def _is_scan(folder: Path) -> bool:
    return _has_frames(folder) or _has_frames(_nested(folder))


def _nested(folder: Path) -> Path:
    return folder / f"{folder.resolve().name}_frames"


def _has_frames(folder: Path) -> bool:
    return is_existing_file(folder / _TRAJECTORY) or is_folder(folder / "lowres_wide_intrinsics")


def open_arkitscenes(scan: Scan, settings: ReaderSettings) -> Scene:
    """Read one scan of ARKitScenes; images stay on disk until they are asked for.

    Images without a pose, without a camera file or without depth are left out and counted.

    Raises:
        SceneError: something is missing, damaged, or does not fit together.
    """
    folder = scan.folder if _has_frames(scan.folder) else _nested(scan.folder)
    kind = next((name for name in _COLORS if is_folder(folder / name)), _COLORS[-1])
    images = _timed(folder / kind, ".png")
    cameras = _timed(folder / f"{kind}_intrinsics", ".pincam")
    depths = _timed(folder / "lowres_depth", ".png")
    trajectory = _read_trajectory(folder / _TRAJECTORY)
    step = video_frame_step(scan, settings, len(images.paths))
    frames: list[StoredFrame] = []
    missing = incomplete = 0
    for time, image in list(zip(images.times, images.paths, strict=True))[::step]:
        pose, camera, depth = trajectory.at(time), cameras.nearest(time), depths.nearest(time)
        if pose is None or not torch.isfinite(pose).all():
            missing += 1
        elif camera is None or depth is None:
            incomplete += 1
        else:
            frames.append(_frame(image, camera, depth, pose, settings))
    check_frames(folder / kind, frames, missing, incomplete)
    frames = within_limit(folder, frames)
    depth_scale = settings.depth_scale or DEPTH_SCALE
    views = sample_depth_views(frames)
    check_depth_unit(folder / "lowres_depth", views, depth_scale)
    surface, name = _surface(scan, folder, frames, settings)
    provenance: dict[str, Any] = {
        "reader": "arkitscenes",
        "surface": name,
        "images": kind,
        "frame_step": step,
        "depth_scale": depth_scale,
        "skipped_frames": missing + incomplete,
        "frames_without_pose": missing,
        "frames_without_file": incomplete,
    }
    return build_scene(scan, settings, frames, surface, up=settings.up_axis, provenance=provenance)


def _frame(
    image: Path, camera: Path, depth: Path, pose: Tensor, settings: ReaderSettings
) -> StoredFrame:
    image_size, intrinsics = _read_camera(camera)
    require_size(camera, image_size, image)
    check_principal_point(camera, intrinsics, image)
    depth_size = read_image_size(depth)
    if abs(depth_size[0] * image_size[1] / (depth_size[1] * image_size[0]) - 1) > 0.05:
        raise SceneError(
            f"{depth}: is {depth_size[1]} x {depth_size[0]} pixels, its image {image_size[1]} x "
            f"{image_size[0]}, expected one shape; download the scan again"
        )
    return CaptureFrame(
        name=image.stem,
        image_size=image_size,
        intrinsics=intrinsics,
        camera_to_world=pose,
        image_path=image,
        depth_path=depth,
        depth_scale=settings.depth_scale or DEPTH_SCALE,
        depth_intrinsics=resize_intrinsics(intrinsics, image_size, depth_size),
        depth_size=depth_size,
    )


def _surface(
    scan: Scan, folder: Path, frames: Sequence[StoredFrame], settings: ReaderSettings
) -> tuple[Ply, str]:
    named = surface_file(scan, settings)
    if named is None:
        own = scan.folder / f"{scan.folder.resolve().name}{_MESH}"
        meshes = [path for path in entries_of(scan.folder) if path.name.endswith(_MESH)]
        named = own if is_existing_file(own) else next(iter(meshes), None)
    if named is not None:
        return read_surface(named), named.name
    _LOG.warning("%s: has no *%s, its depth is fused instead", scan.folder, _MESH)
    return fuse_frames(folder / "lowres_depth", frames, settings.fuse_voxel_size), "fused depth"


def _timed(folder: Path, suffix: str) -> _Timed:
    """Files named after a scan and a time, in the order of time."""
    what = f"files VIDEO_TIME{suffix}, TIME in seconds"
    if not is_folder(folder):
        raise SceneError(f"{folder}: is missing, expected {what}; download this asset of the scan")
    entries = []
    for path in entries_of(folder):
        if path.suffix.lower() != suffix or path.name.startswith("."):
            continue
        try:
            time = float(path.stem.rpartition("_")[2])
        except ValueError:
            time = math.nan
        if not math.isfinite(time):
            raise SceneError(
                f"{path}: has no time in its name, expected {what}; restore the name or remove it"
            )
        entries.append((time, path))
    if not entries:
        raise SceneError(f"{folder}: has no *{suffix} file, expected {what}; download them again")
    entries.sort()
    return _Timed(tuple(time for time, _ in entries), tuple(path for _, path in entries))


def _read_camera(file: Path) -> tuple[tuple[int, int], Tensor]:
    """(H, W) and the (3, 3) float64 camera matrix of a .pincam file."""
    what = "width height fx fy cx cy of a camera"
    rows = read_rows(file, what, largest=_MAX_CAMERA)
    words = [word for _, row in rows for word in row]
    width, height, fx, fy, cx, cy = parse_numbers(str(file), words, 6)
    if not (1 <= width <= 1e5 and 1 <= height <= 1e5) or width % 1 or height % 1:
        raise SceneError(
            f"{file}: has images of {width:g} x {height:g} pixels, expected {what}; download the "
            "file again"
        )
    matrix = validate_camera_matrix(file, pinhole_intrinsics(fx, fy, cx, cy))
    return (int(height), int(width)), matrix


def _read_trajectory(file: Path) -> _Trajectory:
    what = "lines of a time, an axis-angle rotation and a translation"
    entries: dict[float, tuple[list[float], list[float]]] = {}
    for number, words in read_rows(file, what, largest=_MAX_TRAJECTORY):
        where = f"{file}:{number}"
        time, *motion = parse_numbers(where, words, 7)
        if not math.isfinite(time):
            raise SceneError(
                f"{where}: its time is {words[0][:40]}, expected seconds; download the file again"
            )
        entries[time] = _camera_to_world(motion[:3], motion[3:])
    if not entries:
        raise SceneError(f"{file}: has no line, expected {what}; download the file again")
    times = tuple(sorted(entries))
    return _Trajectory(
        times,
        torch.tensor([entries[time][0] for time in times], dtype=torch.float64),
        torch.tensor([entries[time][1] for time in times], dtype=torch.float64),
    )


def _camera_to_world(
    axis_angle: list[float], translation: list[float]
) -> tuple[list[float], list[float]]:
    """Quaternion (x y z w) and centre of the camera of a world-to-camera motion."""
    angle = math.hypot(*axis_angle)
    if not all(map(math.isfinite, (*axis_angle, *translation))) or angle > 1e3:
        return [math.nan] * 4, [math.nan] * 3
    half = 0.5 * math.sin(0.5 * angle) / (0.5 * angle) if angle > 1e-12 else 0.5
    quaternion = [half * value for value in axis_angle] + [math.cos(0.5 * angle)]
    world_to_camera = pose_from_quaternion(quaternion, translation)
    inverse = [-value for value in quaternion[:3]] + quaternion[3:]
    return inverse, invert_pose(world_to_camera)[:3, 3].tolist()


def _around(times: Sequence[float], time: float) -> list[int]:
    """Places of the entries before and after `time`, where there are such."""
    place = bisect_left(times, time)
    return [index for index in (place - 1, place) if 0 <= index < len(times)]


ARKITSCENES = Reader(
    "lowres_wide.traj with lowres_wide/ and lowres_depth/ (a scan of ARKitScenes)",
    find_arkitscenes,
    open_arkitscenes,
    settings=refuse_all_but(
        "depth_scale", "up_axis", "frame_step", "image_size", "surface_file", "fuse_voxel_size"
    ),
)
