"""A scan of the box-shaped room in the files of ScanNet v2, made by formula."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pcdistill.scenes import write_ply
from tests.scenes import rooms

NAME = "scene0042_00"
COLOR_SIZE, DEPTH_SIZE = (97, 131), (60, 80)  # (H, W); colour in no simple ratio to depth
COLOR_CAMERA = np.array([[98.0, 0, 64.8], [0, 98.5, 47.9], [0, 0, 1]])
DEPTH_CAMERA = rooms.INTRINSICS
LOST = 3
RAW = (("wall", 1, 1), ("kitchen cabinets", 8, 3), ("kitchen cabinet", 8, 3), ("floor", 3, 2))
"""Raw category, number in the raw table, NYU's number."""


def jpeg(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def sens_bytes(
    frames: Sequence[tuple[np.ndarray, bytes, bytes]],
    *,
    color_kind: int = 2,
    depth_kind: int = 1,
    color_size: tuple[int, int] = COLOR_SIZE,
    depth_size: tuple[int, int] = DEPTH_SIZE,
    color_camera: np.ndarray = COLOR_CAMERA,
    depth_camera: np.ndarray = DEPTH_CAMERA,
    depth_to_color: np.ndarray | None = None,
    depth_scale: float = 1000.0,
    version: int = 4,
    count: int | None = None,
    motion: int = 2,
) -> bytes:
    """A whole `.sens` file of frames (pose, colour blob, depth blob)."""
    name = b"StructureSensor"
    depth_to_color = np.eye(4) if depth_to_color is None else depth_to_color
    parts = [struct.pack("<IQ", version, len(name)), name]
    for camera, extrinsics in ((color_camera, np.eye(4)), (depth_camera, depth_to_color)):
        matrix = np.eye(4)
        matrix[:3, :3] = camera
        parts += [matrix.astype("<f4").tobytes(), extrinsics.astype("<f4").tobytes()]
    (height, width), (depth_height, depth_width) = color_size, depth_size
    parts.append(struct.pack("<2i", color_kind, depth_kind))
    parts.append(struct.pack("<4If", width, height, depth_width, depth_height, depth_scale))
    parts.append(struct.pack("<Q", len(frames) if count is None else count))
    for number, (pose, color, depth) in enumerate(frames):
        times = 33_333 * number
        parts.append(pose.astype("<f4").tobytes())
        parts.append(struct.pack("<4Q", times, times + 7, len(color), len(depth)))
        parts += [color, depth]
    parts.append(struct.pack("<Q", motion) + bytes(128 * motion))
    return b"".join(parts)


def depth_counts(pose: np.ndarray) -> np.ndarray:
    depth = rooms.depth_of(pose, DEPTH_CAMERA, DEPTH_SIZE)
    return np.rint(depth * 1000).astype("<u2")


def color_pixels(number: int) -> np.ndarray:
    """(H, W, 3) uint8: red is the column, green the row, blue the number of the frame."""
    v, u = np.mgrid[: COLOR_SIZE[0], : COLOR_SIZE[1]]
    return np.stack([u, v, np.full_like(u, 20 * number)], axis=-1).astype(np.uint8)


def room_frames(
    count: int = 6, lost: Sequence[int] = (LOST,), encode: Callable[[np.ndarray], bytes] = jpeg
) -> list:
    frames = []
    for number, pose in enumerate(rooms.poses(count)):
        depth = zlib.compress(depth_counts(pose).tobytes())
        kept = np.full((4, 4), -np.inf) if number in lost else pose
        frames.append((kept, encode(color_pixels(number)), depth))
    return frames


def write_scannet(root: Path, name: str = NAME, *, labels: bool = True, **sens: object) -> Path:
    """scans/NAME/ below `root`, with the table of raw categories beside scans/; the scan."""
    folder = root / "scans" / name
    folder.mkdir(parents=True)
    frames = room_frames(encode=png if sens.get("color_kind") == 1 else jpeg)
    (folder / f"{name}.sens").write_bytes(sens_bytes(frames, **sens))
    points = torch.from_numpy(rooms.wall_points())
    count = len(points)
    colors = torch.from_numpy((np.arange(count * 3) % 251).astype(np.uint8).reshape(-1, 3))
    faces = torch.tensor([[0, 1, 2], [1, 2, count - 1]])
    write_ply(folder / f"{name}_vh_clean_2.ply", points, colors=colors, faces=faces)
    angle = np.deg2rad(30)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    turn[:3, 3] = 1, -2, 0.5
    text = " ".join(f"{value:.6f}" for value in turn.flatten())
    (folder / f"{name}.txt").write_text(f"axisAlignment = {text} \nsceneType = Office\n")
    write_table(root)
    if labels:
        write_labels(folder, name, points)
    return folder


def write_table(root: Path) -> None:
    rows = [f"{number}\t{raw}\t{raw}\t9\t{nyu}\n" for raw, number, nyu in RAW]
    header = "id\traw_category\tcategory\tcount\tnyu40id\n"
    (root / "scannetv2-labels.combined.tsv").write_text(header + "".join(rows))


def objects_of(count: int) -> np.ndarray:
    """(N,) which of four stretches of vertices each belongs to; the last is no object."""
    return np.arange(count) * 4 // count


def write_labels(folder: Path, name: str, points: torch.Tensor) -> None:
    """Objects 7, 8, 9: wall, kitchen cabinets, and something the table does not have."""
    owner = objects_of(len(points))
    nyu = torch.from_numpy(np.array([1, 3, 40, 0])[owner])
    write_ply(folder / f"{name}_vh_clean_2.labels.ply", points, labels=nyu)
    segments = (owner * 1000 + np.arange(len(points)) % 3).tolist()  # three segments each
    (folder / f"{name}_vh_clean_2.0.010000.segs.json").write_text(
        json.dumps({"params": {}, "sceneId": name, "segIndices": segments})
    )
    groups = [
        {"id": i, "objectId": 7 + i, "label": label, "segments": [1000 * i + k for k in range(3)]}
        for i, label in enumerate(("wall", "kitchen cabinets", "flux compensator"))
    ]
    (folder / f"{name}.aggregation.json").write_text(
        json.dumps({"sceneId": f"scannet.{name}", "segGroups": groups})
    )
