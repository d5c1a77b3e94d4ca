"""Reader of the JSON tables of nuScenes, row by row; only what a keyframe needs is kept.

`sample_data.json` of v1.0-trainval has 2.6 million rows in more than 1 GB, `ego_pose.json` as many.
They are streamed once per process, in about 20 seconds, and kept by path, size and time of change,
so that the 34 000 keyframes of a run do not read them again. Kept are the keyframe rows of six
cameras and the LiDAR with the poses they refer to (about 0.3 GB for v1.0-trainval), and where
sweeps are asked for also the rows between LiDAR keyframes (0.5 GB together); parsing the two files
whole takes 6 GB. A table that cannot be read is remembered as well: each scan then says so at once.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pcdistill.errors import SceneError
from pcdistill.geometry import rotation_from_quaternion
from pcdistill.labels import IGNORE_LABEL
from pcdistill.scenes.label_sets import load_label_set
from pcdistill.scenes.paths import is_existing_file

LABEL_SET = "nuscenes16"

CAMERAS = (
    "CAM_FRONT",
    "CAM_FRONT_RIGHT",
    "CAM_BACK_RIGHT",
    "CAM_BACK",
    "CAM_BACK_LEFT",
    "CAM_FRONT_LEFT",
)
"""Clockwise from the front, the order of frames in a scene."""
LIDAR = "LIDAR_TOP"

MAX_ROW = 1 << 16
"""Characters; the longest row of the tables read here has under 1000."""
_CHUNK = 1 << 20
NO_SUCH_ID = -256
"""In place of a label: nuScenes-lidarseg has no such id."""
_MAX_IDS = 256  # a lidarseg file has one byte a point
_UNIT = 1e-2  # by how much the length of a quaternion may miss 1
_BLANK = re.compile(r"[ \t\r\n]*")
_SCENE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

LIDARSEG_NAMES = (
    "noise",
    "animal",
    "human.pedestrian.adult",
    "human.pedestrian.child",
    "human.pedestrian.construction_worker",
    "human.pedestrian.personal_mobility",
    "human.pedestrian.police_officer",
    "human.pedestrian.stroller",
    "human.pedestrian.wheelchair",
    "movable_object.barrier",
    "movable_object.debris",
    "movable_object.pushable_pullable",
    "movable_object.trafficcone",
    "static_object.bicycle_rack",
    "vehicle.bicycle",
    "vehicle.bus.bendy",
    "vehicle.bus.rigid",
    "vehicle.car",
    "vehicle.construction",
    "vehicle.emergency.ambulance",
    "vehicle.emergency.police",
    "vehicle.motorcycle",
    "vehicle.trailer",
    "vehicle.truck",
    "flat.driveable_surface",
    "flat.other",
    "flat.sidewalk",
    "flat.terrain",
    "static.manmade",
    "static.other",
    "static.vegetation",
    "vehicle.ego",
)
"""What the ids of nuScenes-lidarseg mean where category.json has no `index`."""

_CATEGORY_OF = {
    "human.pedestrian.adult": "person",
    "human.pedestrian.child": "person",
    "human.pedestrian.construction_worker": "person",
    "human.pedestrian.police_officer": "person",
    "movable_object.barrier": "barrier",
    "movable_object.trafficcone": "traffic cone",
    "vehicle.bicycle": "bicycle",
    "vehicle.bus.bendy": "bus",
    "vehicle.bus.rigid": "bus",
    "vehicle.car": "car",
    "vehicle.construction": "construction vehicle",
    "vehicle.motorcycle": "motorcycle",
    "vehicle.trailer": "trailer",
    "vehicle.truck": "truck",
    "flat.driveable_surface": "drivable surface",
    "flat.other": "other flat",
    "flat.sidewalk": "sidewalk",
    "flat.terrain": "terrain",
    "static.manmade": "manmade",
    "static.vegetation": "vegetation",
}
"""Category of the label set for each name of the 32 that is scored; the others are ignored."""

Placement = tuple[float, float, float, float, float, float, float]
"""Translation x y z in metres, rotation as a quaternion w x y z, as the tables have them."""


class Keyframe(NamedTuple):
    """One annotated moment of a drive: a row of sample.json."""

    name: str
    """`<scene>_<index>`, the index of two digits or more counts the scene's keyframes from 0."""
    token: str
    scene: str
    timestamp: int
    """Microseconds."""


