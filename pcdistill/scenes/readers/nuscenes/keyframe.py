"""Reader of nuScenes in its released layout, a scene for each keyframe.

    v1.0-mini/ v1.0-trainval/ v1.0-test/        the JSON tables; versions may lie side by side
    samples/ sweeps/                            images and `.pcd.bin` clouds
    lidarseg/<version>/<token>_lidarseg.bin     point labels, where they were installed

A keyframe is called `<scene>_<index>`, for example `scene-0061_00`: the paper measures each
keyframe's own cloud. Its points are the LiDAR returns of that moment in the order of the file, its
frames the six camera images.

World frame: the car (ego) at the keyframe's LiDAR time stamp, x forward, y left, z up, metres, as
in the clips of OpenScene's scripts. Points are within about 110 m of it, where neighbouring float32
numbers are 8 micrometres apart; global coordinates are kilometres, 0.1 mm apart.
`provenance["world_to_global"]` is the 4 x 4 matrix that leads back.

Each sensor fires at its own time while the car drives. All transforms are composed in float64 along
the chain of the tables: sensor -> ego and ego -> global at the sensor's own time stamp -> ego at
the LiDAR's.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pcdistill.errors import SceneError
from pcdistill.geometry import invert_pose
from pcdistill.labels import IGNORE_LABEL
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
from pcdistill.scenes.readers.nuscenes.split import official_side
from pcdistill.scenes.readers.nuscenes.tables import (
    CAMERAS,
    LIDAR,
    NO_SUCH_ID,
    Keyframe,
    Recording,
    Tables,
    load_tables,
    missing_token,
    read_keyframes,
)
from pcdistill.scenes.resampled_frames import ResizedFrame
from pcdistill.scenes.scene import Scene
from pcdistill.suggest import suggest

_LOG = logging.getLogger(__name__)

MAX_CLOUD_BYTES = 1 << 28
"""Bytes of one LiDAR file; those of nuScenes have 0.7 MB."""
_RINGS = 128
_COLUMNS = 5  # x y z intensity ring
_MAX_SWEEPS = 100  # there are 9 between two keyframes
_MAX_GAP = 2_000_000  # microseconds between a keyframe's LiDAR and another of its recordings
_FASTEST = 100.0  # metres a second
_FASTEST_TURN = 3.0  # radians a second
_MAX_CAR = 20.0  # metres from its origin to a sensor
_TABLE_FILES = ("scene.json", "sample.json", "sample_data.json")
_FIRST = ("v1.0-trainval", "v1.0-test")


class _Moment(NamedTuple):
    """What all recordings of one keyframe share."""

    root: Path
    tables: Tables
    keyframe: Keyframe
    lidar: Recording
    ego_to_global: Tensor  # at the LiDAR's time stamp


def find_nuscenes(folder: Path) -> tuple[Scan, ...]:
    """The keyframes of a nuScenes root, or of one of its versions (`ROOT/v1.0-mini`).

    Reads scene.json and sample.json (0.5 s for v1.0-trainval, once per process). A root with
    several versions gives the keyframes of all, those of v1.0-mini once. Tables that cannot be
    read are one scan, called like their version: opening it says what is wrong.
    """
    scans: dict[str, Scan] = {}
    tokens: dict[str, str] = {}
    for tables in _versions(folder):
        try:
            keyframes = read_keyframes(tables)
        except SceneError:
            keyframes = {}
        if not keyframes:
            scans[tables.resolve().name] = Scan(tables.resolve().name, tables)
        for name, keyframe in keyframes.items():
            if tokens.get(name) == keyframe.token:
                continue
            unique = name if name not in scans else f"{tables.resolve().name}_{name}"
            scans[unique] = Scan(unique, tables, name)
            tokens[name] = keyframe.token
    return tuple(scans.values())


def open_nuscenes(scan: Scan, settings: ReaderSettings) -> Scene:
    """Read one keyframe; images stay on disk until they are asked for.

    Points carry no colour. Labels are those of `nuscenes16` where nuScenes-lidarseg is installed
    and has the keyframe; noise, the car itself and categories that are not scored are
    `IGNORE_LABEL`. With `settings.sweeps` the LiDAR clouds since the keyframe before come first, in
    the order of time, unlabelled; what moves then appears several times.

    A camera whose pose is not finite or whose image is missing is left out, counted in the
    provenance and logged.

    Args:
        scan: `folder` is the data set's root or one version's tables, `part` the keyframe's name
            or its sample token; it may be empty where there is only one keyframe.
        settings: `image_size` is (450, 800) by default, `intrinsics` may be those of OpenScene.

    Raises:
        SceneError: a table or file is missing, damaged, or does not fit the others.
    """
    folder, keyframe = _locate(scan)
    tables = load_tables(folder, sweeps=settings.sweeps)
    recordings = tables.recordings.get(keyframe.token, {})
    if keyframe.token in tables.uncalibrated:
        missing = tables.uncalibrated[keyframe.token]
        raise missing_token(folder / "calibrated_sensor.json", "calibrated sensor", missing)
    if LIDAR not in recordings:
        raise SceneError(
            f"{folder / 'sample_data.json'}: keyframe {keyframe.name} (sample {keyframe.token}) "
            f"has no {LIDAR} recording, expected one; download the tables again"
        )
    lidar = recordings[LIDAR]
    if abs(lidar.timestamp - keyframe.timestamp) > _MAX_GAP:
        raise SceneError(
            f"{folder / 'sample.json'}: keyframe {keyframe.name} (sample {keyframe.token}) has the "
            f"time {keyframe.timestamp}, its {LIDAR} recording {lidar.timestamp} microseconds, "
            "expected the same moment; download the tables again"
        )
    ego_to_global = tables.ego_to_global(lidar.ego_pose)
    if not torch.isfinite(ego_to_global).all():
        raise SceneError(
            f"{folder / 'ego_pose.json'}: ego pose {lidar.ego_pose} of keyframe {keyframe.name} is "
            "not finite, expected where the car was in metres; download the tables again"
        )
    moment = _Moment(folder.parent, tables, keyframe, lidar, ego_to_global)
    cloud = _read_points(moment, settings)
    provenance: dict[str, Any] = {
        "reader": "nuscenes",
        "source": str(folder.parent),
        "version": folder.resolve().name,
        "scene": keyframe.scene,
        "sample_token": keyframe.token,
        "timestamp_us": lidar.timestamp,
        "world": "ego at the LiDAR time stamp: x forward, y left, z up",
        "world_to_global": ego_to_global.tolist(),
        "labels": "none" if cloud.labels is None else "lidarseg",
    }
    cameras = _read_frames(moment, recordings, settings)
    return build_keyframe_scene(scan, settings, keyframe.name, cloud, cameras, provenance)


def nuscenes_files(scan: Scan) -> tuple[Path, ...]:
    """The files of one keyframe, without sweeps, and the small tables that say what they mean.

    The large tables are not among them: they are those of all scans. Where they cannot be read,
    only their folder is given.
    """
    try:
        folder, keyframe = _locate(scan)
        tables = load_tables(folder, sweeps=False)
    except SceneError:
        return (scan.folder,)
    recordings = tables.recordings.get(keyframe.token, {}).values()
    names = [recording.file for recording in recordings]
    labels = tables.lidarseg or {}
    names += [labels[found.token] for found in recordings if found.token in labels]
    small = [folder / "sensor.json", folder / "category.json"]
    return (*small, *(folder.parent / name for name in names))


def _versions(folder: Path) -> list[Path]:
    """Folders with tables, those of v1.0-mini last, as its scenes are part of v1.0-trainval."""
    if _is_version(folder):
        return [folder]
    if not is_folder(folder):
        return []
    named = [child for child in entries_of(folder) if child.name.startswith("v1.0-")]
    found = [child for child in named if _is_version(child)]
    return sorted(found, key=lambda child: _FIRST.index(child.name) if child.name in _FIRST else 9)


def _is_version(folder: Path) -> bool:
    """Whether tables lie here, perhaps with some missing."""
    return folder.resolve().name.startswith("v1.0-") and any(
        is_existing_file(folder / name) for name in _TABLE_FILES
    )


def _locate(scan: Scan) -> tuple[Path, Keyframe]:
    """Folder of the tables, and the keyframe in them."""
    versions = _versions(scan.folder)
    if not versions:
        raise SceneError(
            f"{scan.folder}: has no tables of nuScenes, expected v1.0-trainval/scene.json or that "
            "of another version; give the root of the data set"
        )
    names: list[str] = []
    for folder in versions:
        keyframes = read_keyframes(folder)
        if not scan.part and len(keyframes) == 1:
            return folder, next(iter(keyframes.values()))
        if scan.part in keyframes:
            return folder, keyframes[scan.part]
        for keyframe in keyframes.values():
            if keyframe.token == scan.part:
                return folder, keyframe
        names += keyframes
    if not names:
        raise SceneError(
            f"{versions[0] / 'sample.json'}: has no keyframe, expected at least one; download the "
            "tables again"
        )
    if not scan.part:
        raise SceneError(
            f"{scan.folder}: has {len(names)} keyframes, expected the name of one such as "
            f"{names[0]}; name it as the part to open"
        )
    raise SceneError(
        f"{scan.folder}: has no keyframe '{scan.part}' among {len(names)}; "
        f"{suggest(scan.part, names[:5000])}"
    )


def _read_points(moment: _Moment, settings: ReaderSettings) -> LidarCloud:
    """The points of a keyframe, those of its sweeps first."""
    labels = None
    own = _cloud_of(moment, moment.lidar)
    if moment.tables.lidarseg is not None:
        file = moment.tables.lidarseg.get(moment.lidar.token)
        if file is None:
            _LOG.warning("%s: has no labels in lidarseg.json", moment.keyframe.name)
        else:
            labels = _read_labels(moment.root / file, len(own), moment.tables)
    if not settings.sweeps:
        return LidarCloud(own, labels, 0)
    clouds = [_cloud_of(moment, sweep) for sweep in _sweeps_before(moment)]
    before = sum(len(cloud) for cloud in clouds)
    if labels is not None:
        labels = torch.cat([torch.full((before,), IGNORE_LABEL), labels])
    return LidarCloud(torch.cat([*clouds, own]), labels, before)


def _sweeps_before(moment: _Moment) -> list[Recording]:
    """LiDAR recordings since the keyframe before, oldest first."""
    tables = moment.tables
    found: list[Recording] = []
    token = moment.lidar.previous
    while token in tables.sweeps:
        found.append(tables.sweeps[token])
        if len(found) > _MAX_SWEEPS:
            raise SceneError(
                f"{tables.folder / 'sample_data.json'}: more than {_MAX_SWEEPS} {LIDAR} sweeps "
                f"come before keyframe {moment.keyframe.name}, expected about 9; the chain of "
                "'prev' tokens is damaged, download the table again"
            )
        token = found[-1].previous
    if token and token not in tables.lidar_keyframes:
        raise missing_token(tables.folder / "sample_data.json", f"{LIDAR} recording", token)
    return found[::-1]


def _cloud_of(moment: _Moment, recording: Recording) -> Tensor:
    """LiDAR returns in the scene's world, (N, 3) float32."""
    in_sensor = read_cloud(moment.root / recording.file)
    to_world = _sensor_to_world(moment, recording)
    if not torch.isfinite(to_world).all():
        raise SceneError(
            f"{moment.tables.folder / 'ego_pose.json'}: the pose of {recording.file} is not "
            "finite, expected where the car was in metres; download the tables again"
        )
    return (in_sensor.double() @ to_world[:3, :3].T + to_world[:3, 3]).float()


