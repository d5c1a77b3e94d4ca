"""A drive of two scenes in the layout of nuScenes, small enough to write anew for each test."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from pcdistill.labels import IGNORE_LABEL

CAMERAS = (
    "CAM_FRONT",
    "CAM_FRONT_RIGHT",
    "CAM_BACK_RIGHT",
    "CAM_BACK",
    "CAM_BACK_LEFT",
    "CAM_FRONT_LEFT",
)
FILE_SIZE = (36, 64)  # (H, W) of the image files
INTRINSICS = [[50.0, 0.0, 32.5], [0.0, 50.0, 17.0], [0.0, 0.0, 1.0]]
POINTS = 40
START = 1_500_000_000_000_000
NAMES = ("noise", "human.pedestrian.adult", "movable_object.barrier", "vehicle.car", "vehicle.ego")
LABELS = np.array([IGNORE_LABEL, 6, 0, 3, IGNORE_LABEL])  # what NAMES are in nuscenes16
IDS = (0, 2, 9, 17, 31)


def quaternion(rotation: Rotation) -> list[float]:
    """w x y z."""
    return rotation.as_quat(scalar_first=True).tolist()


def ego_pose(timestamp: int) -> tuple[Rotation, np.ndarray]:
    """Where the car is, kilometres from the map's origin: it drives a bend, slightly rolled."""
    seconds = (timestamp - START) / 1e6
    turn = Rotation.from_euler("zyx", [0.3 + 0.4 * seconds, 0.02, -0.01])
    return turn, np.array([1234.5 + 9.0 * seconds, 2345.6 + 4.0 * seconds, 0.1 * seconds])


def mount(channel: str) -> tuple[Rotation, np.ndarray]:
    """Where a sensor sits on the car."""
    if channel == "LIDAR_TOP":
        return Rotation.from_euler("zyx", [-1.57, 0.01, 0.02]), np.array([0.94, 0.0, 1.84])
    yaw = -2 * np.pi * CAMERAS.index(channel) / 6
    forward = Rotation.from_matrix([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])  # z forward to x forward
    turn = Rotation.from_euler("z", yaw) * forward * Rotation.from_euler("x", 0.02)
    return turn, np.array([1.5 * np.cos(yaw), 0.5 * np.sin(yaw), 1.5])


def matrix(placement: tuple[Rotation, np.ndarray]) -> np.ndarray:
    found = np.eye(4)
    found[:3, :3], found[:3, 3] = placement[0].as_matrix(), placement[1]
    return found


def landmarks(timestamp: int) -> np.ndarray:
    """(N, 3) float64, places on the map around the car."""
    rng = np.random.default_rng(timestamp)
    return ego_pose(timestamp)[1] + rng.uniform([-30, -30, -2], [30, 30, 4], (POINTS, 3))


def in_lidar(places: np.ndarray, timestamp: int) -> np.ndarray:
    to_global = matrix(ego_pose(timestamp)) @ matrix(mount("LIDAR_TOP"))
    return (np.linalg.inv(to_global) @ np.c_[places, np.ones(len(places))].T).T[:, :3]


def cloud_bytes(xyz: np.ndarray) -> bytes:
    count = len(xyz)
    rows = np.c_[xyz, np.linspace(0, 255, count), np.arange(count) % 32]
    return rows.astype("<f4").tobytes()


def image_bytes(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (*FILE_SIZE, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def tables() -> tuple[dict[str, list[dict]], dict[str, bytes]]:
    """Rows of each table, and the content of every other file by its path."""
    files: dict[str, bytes] = {}
    rows: dict[str, list[dict]] = {name: [] for name in TABLES}
    for channel in (*CAMERAS, "LIDAR_TOP", "RADAR_FRONT"):
        camera = channel.startswith("CAM")
        rows["sensor"].append({"token": f"sensor-{channel}", "channel": channel})
        turn, place = mount(channel if channel != "RADAR_FRONT" else "CAM_FRONT")
        rows["calibrated_sensor"].append(
            {
                "token": f"mount-{channel}",
                "sensor_token": f"sensor-{channel}",
                "translation": place.tolist(),
                "rotation": quaternion(turn),
                "camera_intrinsic": INTRINSICS if camera else [],
            }
        )
    for scene in (0, 1):
        rows["scene"].append({"token": f"s{scene}", "name": f"scene-000{scene}"})
        before = ""
        for step in range(5):  # keyframes 0 and 4, LiDAR sweeps 1 to 3
            key, time = step in (0, 4), START + scene * 10_000_000 + step * 50_000
            sample = f"s{scene}k{0 if step == 0 else 1}"
            if key:
                rows["sample"].append(
                    {"token": sample, "timestamp": time, "scene_token": f"s{scene}"}
                )
                for place, channel in enumerate((*CAMERAS, "RADAR_FRONT")):
                    _record(rows, files, channel, sample, time - 5000 * place, key, "")
            before = _record(rows, files, "LIDAR_TOP", sample, time, key, before)
            if key:
                file = f"lidarseg/v1.0-mini/{before}_lidarseg.bin"
                rows["lidarseg"].append(
                    {"token": before, "sample_data_token": before, "filename": file}
                )
                files[file] = bytes(IDS[i % len(IDS)] for i in range(POINTS))
    rows["sample"].reverse()  # the order of a table means nothing
    rows["category"] = [
        {"token": f"c{i}", "name": name, "index": i} for i, name in zip(IDS, NAMES, strict=True)
    ]
    return rows, files


TABLES = (
    "scene",
    "sample",
    "sensor",
    "calibrated_sensor",
    "sample_data",
    "ego_pose",
    "category",
    "lidarseg",
)


def _record(
    rows: dict[str, list[dict]],
    files: dict[str, bytes],
    channel: str,
    sample: str,
    time: int,
    key: bool,
    before: str,
) -> str:
    token = f"{channel}-{time}"
    camera = channel.startswith("CAM")
    folder = "samples" if key else "sweeps"
    file = f"{folder}/{channel}/{time}.{'png' if camera else 'pcd.bin'}"
    if channel == "LIDAR_TOP":
        files[file] = cloud_bytes(in_lidar(landmarks(time), time))
    elif camera:
        files[file] = image_bytes(time)
    turn, place = ego_pose(time)
    rows["ego_pose"].append(
        {"token": f"e-{token}", "rotation": quaternion(turn), "translation": place.tolist()}
    )
    rows["sample_data"].append(
        {
            "token": token,
            "sample_token": sample,
            "ego_pose_token": f"e-{token}",
            "calibrated_sensor_token": f"mount-{channel}",
            "timestamp": time,
            "is_key_frame": key,
            "height": FILE_SIZE[0] if camera else 0,
            "width": FILE_SIZE[1] if camera else 0,
            "filename": file,
            "prev": before,
        }
    )
    return token


def write_drive(root: Path, version: str = "v1.0-mini") -> Path:
    """Write all of it; returns the root of the data set."""
    rows, files = tables()
    for name, table in rows.items():
        path = root / version / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(table, indent=0))
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root