class Recording(NamedTuple):
    """One file of one sensor: a row of sample_data.json."""

    token: str
    file: str
    """Relative to the root of the data set."""
    timestamp: int
    """Microseconds, the sensor's own."""
    ego_pose: str
    calibration: str
    image_size: tuple[int, int]
    """(H, W) pixels; (0, 0) of the LiDAR."""
    previous: str
    """Token of the sensor's recording before; empty at the start of a scene."""


class Calibration(NamedTuple):
    """Where a sensor sits on its car: a row of calibrated_sensor.json."""

    channel: str
    placement: Placement
    intrinsics: tuple[float, ...]
    """Nine numbers, row by row; none of a LiDAR."""


@dataclass(frozen=True, eq=False)
class Tables:
    """What the tables say about keyframes."""

    folder: Path
    recordings: Mapping[str, Mapping[str, Recording]]
    """For each sample token the keyframe recording of each camera and the LiDAR."""
    uncalibrated: Mapping[str, str]
    """Sample tokens with a recording whose calibrated sensor is missing, and the latter's token."""
    sweeps: Mapping[str, Recording]
    """LiDAR recordings between keyframes by token; empty unless they were asked for."""
    lidar_keyframes: frozenset[str]
    """Tokens of LiDAR recordings at keyframes; empty unless sweeps were asked for."""
    calibrations: Mapping[str, Calibration]
    ego_pose_rows: Mapping[str, int]
    """Row of `ego_poses` for each token that a recording refers to; missing where it has none."""
    ego_poses: np.ndarray[Any, np.dtype[np.float64]]
    """(P, 7) `Placement`s."""
    lidarseg: Mapping[str, str] | None
    """Label file of LiDAR recordings by token; None where labels were not installed."""
    label_of_id: np.ndarray[Any, np.dtype[np.int64]]
    """(256,) label of each id in a label file, -1 where there is no such id."""

    def ego_to_global(self, token: str) -> Tensor:
        """(4, 4) float64, metres; not finite where the table says so.

        Raises:
            SceneError: there is no such pose, or its rotation is not one.
        """
        row = self.ego_pose_rows.get(token, -1)
        if row < 0:
            raise missing_token(self.folder / "ego_pose.json", "ego pose", token)
        placement: Placement = tuple(self.ego_poses[row].tolist())
        return pose_matrix(f"{self.folder / 'ego_pose.json'}: ego pose {token}", placement)

    def sensor_to_ego(self, token: str) -> Tensor:
        """(4, 4) float64, metres, where the sensor of a calibration sits on its car.

        Raises:
            SceneError: the rotation is not one.
        """
        where = f"{self.folder / 'calibrated_sensor.json'}: calibrated sensor {token}"
        return pose_matrix(where, self.calibrations[token].placement)


def missing_token(file: Path, what: str, token: str) -> SceneError:
    """Make the error of a row that is missing and that another table refers to.

    Args:
        file: the table that should have it.
        what: it is.
        token: its name.
    """
    return SceneError(
        f"{file}: has no {what} {token[:80]!r}, which another table refers to; the tables are of "
        "different releases or cut off, download them together again"
    )


def pose_matrix(where: str, placement: Placement) -> Tensor:
    """Translation and quaternion as a matrix.

    Args:
        where: file and row the message names.
        placement: x y z in metres, then w x y z.

    Returns:
        (4, 4) float64; not finite where a number is not.

    Raises:
        SceneError: the quaternion's length is not 1.
    """
    if not all(math.isfinite(number) for number in placement):
        return torch.full((4, 4), torch.nan, dtype=torch.float64)
    length = math.hypot(*placement[3:])
    if abs(length - 1) > _UNIT:
        raise SceneError(
            f"{where}: its rotation has length {length:.4g}, expected a quaternion w x y z of "
            "length 1; download the tables again"
        )
    w, x, y, z = (part / length for part in placement[3:])
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3] = rotation_from_quaternion(x, y, z, w)
    matrix[:3, 3] = torch.tensor(placement[:3], dtype=torch.float64)
    return matrix


def read_keyframes(folder: Path) -> Mapping[str, Keyframe]:
    """The keyframes of all scenes by name, in the order of the scenes, then of time.

    Only scene.json and sample.json are read: about 10 MB for v1.0-trainval.

    Raises:
        SceneError: a table is missing or damaged.
    """
    files = [folder / "scene.json", folder / "sample.json"]
    found = _keyframes(str(folder), _stamps(files))
    if isinstance(found, SceneError):
        raise SceneError(str(found))
    return found


