"""The box room of `rooms` as people's own tools would have written it."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from pcdistill.scenes import write_ply
from tests.scenes import rooms

OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
Y_UP = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])  # from z up
HEIGHT, WIDTH = rooms.IMAGE_SIZE


def picture(pose: np.ndarray) -> Image.Image:
    """Grey by depth."""
    shade = np.clip(255 - 30 * rooms.depth_of(pose), 0, 255).astype(np.uint8)
    return Image.fromarray(np.stack([shade, shade, shade], axis=-1))


def counts(pose: np.ndarray, depth_scale: float = 1000.0, **camera) -> Image.Image:
    """16-bit depth."""
    depth = rooms.depth_of(pose, **camera)
    return Image.fromarray(np.rint(depth * depth_scale).astype(np.uint16))


def quaternion(pose: np.ndarray) -> list[float]:
    """x y z w."""
    return Rotation.from_matrix(pose[:3, :3]).as_quat().tolist()


def write_tum(folder: Path, count: int = 8, *, camera: str | None = "matrix") -> Path:
    for kind in ("rgb", "depth"):
        (folder / kind).mkdir(parents=True)
    lists = {"rgb.txt": ["# color images"], "depth.txt": ["# depth"], "groundtruth.txt": ["#"]}
    for i, pose in enumerate(rooms.poses(count)):
        time = 1305031102.1 + i / 30
        picture(pose).save(folder / f"rgb/{time:.6f}.png")
        counts(pose, 5000.0).save(folder / f"depth/{time + 0.005:.6f}.png")
        lists["rgb.txt"].append(f"{time:.6f} rgb/{time:.6f}.png")
        lists["depth.txt"].append(f"{time + 0.005:.6f} depth/{time + 0.005:.6f}.png")
        numbers = " ".join(f"{n:.9f}" for n in [*pose[:3, 3], *quaternion(pose)])
        lists["groundtruth.txt"].append(f"{time - 0.003:.4f} {numbers}")
    for name, lines in lists.items():
        (folder / name).write_text("\n".join(lines) + "\n")
    if camera == "matrix":
        np.savetxt(folder / "intrinsics.txt", rooms.INTRINSICS)
    elif camera is not None:
        (folder / "camera.txt").write_text(camera)
    return folder


def exr(depth: np.ndarray, compression: str, channel: str = "R", kind: str = "<f4") -> bytes:
    """One channel as a scanline OpenEXR image, written by its description."""
    height, width = depth.shape
    names = {"none": 0, "RLE": 1, "ZIPS": 2, "ZIP": 3, "PIZ": 4}
    pixel_type = {"<f2": 1, "<f4": 2}[kind]

    def attribute(name: str, kind: str, value: bytes) -> bytes:
        return b"%s\0%s\0%s%s" % (
            name.encode(),
            kind.encode(),
            struct.pack("<i", len(value)),
            value,
        )

    channels = channel.encode() + b"\0" + struct.pack("<iIii", pixel_type, 0, 1, 1) + b"\0"
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    header = struct.pack("<II", 20000630, 2)
    header += attribute("channels", "chlist", channels)
    header += attribute("compression", "compression", bytes([names[compression]]))
    header += attribute("dataWindow", "box2i", window)
    header += attribute("displayWindow", "box2i", window)
    header += attribute("lineOrder", "lineOrder", b"\0") + b"\0"
    lines = 16 if compression == "ZIP" else 1
    blocks = []
    for top in range(0, height, lines):
        raw = depth[top : top + lines].astype(kind).tobytes()
        packed = raw
        if compression != "none":
            halves = np.frombuffer(raw, np.uint8)
            woven = np.concatenate([halves[0::2], halves[1::2]]).astype(np.int64)
            steps = woven.copy()
            steps[1:] = woven[1:] - woven[:-1] + 128
            plain = (steps & 255).astype(np.uint8).tobytes()
            packed = zlib.compress(plain) if compression != "RLE" else _run_lengths(plain)
            packed = packed if len(packed) < len(raw) else raw
        blocks.append(struct.pack("<ii", top, len(packed)) + packed)
    offsets = np.cumsum([len(header) + 8 * len(blocks)] + [len(block) for block in blocks[:-1]])
    return header + offsets.astype("<u8").tobytes() + b"".join(blocks)


def _run_lengths(plain: bytes) -> bytes:
    packed = b""
    place = 0
    while place < len(plain):
        run = 1
        while run < 128 and plain[place : place + run + 1] == plain[place : place + 1] * (run + 1):
            run += 1
        packed += bytes([run - 1]) + plain[place : place + 1] if run > 2 else b""
        if run <= 2:
            run = min(2, len(plain) - place)
            packed += bytes([256 - run]) + plain[place : place + run]
        place += run
    return packed


def write_record3d(folder: Path, count: int = 8, *, depth: str = "exr") -> Path:
    """`depth`: exr, png, or blob (an unpacked .r3d, floats as they are)."""
    small = (HEIGHT // 2, WIDTH // 2)
    half = rooms.INTRINSICS * [[0.5], [0.5], [1]]
    half[:2, 2] -= 0.25  # borders on borders, integer coordinates at centres
    color = "rgbd" if depth == "blob" else "rgb"
    for kind in {color, "rgbd" if depth == "blob" else "depth"}:
        (folder / kind).mkdir(parents=True)
    poses = []
    for i, pose in enumerate(rooms.poses(count)):
        picture(pose).save(folder / f"{color}/{i}.jpg")
        metres = rooms.depth_of(pose, half, small)
        if depth == "exr":
            (folder / f"depth/{i}.exr").write_bytes(exr(metres, "ZIP"))
        elif depth == "png":
            counts(pose, intrinsics=half, image_size=small).save(folder / f"depth/{i}.png")
        else:
            (folder / f"rgbd/{i}.depth").write_bytes(metres.astype("<f4").tobytes())
        arkit = Y_UP @ pose @ OPENGL
        poses.append([*quaternion(arkit), *arkit[:3, 3].tolist()])
    content = {
        "w": WIDTH,
        "h": HEIGHT,
        "dw": small[1],
        "dh": small[0],
        "fps": 60,
        "K": rooms.INTRINSICS.T.ravel().tolist(),
        "poses": poses,
    }
    name = "metadata" if depth == "blob" else "metadata.json"
    (folder / name).write_text(json.dumps(content))
    return folder


def write_nerfstudio(
    folder: Path, count: int = 8, *, depth: bool = True, cloud: bool = True, **more
) -> Path:
    (folder / "images").mkdir(parents=True)
    (folder / "depths").mkdir()
    frames = []
    for i, pose in enumerate(rooms.poses(count)):
        picture(pose).save(folder / f"images/frame_{i + 1:05d}.jpg")
        frame = {
            "file_path": f"images/frame_{i + 1:05d}.jpg",
            "transform_matrix": (pose @ OPENGL).tolist(),
        }
        if depth:
            counts(pose).save(folder / f"depths/{i}.png")
            frame["depth_file_path"] = f"depths/{i}.png"
        frames.append(frame)
    content = {
        "camera_model": "OPENCV",
        "fl_x": rooms.INTRINSICS[0, 0],
        "fl_y": rooms.INTRINSICS[1, 1],
        "cx": rooms.INTRINSICS[0, 2] + 0.5,
        "cy": rooms.INTRINSICS[1, 2] + 0.5,
        "w": WIDTH,
        "h": HEIGHT,
        "k1": 0.0,
        "frames": frames,
    }
    if cloud:
        write_ply(folder / "sparse_pc.ply", torch.from_numpy(rooms.wall_points()))
        content["ply_file_path"] = "sparse_pc.ply"
    (folder / "transforms.json").write_text(json.dumps(content | more))
    return folder


def write_colmap(
    folder: Path,
    count: int = 8,
    *,
    binary: bool = True,
    depth: bool = False,
    model: str = "PINHOLE",
    parameters: tuple[float, ...] | None = None,
    sparse: str = "sparse/0",
) -> Path:
    place = folder / sparse
    place.mkdir(parents=True)
    (folder / "images/left").mkdir(parents=True)
    (folder / "stereo/depth_maps/left").mkdir(parents=True)
    focal, cx, cy = 60.0, rooms.INTRINSICS[0, 2] + 0.5, rooms.INTRINSICS[1, 2] + 0.5
    parameters = parameters or ((focal, focal, cx, cy) if model == "PINHOLE" else (focal, cx, cy))
    number = {"SIMPLE_PINHOLE": 0, "PINHOLE": 1, "SIMPLE_RADIAL": 2, "OPENCV": 4}[model]
    images = []
    for i, pose in enumerate(rooms.poses(count)):
        name = f"left/{i:03d}.jpg"
        picture(pose).save(folder / "images" / name)
        if depth:
            metres = rooms.depth_of(pose).astype("<f4")
            head = f"{WIDTH}&{HEIGHT}&1&".encode()
            path = folder / f"stereo/depth_maps/{name}.geometric.bin"
            path.write_bytes(head + metres.tobytes())
        world_to_camera = np.linalg.inv(pose)
        x, y, z, w = quaternion(world_to_camera)
        images.append((i + 1, (w, x, y, z), world_to_camera[:3, 3], 1, name))
    points = rooms.wall_points(0.5)
    if binary:
        _write_binary(place, number, parameters, images, points)
    else:
        _write_text(place, model, parameters, images, points)
    return folder


def _write_binary(place, number, parameters, images, points) -> None:
    count = len(parameters)
    (place / "cameras.bin").write_bytes(
        struct.pack(f"<QiiQQ{count}d", 1, 1, number, WIDTH, HEIGHT, *parameters)
    )
    content = struct.pack("<Q", len(images))
    for image_id, q, t, camera, name in images:
        content += struct.pack("<I7dI", image_id, *q, *t, camera) + name.encode() + b"\0"
        content += struct.pack("<QddQ", 1, 3.0, 4.0, 2**64 - 1)
    (place / "images.bin").write_bytes(content)
    content = struct.pack("<Q", len(points))
    for i, point in enumerate(points):
        views = 2 if i == 0 else 3
        content += struct.pack("<Q3d3BdQ", i, *point, 11 - i % 2, 20, 30, 0.5, views)
        content += struct.pack("<II", 1, 0) * views
    (place / "points3D.bin").write_bytes(content)


def _write_text(place, model, parameters, images, points) -> None:
    numbers = " ".join(repr(float(p)) for p in parameters)
    (place / "cameras.txt").write_text(f"# cameras\n1 {model} {WIDTH} {HEIGHT} {numbers}\n")
    lines = ["# two lines an image"]
    for image_id, q, t, camera, name in images:
        pose = " ".join(repr(float(n)) for n in [*q, *t])
        lines += [f"{image_id} {pose} {camera} {name}", "" if image_id % 2 else "3.0 4.0 -1"]
    (place / "images.txt").write_text("\n".join(lines) + "\n")
    lines = ["# points"]
    for i, point in enumerate(points):
        track = " 1 0" * (2 if i == 0 else 3)
        lines.append(f"{i} {point[0]} {point[1]} {point[2]} {11 - i % 2} 20 30 0.5{track}")
    (place / "points3D.txt").write_text("\n".join(lines) + "\n")


def pcd(points: np.ndarray, encoding: str, colors: np.ndarray | None = None) -> bytes:
    """A PCD file; colours packed into a float."""
    points = points.astype("<f4")
    fields = ["x", "y", "z"]
    columns = [points[:, axis] for axis in range(3)]
    if colors is not None:
        packed = colors.astype(np.uint32) @ np.array([65536, 256, 1], dtype=np.uint32)
        fields.append("rgb")
        columns.append(packed.astype("<u4").view("<f4"))
    count = len(fields)
    header = (
        f"# .PCD v0.7\nVERSION 0.7\nFIELDS {' '.join(fields)}\nSIZE{' 4' * count}\n"
        f"TYPE{' F' * count}\nCOUNT{' 1' * count}\nWIDTH {len(points)}\nHEIGHT 1\n"
        f"VIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(points)}\nDATA {encoding}\n"
    ).encode()
    if encoding == "ascii":
        rows = zip(*columns, strict=True)
        lines = (" ".join(f"{value:.9g}" for value in row) for row in rows)
        return header + "\n".join(lines).encode() + b"\n"
    if encoding == "binary":
        return header + np.stack(columns, axis=1).tobytes()
    plain = b"".join(column.tobytes() for column in columns)
    packed = lzf(plain)
    return header + struct.pack("<II", len(packed), len(plain)) + packed


def lzf(plain: bytes) -> bytes:
    """LZF with literals and repetitions, found without haste."""
    packed = b""
    literals = b""
    place = 0
    last: dict[bytes, int] = {}

    def flush() -> bytes:
        return b"".join(
            bytes([len(literals[i : i + 32]) - 1]) + literals[i : i + 32]
            for i in range(0, len(literals), 32)
        )

    while place < len(plain):
        key = plain[place : place + 3]
        source = last.get(key, -1)
        last[key] = place
        back = place - source - 1
        if source < 0 or back >= 8192 or len(key) < 3:
            literals += plain[place : place + 1]
            place += 1
            continue
        length = 3
        while (
            length < 264
            and place + length < len(plain)
            and plain[source + length] == plain[place + length]
        ):
            length += 1
        packed += flush()
        literals = b""
        code = length - 2
        if code < 7:
            packed += bytes([(code << 5) | (back >> 8), back & 255])
        else:
            packed += bytes([(7 << 5) | (back >> 8), code - 7, back & 255])
        place += length
    return packed + flush()
