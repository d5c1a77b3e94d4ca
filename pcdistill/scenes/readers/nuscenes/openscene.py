"""Reader of nuScenes clips as OpenScene's preprocessing scripts read them.

    <split>/<clip>/scene.ply                points of the clip with `label`, -1 where not annotated
    <split>/<clip>/scene-timestamps.npy     (N,) or (N, 1) integers, time of each point
    <split>/<clip>/frames/<time>/<camera>/  color_image.jpg, cam2scene.txt, K.txt

A clip is the half second up to a keyframe; its last time is the keyframe. Its frames are the six
cameras of that time, as in those scripts. Points and poses are in the clip's own frame, the car at
the keyframe: x forward, y left, z up, metres.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pcdistill.errors import SceneError
from pcdistill.labels import IGNORE_LABEL
from pcdistill.scenes.formats.images import read_image_size
from pcdistill.scenes.formats.ply import read_ply
from pcdistill.scenes.formats.text import read_numbers
from pcdistill.scenes.frames import check_camera
from pcdistill.scenes.origin import no_offset
from pcdistill.scenes.paths import entries_of, is_existing_file, is_folder
from pcdistill.scenes.reader_settings import ReaderSettings
from pcdistill.scenes.readers.base import Division, Reader, Scan
from pcdistill.scenes.readers.nuscenes.frames import make_vehicle_frame
from pcdistill.scenes.readers.nuscenes.lidar_scene import (
    MAX_RANGE,
    REFUSED,
    CameraRig,
    LidarCloud,
    build_keyframe_scene,
)
from pcdistill.scenes.readers.nuscenes.tables import NO_SUCH_ID, standard_labels
from pcdistill.scenes.resampled_frames import ResizedFrame
from pcdistill.scenes.scene import Scene

_LOG = logging.getLogger(__name__)

CLIP_CAMERAS = ("back", "back_left", "back_right", "front", "front_left", "front_right")
"""Folders of the cameras, in the order of frames in a scene."""
_IMAGE, _POSE, _MATRIX = "color_image.jpg", "cam2scene.txt", "K.txt"
_SPLITS = ("train", "val", "test")
_POINTS, _TIMES, _FRAMES = "scene.ply", "scene-timestamps.npy", "frames"


def find_nuscenes_clips(folder: Path) -> tuple[Scan, ...]:
    """The clips of a data set's root, of one split's folder, or of one clip's.

    A clip is called like its folder; where two splits have one of that name, `<split>_<clip>`.
    """
    if _is_clip(folder):
        return (Scan(folder.resolve().name, folder),)
    found = [child for child in _folders(folder) if _is_clip(child)]
    found += [child for split in _folders(folder) for child in _folders(split) if _is_clip(child)]
    names = [clip.name for clip in found]
    return tuple(
        Scan(clip.name if names.count(clip.name) == 1 else f"{clip.parent.name}_{clip.name}", clip)
        for clip in found
    )


def open_nuscenes_clips(scan: Scan, settings: ReaderSettings) -> Scene:
    """Read one clip; images stay on disk until they are asked for.

    Points are those of the keyframe, the annotated ones; with `settings.sweeps` those of the whole
    half second as OpenScene exports them, in the order of the file, what is not annotated being
    `IGNORE_LABEL`. Points carry no colour. A camera whose pose is not finite or that lacks a file
    is left out, counted in the provenance and logged.

    Args:
        scan: `folder` is the clip's.
        settings: `image_size` is (450, 800) by default, `intrinsics` may be those of OpenScene.

    Raises:
        SceneError: a file is missing, damaged, or does not fit the others.
    """
    time = _last_time(scan.folder / _FRAMES)
    cloud = _read_points(scan.folder, time, settings)
    moment = scan.folder / _FRAMES / time
    provenance: dict[str, Any] = {
        "reader": "nuscenes_clips",
        "source": str(scan.folder),
        "timestamp_us": int(time),
        "world": "the clip's own: the car at the keyframe, z up",
    }
    cameras = _read_frames(moment, settings)
    return build_keyframe_scene(scan, settings, moment, cloud, cameras, provenance)


def _folders(folder: Path) -> list[Path]:
    return [child for child in entries_of(folder) if is_folder(child)]


def _is_clip(folder: Path) -> bool:
    """Whether the folder looks like a clip, perhaps with parts missing."""
    if is_existing_file(folder / _TIMES):
        return True
    frames = folder / _FRAMES
    if not is_folder(frames):
        return False
    if is_existing_file(folder / _POINTS):
        return True
    first = next(iter(_folders(frames)), None)
    return first is not None and any(is_folder(first / name) for name in CLIP_CAMERAS)


def _last_time(frames: Path) -> str:
    """Name of the keyframe's folder."""
    times = [child.name for child in _folders(frames) if _is_time(child.name)]
    if not times:
        raise SceneError(
            f"{frames}: has no folder named by a time stamp, expected one with the six cameras of "
            "the keyframe; write the clip again"
        )
    return max(times, key=int)


def _is_time(name: str) -> bool:
    return name.isascii() and name.isdecimal() and len(name) < 19