def load_tables(folder: Path, *, sweeps: bool) -> Tables:
    """What the tables say, read once per process as long as the files do not change.

    Args:
        folder: holds the JSON files, `v1.0-trainval` for example.
        sweeps: keep the LiDAR recordings between keyframes, too.

    Raises:
        SceneError: a table is missing or damaged.
    """
    names = ("sensor", "calibrated_sensor", "sample_data", "ego_pose")
    files = [folder / f"{name}.json" for name in names]
    labels = folder / "lidarseg.json"
    if is_existing_file(labels):
        files += [labels, folder / "category.json"]
    found = _tables(str(folder), _stamps(files), sweeps)
    if isinstance(found, SceneError):
        raise SceneError(str(found))
    return found


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of one table, one after the other, without the whole file in memory.

    Raises:
        SceneError: the file is missing, or is not a JSON list of objects to its end.
    """
    decode = json.JSONDecoder().raw_decode
    text, place, ended, count, expected = "", 0, False, 0, "["
    try:
        with path.open(encoding="utf-8-sig") as stream:
            while True:
                if not ended and len(text) - place < MAX_ROW:
                    more = stream.read(_CHUNK)
                    text, place, ended = text[place:] + more, 0, len(more) < _CHUNK
                blank = _BLANK.match(text, place)
                place = place if blank is None else blank.end()
                if place == len(text):
                    if not ended:
                        continue
                    if expected == "end":
                        return
                    raise _damaged(path, count, "the file ends there")
                if not ended and len(text) - place < MAX_ROW:
                    continue
                sign = text[place]
                if expected == "[" and sign == "[":
                    expected, place = "first row", place + 1
                elif expected in ("first row", ",") and sign == "]":
                    expected, place = "end", place + 1
                elif expected == "," and sign == ",":
                    expected, place = "row", place + 1
                elif expected in ("first row", "row") and sign == "{":
                    row, place = decode(text, place)
                    yield row
                    expected, count = ",", count + 1
                else:
                    raise _damaged(path, count, f"found {sign!r}")
    except OSError as error:
        raise SceneError(
            f"{path}: cannot be read ({error.strerror or error}), expected a table of nuScenes; "
            "download the metadata of this version again"
        ) from error
    except UnicodeDecodeError as error:
        raise _damaged(path, count, "it is not text in UTF-8") from error
    except (ValueError, RecursionError) as error:  # JSONDecodeError is a ValueError
        raise _damaged(path, count, str(error).split("\n")[0][:80]) from error


def _damaged(path: Path, count: int, found: str) -> SceneError:
    return SceneError(
        f"{path}: is not a list of JSON objects after row {count} ({found}); the table is cut off "
        "or damaged, download it again"
    )


class _Table:
    """One table whose values are checked as they are taken."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.row: dict[str, Any] = {}
        self.count = 0

    def __iter__(self) -> Iterator[_Table]:
        for row in read_rows(self.path):
            self.row = row
            self.count += 1
            yield self

    def wrong(self, key: str, expected: str) -> SceneError:
        found = repr(self.row[key])[:60] if key in self.row else "nothing"
        return SceneError(
            f"{self.path}: row {self.count} has {found} as '{key}', expected {expected}; the table "
            "is damaged, download it again"
        )

    def text(self, key: str) -> str:
        value = self.row.get(key)
        if not isinstance(value, str):
            raise self.wrong(key, "a text")
        return value

    def count_of(self, key: str) -> int:
        value = self.row.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 62:
            raise self.wrong(key, "a whole number from 0")
        return value

    def flag(self, key: str) -> bool:
        value = self.row.get(key)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def numbers(self, key: str, count: int) -> list[float]:
        value = self.row.get(key)
        if isinstance(value, list) and len(value) == count:
            return [self.number(key, part) for part in value]
        raise self.wrong(key, f"{count} numbers")

    def number(self, key: str, value: object) -> float:
        if isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool)):
            try:
                return float(value)
            except OverflowError:
                pass
        raise self.wrong(key, "numbers only")

    def placement(self) -> Placement:
        x, y, z = self.numbers("translation", 3)
        a, b, c, d = self.numbers("rotation", 4)
        return x, y, z, a, b, c, d

    def token(self, known: Mapping[str, object]) -> str:
        token = self.text("token")
        if token in known:
            raise SceneError(
                f"{self.path}: row {self.count} repeats the token {token[:80]!r}, expected one row "
                "each; the table is damaged, download it again"
            )
        return token

    def file(self) -> str:
        """A path below the root of the data set."""
        value = self.text("filename")
        inside = value and "\0" not in value and not value.startswith("/") and len(value) < 1000
        if not inside or ".." in value.split("/") or not _can_name_a_file(value):
            raise self.wrong("filename", "a path relative to the root of the data set")
        return value