def read_cloud(path: Path) -> Tensor:
    """The points of a `.pcd.bin` file: float32 x, y, z, intensity 0-255, ring 0-31.

    Returns:
        (N, 3) float32, metres, LiDAR frame: x right, y forward, z up.

    Raises:
        SceneError: the file is missing, truncated, or holds something else.
    """
    content = _bytes_of(path, MAX_CLOUD_BYTES)
    if not content or len(content) % (4 * _COLUMNS):
        raise SceneError(
            f"{path}: has {len(content)} bytes, expected a multiple of {4 * _COLUMNS} (float32 x, "
            "y, z, intensity, ring of each point); the file is cut off, download it again"
        )
    values = np.frombuffer(content, dtype="<f4").reshape(-1, _COLUMNS)
    rings = values[:, 4]
    far = ~(np.abs(values[:, :3]) <= MAX_RANGE).all(axis=1)  # true for NaN
    wrong = far | ~((rings >= 0) & (rings < _RINGS))
    wrong |= rings != np.round(rings)
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise SceneError(
            f"{path}: {int(wrong.sum())} of {len(values)} points are no LiDAR returns (point "
            f"{first} is {', '.join(f'{value:.4g}' for value in values[first].tolist())}), "
            f"expected x, y, z within {MAX_RANGE:g} m, intensity and a ring number; the file "
            "is damaged or of another format, download it again"
        )
    return torch.from_numpy(values[:, :3].astype(np.float32))