def _read_points(folder: Path, time: str, settings: ReaderSettings) -> LidarCloud:
    """The points of the clip, or only those of its keyframe."""
    path = folder / _POINTS
    ply = read_ply(path, offset=no_offset())
    far = ~(ply.points.abs() <= MAX_RANGE).all(dim=1)  # true for NaN
    if bool(far.any()):
        raise SceneError(
            f"{path}: {int(far.sum())} of {len(far)} points are farther than {MAX_RANGE:g} m "
            "from the car or no numbers, expected LiDAR returns in metres around the car; write "
            "the clip again"
        )
    labels = _labels_of(path, ply.scalars.get("label"))
    times = _read_times(folder / _TIMES, len(ply.points))
    of_keyframe = times == int(time)
    if not bool(of_keyframe.any()):
        found = f"{int(times.min())} to {int(times.max())}" if len(times) else "none at all"
        raise SceneError(
            f"{folder / _TIMES}: no point is of the time {time} of the last cameras (they are of "
            f"{found}), expected the keyframe's points; write the clip again"
        )
    sweep_points = int((~of_keyframe).sum())
    if settings.sweeps:
        return LidarCloud(ply.points, labels, sweep_points)
    kept = None if labels is None else labels[of_keyframe]
    return LidarCloud(ply.points[of_keyframe], kept, 0)


def _labels_of(path: Path, ids: Tensor | None) -> Tensor | None:
    """(N,) int64, categories of the label set from ids of nuScenes-lidarseg."""
    if ids is None:
        _LOG.warning("%s: has no property 'label', points stay unlabelled", path)
        return None
    label_of_id = standard_labels()
    inside = (ids >= -1) & (ids < len(label_of_id))
    if ids.dtype != torch.int64 or not bool(inside.all()):
        raise _bad_labels(path, ids[~inside] if ids.dtype == torch.int64 else ids)
    labels = torch.where(ids < 0, IGNORE_LABEL, label_of_id[ids.clamp(min=0)])
    if bool((labels == NO_SUCH_ID).any()):
        raise _bad_labels(path, ids[labels == NO_SUCH_ID])
    return labels


def _bad_labels(path: Path, wrong: Tensor) -> SceneError:
    found = ", ".join(map(str, torch.unique(wrong)[:5].tolist()))
    return SceneError(
        f"{path}: {len(wrong)} labels such as {found} are no ids of nuScenes-lidarseg, expected 0 "
        "to 31, or -1 for none, as 'int label'; write the clip again"
    )


def _read_times(path: Path, points: int) -> Tensor:
    """(N,) int64, microseconds."""
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(values, np.ndarray) and values.dtype.kind in "iu":
            times = torch.from_numpy(values.reshape(-1).astype(np.int64))
            if tuple(values.shape) in ((points,), (points, 1)):
                return times
    except Exception as damage:  # a header that is no Python literal raises what that raises
        reason = str(damage).split("\n")[0][:120] or type(damage).__name__
        raise SceneError(
            f"{path}: cannot be read ({reason}), expected the time of each point as integers; "
            "write the clip again"
        ) from damage
    found = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else "an archive"
    raise SceneError(
        f"{path}: holds {found}, the cloud has {points} points, expected one integer each; write "
        "the clip again"
    )


def _read_frames(moment: Path, settings: ReaderSettings) -> CameraRig:
    """The six images, but for cameras that lack a file or a finite pose."""
    frames: list[ResizedFrame] = []
    without_file: list[str] = []
    without_pose: list[str] = []
    for camera in CLIP_CAMERAS:
        folder = moment / camera
        if not all(is_existing_file(folder / name) for name in (_IMAGE, _POSE, _MATRIX)):
            without_file.append(camera)
            continue
        camera_to_world = _read_matrix(folder / _POSE, 4)
        if not torch.isfinite(camera_to_world).all():
            without_pose.append(camera)
            continue
        intrinsics = _read_matrix(folder / _MATRIX, 3)
        check_camera(str(folder), intrinsics, camera_to_world)
        if float(camera_to_world[:3, 3].abs().max()) > MAX_RANGE:
            raise SceneError(
                f"{folder / _POSE}: the camera is farther than {MAX_RANGE:g} m from the "
                "cloud's origin, expected a pose in the cloud's frame in metres; write the clip "
                "again"
            )
        frames.append(
            make_vehicle_frame(
                camera,
                folder / _IMAGE,
                read_image_size(folder / _IMAGE),
                intrinsics,
                camera_to_world,
                image_size=settings.image_size,
                scaling=settings.intrinsics,
            )
        )
    if not frames:
        raise SceneError(
            f"{moment}: has no usable camera, expected {_IMAGE}, {_POSE} and {_MATRIX} in each of "
            f"{', '.join(CLIP_CAMERAS)}; write the clip again"
        )
    return CameraRig(frames, without_file, without_pose)


def _read_matrix(path: Path, side: int) -> Tensor:
    """(side, side) float64; numbers may be NaN or infinite."""
    numbers = read_numbers(path, f"a {side} x {side} matrix")
    if len(numbers) != side * side:
        raise SceneError(
            f"{path}: has {len(numbers)} numbers, expected a {side} x {side} matrix; write the "
            "clip again"
        )
    return torch.tensor(numbers, dtype=torch.float64).view(side, side)


def clip_division(scan: Scan) -> Division:
    """Clips lie in a folder of their split."""
    split = scan.folder.resolve().parent.name
    return Division(is_existing_file(scan.folder / _POINTS), split if split in _SPLITS else "")


NUSCENES_CLIPS = Reader(
    "SPLIT/CLIP/ with scene.ply and frames/TIME/front/ (nuScenes clips of OpenScene)",
    find_nuscenes_clips,
    open_nuscenes_clips,
    division=clip_division,
    settings=REFUSED,
)