def _can_name_a_file(name: str) -> bool:
    """Whether the system has bytes for a name; JSON may have half a surrogate pair in it."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True


Stamps = tuple[tuple[str, int, int], ...]


def _stamps(files: list[Path]) -> Stamps:
    """What changes when a file is written again."""
    stamps = []
    for file in files:
        try:
            status = file.stat()
        except OSError as error:
            raise SceneError(
                f"{file}: cannot be read ({error.strerror or error}), expected a table of "
                "nuScenes; download the metadata of this version again"
            ) from error
        stamps.append((file.name, status.st_size, status.st_mtime_ns))
    return tuple(stamps)


@lru_cache(maxsize=4)
def _keyframes(folder: str, stamps: Stamps) -> Mapping[str, Keyframe] | SceneError:
    try:
        return _read_keyframes(Path(folder))
    except SceneError as error:
        return error


def _read_keyframes(folder: Path) -> Mapping[str, Keyframe]:
    scenes: dict[str, str] = {}
    names: set[str] = set()
    for row in _Table(folder / "scene.json"):
        token, name = row.token(scenes), row.text("name")
        if not _SCENE_NAME.fullmatch(name):
            raise row.wrong("name", "letters, digits, '-', '_' and '.' such as scene-0061")
        if name in names:
            raise row.wrong("name", "another name for each scene")
        names.add(name)
        scenes[token] = name
    moments: dict[str, list[tuple[int, str]]] = {token: [] for token in scenes}
    samples: dict[str, None] = {}
    for row in _Table(folder / "sample.json"):
        token, scene = row.token(samples), row.text("scene_token")
        if scene not in moments:
            raise missing_token(folder / "scene.json", "scene", scene)
        samples[token] = None
        moments[scene].append((row.count_of("timestamp"), token))
    keyframes: dict[str, Keyframe] = {}
    for scene, found in moments.items():
        for index, (timestamp, token) in enumerate(sorted(found)):
            name = f"{scenes[scene]}_{index:02d}"
            if name in keyframes:  # scenes "a" and "a_01" can meet
                raise SceneError(
                    f"{folder / 'scene.json'}: two keyframes would be called {name}, expected "
                    "scenes whose names do not end like a keyframe's; rename the scene"
                )
            keyframes[name] = Keyframe(name, token, scenes[scene], timestamp)
    return keyframes


@lru_cache(maxsize=2)
def _tables(folder: str, stamps: Stamps, sweeps: bool) -> Tables | SceneError:
    try:
        return _read_tables(Path(folder), "lidarseg.json" in {stamp[0] for stamp in stamps}, sweeps)
    except SceneError as error:
        return error


def _read_tables(folder: Path, labelled: bool, keep_sweeps: bool) -> Tables:
    calibrations = _read_calibrations(folder)
    recordings: dict[str, dict[str, Recording]] = {}
    uncalibrated: dict[str, str] = {}
    sweeps: dict[str, Recording] = {}
    pose_rows: dict[str, int] = {}
    # one text for each calibration token instead of one for each row
    same = {token: token for token in calibrations}
    for row in _Table(folder / "sample_data.json"):
        keyframe, sensor = row.flag("is_key_frame"), row.text("calibrated_sensor_token")
        if sensor not in calibrations:
            if keyframe:
                uncalibrated[row.text("sample_token")] = sensor
            continue
        channel = calibrations[sensor].channel
        wanted = channel in CAMERAS or channel == LIDAR if keyframe else channel == LIDAR
        if not wanted or not (keyframe or keep_sweeps):
            continue
        is_camera = channel != LIDAR
        size = (row.count_of("height"), row.count_of("width")) if is_camera else (0, 0)
        pose = row.text("ego_pose_token")
        pose_rows[pose] = -1
        recording = Recording(
            token=row.text("token"),
            file=row.file(),
            timestamp=row.count_of("timestamp"),
            ego_pose=pose,
            calibration=same[sensor],
            image_size=size,
            previous=row.text("prev"),
        )
        if not keyframe:
            sweeps[row.token(sweeps)] = recording
            continue
        of_sample = recordings.setdefault(row.text("sample_token"), {})
        if channel in of_sample:
            raise row.wrong(
                "sample_token", f"one keyframe recording of {channel} for each sample, not two"
            )
        of_sample[channel] = recording
    label_files, label_of_id = _read_labels(folder) if labelled else (None, _standard_labels())
    return Tables(
        folder=folder,
        recordings=recordings,
        uncalibrated=uncalibrated,
        sweeps=sweeps,
        lidar_keyframes=frozenset(
            found[LIDAR].token for found in recordings.values() if keep_sweeps and LIDAR in found
        ),
        calibrations=calibrations,
        ego_pose_rows=pose_rows,
        ego_poses=_read_ego_poses(folder, pose_rows),
        lidarseg=label_files,
        label_of_id=label_of_id,
    )


def _read_calibrations(folder: Path) -> dict[str, Calibration]:
    channels: dict[str, str] = {}
    for row in _Table(folder / "sensor.json"):
        channels[row.token(channels)] = row.text("channel")
    calibrations: dict[str, Calibration] = {}
    for row in _Table(folder / "calibrated_sensor.json"):
        token, sensor = row.token(calibrations), row.text("sensor_token")
        if sensor not in channels:
            raise missing_token(folder / "sensor.json", "sensor", sensor)
        rows = row.row.get("camera_intrinsic")
        if not isinstance(rows, list) or not all(isinstance(part, list) for part in rows):
            raise row.wrong("camera_intrinsic", "a 3 x 3 matrix, or [] of a LiDAR")
        values = tuple(row.number("camera_intrinsic", value) for part in rows for value in part)
        is_matrix = [len(part) for part in rows] == [3, 3, 3]
        if not is_matrix and (values or channels[sensor] in CAMERAS):
            raise row.wrong("camera_intrinsic", "a 3 x 3 matrix, or [] of a LiDAR")
        calibrations[token] = Calibration(channels[sensor], row.placement(), values)
    return calibrations


def _read_ego_poses(folder: Path, rows: dict[str, int]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Fill in the row of each pose that is wanted and found."""
    poses = np.empty((len(rows), 7))
    filled = 0
    for row in _Table(folder / "ego_pose.json"):
        token = row.text("token")
        before = rows.get(token)
        if before is None:
            continue
        if before >= 0:
            row.token({token: None})
        poses[filled] = row.placement()
        rows[token] = filled
        filled += 1
    return poses[:filled]