def _read_labels(path: Path, points: int, tables: Tables) -> Tensor:
    """(N,) int64, categories of the label set."""
    ids = np.frombuffer(_bytes_of(path, MAX_CLOUD_BYTES), dtype=np.uint8)
    if len(ids) != points:
        raise SceneError(
            f"{path}: has {len(ids)} labels of one byte, its LiDAR cloud has {points} points; the "
            "file is cut off or belongs to another cloud, download it again"
        )
    labels = tables.label_of_id[ids]
    if (labels == NO_SUCH_ID).any():
        unknown = sorted(set(ids[labels == NO_SUCH_ID].tolist()))
        raise SceneError(
            f"{path}: has the ids {', '.join(map(str, unknown[:5]))}, which no 'index' in "
            f"{tables.folder / 'category.json'} explains; download nuScenes-lidarseg again"
        )
    return torch.from_numpy(labels)


def _bytes_of(path: Path, largest: int) -> bytes:
    try:
        size = path.stat().st_size
        if size > largest:
            raise SceneError(
                f"{path}: has {size} bytes, expected at most {largest}; it is no file of nuScenes, "
                "download it again"
            )
        return path.read_bytes()
    except OSError as error:
        raise SceneError(
            f"{path}: cannot be read ({error.strerror or error}), expected a file that the tables "
            "name; download and unpack the part of the data set that has it"
        ) from error