def _read_labels(folder: Path) -> tuple[dict[str, str], np.ndarray[Any, np.dtype[np.int64]]]:
    files: dict[str, str] = {}
    used: set[str] = set()
    for row in _Table(folder / "lidarseg.json"):
        recording, file = row.text("sample_data_token"), row.file()
        if recording in files:
            raise row.wrong("sample_data_token", "one label file for each recording")
        if file in used:
            raise row.wrong("filename", "a label file of its own for each recording")
        used.add(file)
        files[recording] = file
    by_name = _label_of_name()
    label_of_id = np.full(_MAX_IDS, NO_SUCH_ID, dtype=np.int64)
    names: set[str] = set()
    for row in _Table(folder / "category.json"):
        name = row.text("name")
        if "index" not in row.row:
            continue
        index = row.count_of("index")
        if index >= _MAX_IDS or label_of_id[index] != NO_SUCH_ID:
            raise row.wrong("index", f"a number of its own below {_MAX_IDS}")
        if name not in by_name or name in names:
            raise row.wrong("name", "one of the 32 names of nuScenes-lidarseg, each once")
        names.add(name)
        label_of_id[index] = by_name[name]
    return files, label_of_id if names else _standard_labels()


def _label_of_name() -> dict[str, int]:
    categories = load_label_set(LABEL_SET).names
    return {
        name: categories.index(_CATEGORY_OF[name]) if name in _CATEGORY_OF else IGNORE_LABEL
        for name in LIDARSEG_NAMES
    }


def _standard_labels() -> np.ndarray[Any, np.dtype[np.int64]]:
    label_of_id = np.full(_MAX_IDS, NO_SUCH_ID, dtype=np.int64)
    label_of_id[: len(LIDARSEG_NAMES)] = list(_label_of_name().values())
    return label_of_id


def standard_labels() -> Tensor:
    """(256,) int64, label of each id of nuScenes-lidarseg, or `NO_SUCH_ID`."""
    return torch.from_numpy(_standard_labels())