def _sensor_to_world(moment: _Moment, recording: Recording) -> Tensor:
    """(4, 4) float64, metres: through the global frame at the sensor's own time stamp."""
    tables = moment.tables
    ego_to_global = tables.ego_to_global(recording.ego_pose)
    gap = abs(recording.timestamp - moment.lidar.timestamp)
    if gap > _MAX_GAP:
        raise SceneError(
            f"{tables.folder / 'sample_data.json'}: {recording.file} was recorded {gap / 1e6:.3g} "
            f"s away from the LiDAR of keyframe {moment.keyframe.name}, expected less than "
            f"{_MAX_GAP / 1e6:g} s; the table is damaged, download it again"
        )
    moved = float((ego_to_global - moment.ego_to_global)[:3, 3].norm())
    turned = _angle_between(ego_to_global, moment.ego_to_global)
    if moved > 1 + _FASTEST * gap / 1e6 or turned > 0.1 + _FASTEST_TURN * gap / 1e6:
        raise SceneError(
            f"{tables.folder / 'ego_pose.json'}: between {recording.file} and the LiDAR of "
            f"keyframe {moment.keyframe.name} the car moves {moved:.4g} m and turns "
            f"{math.degrees(turned):.3g} degrees in {gap / 1e6:.3g} s, expected poses of one drive "
            "in metres; the table is damaged, download it again"
        )
    sensor_to_ego = tables.sensor_to_ego(recording.calibration)
    if float(sensor_to_ego[:3, 3].norm()) > _MAX_CAR:  # false for NaN
        raise SceneError(
            f"{tables.folder / 'calibrated_sensor.json'}: the sensor of {recording.file} sits "
            f"{float(sensor_to_ego[:3, 3].norm()):.4g} m from the car's origin, expected metres on "
            "the car; the table is damaged, download it again"
        )
    return invert_pose(moment.ego_to_global) @ ego_to_global @ sensor_to_ego


def _angle_between(pose: Tensor, other: Tensor) -> float:
    """Radians that one rotation is turned against the other, NaN where one is not finite."""
    # |R - Q| = sqrt(8) sin(angle / 2) for rotations
    return 2 * math.asin(min(float((pose - other)[:3, :3].norm()) / math.sqrt(8), 1.0))


def _read_frames(
    moment: _Moment, recordings: Mapping[str, Recording], settings: ReaderSettings
) -> CameraRig:
    """The six images, but for cameras without an image file or a finite pose."""
    frames: list[ResizedFrame] = []
    without_file: list[str] = []
    without_pose: list[str] = []
    for channel in CAMERAS:
        recording = recordings.get(channel)
        if recording is None or not is_existing_file(moment.root / recording.file):
            without_file.append(channel)
            continue
        camera_to_world = _sensor_to_world(moment, recording)
        if not torch.isfinite(camera_to_world).all():
            without_pose.append(channel)
            continue
        values = moment.tables.calibrations[recording.calibration].intrinsics
        frames.append(
            make_vehicle_frame(
                channel,
                moment.root / recording.file,
                recording.image_size,
                torch.tensor(values, dtype=torch.float64).view(3, 3),
                camera_to_world,
                image_size=settings.image_size,
                scaling=settings.intrinsics,
            )
        )
    if not frames:
        raise SceneError(
            f"{moment.root / 'samples'}: has no usable camera image of keyframe "
            f"{moment.keyframe.name}, expected those of {', '.join(CAMERAS)}; download and unpack "
            "the camera blobs of its scene"
        )
    return CameraRig(frames, without_file, without_pose)


def nuscenes_division(scan: Scan) -> Division:
    """Labels are there with nuScenes-lidarseg; drives are on the side of the official split."""
    version = scan.folder.absolute().name
    labelled = bool(scan.part) and is_existing_file(scan.folder / "lidarseg.json")
    return Division(labelled, official_side(version, scan.part.rpartition("_")[0]))


NUSCENES = Reader(
    "v1.0-trainval/, v1.0-mini/ or v1.0-test/ with scene.json (nuScenes)",
    find_nuscenes,
    open_nuscenes,
    nuscenes_files,
    nuscenes_division,
    settings=REFUSED,
)
