"""Files whose headers declare far more than the files hold."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pcdistill.scenes import MemoryFrame, Scene, write_ply, write_scene
from tests.scenes import captures, drives, published, rooms, scannet_scans

SCALE = 115
BIG = (60 * SCALE, 80 * SCALE)  # (H, W), as many pixels as an image may have, in the room's shape
BIG_CAMERA = rooms.INTRINSICS * [[SCALE], [SCALE], [1]]
_TRANSFORMS = {"fl_x": 6900, "fl_y": 6900, "cx": 4600, "cy": 3450, "w": BIG[1], "h": BIG[0]}


def lying_jpeg(content: bytes, size: tuple[int, int]) -> bytes:
    """The image with another (H, W) in its header."""
    place = content.index(b"\xff\xc0") + 5
    return content[:place] + struct.pack(">HH", *size) + content[place + 4 :]


def padded_jpeg(content: bytes, size: tuple[int, int]) -> bytes:
    """The same with so many comments that the file might hold as many pixels."""
    comment = b"\xff\xfe" + struct.pack(">H", 50_002) + bytes(50_000)
    return content[:2] + comment * 4 + lying_jpeg(content, size)[2:]


def lying_png(content: bytes, size: tuple[int, int]) -> bytes:
    """The image with another (H, W) in its header, whose checksum is right."""
    chunk = b"IHDR" + struct.pack(">II", size[1], size[0]) + content[24:29]
    return content[:12] + chunk + struct.pack(">I", zlib.crc32(chunk)) + content[33:]


def change(file: Path, how: Callable[[bytes], bytes]) -> None:
    file.write_bytes(how(file.read_bytes()))


def change_json(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def change_images(folder: Path, size: tuple[int, int]) -> None:
    for file in [*folder.glob("*.png"), *folder.glob("*.jp*g")]:
        lie = lying_png if file.suffix == ".png" else lying_jpeg
        change(file, lambda content, lie=lie: lie(content, size))


def npy(shape: tuple[int, ...], kind: str = "<f4") -> bytes:
    """A NumPy array of which there is nothing but the header."""
    stream = io.BytesIO()
    header = {"descr": kind, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + bytes(64)


def zip_bomb(size: int) -> bytes:
    """What `size` zeros are compressed to, without ever holding them."""
    packer = zlib.compressobj(1)
    step = 1 << 24
    parts = [packer.compress(bytes(min(step, size - done))) for done in range(0, size, step)]
    return b"".join(parts) + packer.flush()


# .sens


def sens(folder: Path, **lies: Any) -> Path:
    return scannet_scans.write_scannet(folder, **lies)


def sens_patched(folder: Path, place: int, content: bytes) -> Path:
    scan = sens(folder)
    file = scan / f"{scan.name}.sens"
    change(file, lambda whole: whole[:place] + content + whole[place + len(content) :])
    return scan


def sens_of_nothing(folder: Path) -> Path:
    """A sparse file of zeros, as many frames of no bytes as it holds."""
    scan = sens(folder)
    file = scan / f"{scan.name}.sens"
    frames = (1 << 32) // 96
    header = scannet_scans.sens_bytes([], count=frames, motion=0)[:-8]
    with file.open("wb") as stream:
        stream.write(header)
        stream.truncate(len(header) + 96 * frames)
    return scan


def sens_bomb(folder: Path) -> Path:
    """Depth that expands to far more than its image."""
    scan = sens(folder)
    bomb = zip_bomb(1 << 28)
    frames = [(pose, color, bomb) for pose, color, _ in scannet_scans.room_frames()]
    (scan / f"{scan.name}.sens").write_bytes(scannet_scans.sens_bytes(frames))
    return scan


# clouds


def ply(folder: Path, header: str, content: bytes = b"") -> Path:
    file = folder / "cloud.ply"
    file.write_bytes(f"ply\nformat {header}\nend_header\n".encode() + content)
    return file


_XYZ = "property float x\nproperty float y\nproperty float z"
_FACE = "property list uint int vertex_indices"


def pcd(folder: Path, encoding: str, old: str, new: str) -> Path:
    file = folder / "cloud.pcd"
    content = captures.pcd(rooms.wall_points(0.5), encoding)
    assert old.encode() in content
    file.write_bytes(content.replace(old.encode(), new.encode()))
    return file


def las(folder: Path, place: int, content: bytes, version: int = 2) -> Path:
    """A LAS file of one point, `content` put at a byte of its header."""
    header = bytearray(227 if version < 4 else 375)
    header[:4], header[24:26] = b"LASF", bytes([1, version])
    struct.pack_into("<HII", header, 94, len(header), len(header), 0)
    struct.pack_into("<BHI", header, 104, 0, 20, 1)
    struct.pack_into("<6d", header, 131, 0.001, 0.001, 0.001, 0, 0, 0)
    header[place : place + len(content)] = content
    file = folder / "cloud.las"
    file.write_bytes(bytes(header) + bytes(20))
    return file


# captures


def record3d(folder: Path, depth: str = "exr") -> Path:
    return captures.write_record3d(folder / "scan", 3, depth=depth)


def record3d_exr(folder: Path, size: tuple[int, int], channels: int = 1, bomb: int = 0) -> Path:
    """Depth images that declare (H, W) and some channels, in one block that expands to `bomb`."""
    scan = record3d(folder)

    def attribute(name: bytes, kind: bytes, value: bytes) -> bytes:
        return name + b"\0" + kind + b"\0" + struct.pack("<i", len(value)) + value

    names = [b"C%d" % i for i in range(channels - 1)] + [b"R"]
    table = b"".join(name + b"\0" + struct.pack("<iIii", 2, 0, 1, 1) for name in names) + b"\0"
    window = struct.pack("<4i", 0, 0, size[1] - 1, size[0] - 1)
    header = struct.pack("<II", 20000630, 2) + attribute(b"channels", b"chlist", table)
    header += attribute(b"compression", b"compression", b"\3")
    header += attribute(b"dataWindow", b"box2i", window) + b"\0"
    data = zip_bomb(bomb)
    block = struct.pack("<ii", 0, len(data)) + data
    blocks = min(-(-size[0] // 16), 1000)
    content = header + struct.pack("<Q", len(header) + 8 * blocks) * blocks + block
    for file in (scan / "depth").iterdir():
        file.write_bytes(content)
    return scan


def record3d_images(folder: Path, kind: str) -> Path:
    scan = record3d(folder, "png")
    change_images(scan / kind, BIG)
    return scan


def record3d_blobs(folder: Path, **size: int) -> Path:
    scan = record3d(folder, "blob")
    change_json(scan / "metadata", **size)
    return scan


def tum(folder: Path, kind: str, size: tuple[int, int]) -> Path:
    scan = captures.write_tum(folder / "scan", 3)
    change_images(scan / kind, size)
    return scan


def tum_scaled(folder: Path) -> Path:
    """All images and the camera lie together."""
    scan = tum(folder, "rgb", BIG)
    change_images(scan / "depth", BIG)
    np.savetxt(scan / "intrinsics.txt", BIG_CAMERA)
    return scan


def nerfstudio_depth(folder: Path, shape: tuple[int, ...], kind: str = "<f4") -> Path:
    scan = captures.write_nerfstudio(folder / "scan", 3)
    content = json.loads((scan / "transforms.json").read_text())
    for i, frame in enumerate(content["frames"]):
        frame["depth_file_path"] = f"depths/{i}.npy"
        (scan / f"depths/{i}.npy").write_bytes(npy(shape, kind))
    (scan / "transforms.json").write_text(json.dumps(content))
    return scan


def nerfstudio_images(folder: Path) -> Path:
    """Images and camera lie together, depth does not."""
    scan = captures.write_nerfstudio(folder / "scan", 3)
    change_images(scan / "images", BIG)
    change_json(scan / "transforms.json", **_TRANSFORMS)
    return scan


def colmap(folder: Path, name: str, place: int, content: bytes, *, depth: bool = False) -> Path:
    scan = captures.write_colmap(folder / "scan", 3, depth=depth)
    file = scan / "sparse/0" / name
    change(file, lambda whole: whole[:place] + content + whole[place + len(content) :])
    return scan


def colmap_depth(folder: Path, header: bytes) -> Path:
    scan = captures.write_colmap(folder / "scan", 3, depth=True)
    for file in (scan / "stereo/depth_maps/left").iterdir():
        change(file, lambda whole: header + whole[whole.index(b"&1&") + 3 :])
    return scan


# data sets and stored scenes


def drive(folder: Path, table: str, key: str, value: Any) -> Path:
    drives.write_drive(folder / "drive")
    file = folder / "drive/v1.0-mini" / f"{table}.json"
    rows = json.loads(file.read_text())
    file.write_text(json.dumps([row | {key: value} for row in rows]))
    return folder / "drive"


def drive_text(folder: Path, table: str, content: bytes) -> Path:
    drives.write_drive(folder / "drive")
    (folder / "drive/v1.0-mini" / f"{table}.json").write_bytes(content)
    return folder / "drive"


def drive_images(folder: Path) -> Path:
    drives.write_drive(folder / "drive")
    for place in (folder / "drive/samples").glob("CAM_*"):
        change_images(place, (9000, 16000))
    return drive(folder, "sample_data", "width", 16000)


def clip(
    folder: Path,
    times: bytes | None = None,
    size: tuple[int, int] | None = None,
    lie: Callable[[bytes, tuple[int, int]], bytes] = lying_jpeg,
) -> Path:
    place = folder / "train/clip"
    camera = place / "frames/1500/front"
    camera.mkdir(parents=True)
    points = torch.from_numpy(rooms.wall_points(0.5))
    write_ply(place / "scene.ply", points, labels=torch.zeros(len(points), dtype=torch.int64))
    stamps = io.BytesIO()
    np.save(stamps, np.full(len(points), 1500))
    (place / "scene-timestamps.npy").write_bytes(times or stamps.getvalue())
    captures.picture(rooms.poses(1)[0]).save(camera / "color_image.jpg")
    np.savetxt(camera / "cam2scene.txt", rooms.poses(1)[0])
    np.savetxt(camera / "K.txt", rooms.INTRINSICS if size is None else BIG_CAMERA)
    if size is not None:
        change(camera / "color_image.jpg", lambda content: lie(content, size))
    return folder


def stored(folder: Path) -> Path:
    pose = torch.from_numpy(rooms.poses(1)[0])
    pixels = torch.from_numpy(np.asarray(captures.picture(rooms.poses(1)[0])).copy())
    depth = torch.from_numpy(rooms.depth_of(rooms.poses(1)[0]).astype(np.float32))
    frame = MemoryFrame("0", torch.from_numpy(rooms.INTRINSICS), pose, pixels, depth)
    points = torch.from_numpy(rooms.wall_points(0.5)).float()
    write_scene(Scene(name="lie", points=points, frames=(frame,)), folder / "lie")
    return folder / "lie"


def stored_patched(folder: Path, name: str, how: Callable[[bytes], bytes]) -> Path:
    """A file and its checksum lie together."""
    scene = stored(folder)
    change(scene / name, how)
    content = json.loads((scene / "scene.json").read_text())
    content.pop("checksum")
    checksum = zlib.crc32((scene / name).read_bytes())
    if name == "points.safetensors":
        content["points"]["checksum"] = checksum
    else:
        key = "image_checksum" if name.endswith("jpg") else "depth_checksum"
        content["frames"][0][key] = checksum
        content["frames"][0]["image_size"] = list(BIG)
        content["frames"][0]["intrinsics"] = BIG_CAMERA.tolist()
    content["checksum"] = zlib.crc32(json.dumps(content, sort_keys=True).encode())
    (scene / "scene.json").write_text(json.dumps(content))
    return scene


def safetensors_header(shape: list[int], end: int) -> Callable[[bytes], bytes]:
    text = json.dumps({"points": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}})
    return lambda _: struct.pack("<Q", len(text)) + text.encode() + bytes(64)


def sparse_text(file: Path, size: int) -> None:
    with file.open("r+b") as stream:
        stream.truncate(size)


def stored_text(folder: Path) -> Path:
    scene = stored(folder)
    sparse_text(scene / "scene.json", 3 << 30)
    return scene


def arkitscenes(folder: Path, kind: str) -> Path:
    scan = published.write_arkitscenes(folder / "410", 3, colors="vga_wide")
    if kind == "camera":
        for file in (scan / "vga_wide_intrinsics").iterdir():
            file.write_text("99999 99999 60000 60000 50000 50000")
        return scan
    change_images(scan / kind, BIG)
    if kind == "vga_wide":
        for file in (scan / "vga_wide_intrinsics").iterdir():
            file.write_text(f"{BIG[1]} {BIG[0]} 6900 6900 4600 3450")
    return scan


def scannetpp(folder: Path, kind: str) -> Path:
    scan = published.write_scannetpp(folder / "0a", 3)
    if kind == "dslr":
        change_images(scan / "dslr/resized_undistorted_images", BIG)
        change_json(scan / "dslr/nerfstudio/transforms_undistorted.json", **_TRANSFORMS)
        return scan / "dslr"
    change_images(scan / "iphone" / kind, BIG)
    if kind == "rgb":
        file = scan / "iphone/pose_intrinsic_imu.json"
        content = json.loads(file.read_text())
        for entry in content.values():
            entry["intrinsic"] = BIG_CAMERA.tolist()
        file.write_text(json.dumps(content))
    return scan / "iphone"


_HUGE = struct.pack("<Q", 1 << 62)
_ALL = struct.pack("<I", 2**32 - 1)
_NAME = len(b"StructureSensor")
_COUNTS = 12 + _NAME + 256 + 8  # first byte after the compressions of a .sens header
_FRAMES = _COUNTS + 20
_BLOB = _FRAMES + 8 + 64 + 16

CASES: dict[str, Callable[[Path], Path]] = {
    "sens frames": lambda f: sens(f, count=1 << 62),
    "sens frames of the file": lambda f: sens(f, count=500),
    "sens frames of nothing": sens_of_nothing,
    "sens name": lambda f: sens_patched(f, 4, _HUGE),
    "sens blob": lambda f: sens_patched(f, _BLOB, _HUGE),
    "sens color size": lambda f: sens(f, color_size=BIG, color_camera=BIG_CAMERA),
    "sens raw color size": lambda f: sens(f, color_size=(2**31, 2**31), color_kind=0),
    "sens depth size": lambda f: sens(f, depth_size=BIG, depth_camera=BIG_CAMERA),
    "sens depth bomb": sens_bomb,
    "ply vertices": lambda f: ply(
        f, f"binary_little_endian 1.0\nelement vertex {10**18}\n{_XYZ}", bytes(60)
    ),
    "ply text vertices": lambda f: ply(
        f, f"ascii 1.0\nelement vertex {10**12}\n{_XYZ}", b"0 0 0\n"
    ),
    "ply face": lambda f: ply(
        f,
        f"binary_little_endian 1.0\nelement vertex 3\n{_XYZ}\nelement face 1\n{_FACE}",
        bytes(36) + _ALL + bytes(12),
    ),
    "pcd points": lambda f: pcd(f, "binary", "POINTS ", "POINTS 99"),
    "pcd count": lambda f: pcd(f, "binary", "COUNT 1 1 1", "COUNT 1 1 4096"),
    "pcd text": lambda f: pcd(f, "ascii", "POINTS ", "POINTS 9999"),
    "pcd compressed": lambda f: pcd(f, "binary_compressed", "POINTS ", "POINTS 9999"),
    "las points": lambda f: las(f, 107, _ALL),
    "las records": lambda f: las(f, 100, _ALL),
    "las start": lambda f: las(f, 96, _ALL),
    "las extended records": lambda f: las(f, 243, _ALL, version=4),
    "nuscenes width": lambda f: drive(f, "sample_data", "width", 10**9),
    "nuscenes images": drive_images,
    "nuscenes long text": lambda f: drive_text(f, "sample", b'[{"token": "' + b"a" * (4 << 20)),
    "nuscenes deep": lambda f: drive_text(f, "sample_data", b"[" * (4 << 20)),
    "clip times": lambda f: clip(f, npy((1 << 40,), "<i8")),
    "clip times of nothing": lambda f: clip(f, npy((1 << 40, 0), "<i8")),
    "clip image": lambda f: clip(f, size=BIG),
    "clip larger image": lambda f: clip(f, size=(45000, 60000)),
    "tum color": lambda f: tum(f, "rgb", BIG),
    "tum depth": lambda f: tum(f, "depth", BIG),
    "tum all": tum_scaled,
    "record3d exr": lambda f: record3d_exr(f, (2**30, 2**30)),
    "record3d exr image": lambda f: record3d_exr(f, BIG),
    "record3d exr line": lambda f: record3d_exr(f, (1, 63_000_000), bomb=4 * 63_000_000),
    "record3d exr channels": lambda f: record3d_exr(f, (60, 80), 5000),
    "record3d exr bomb": lambda f: record3d_exr(f, (16, 200_000), 32, 16 * 32 * 800_000),
    "record3d blobs": lambda f: record3d_blobs(f, dh=40_000, dw=50_000),
    "record3d blob": lambda f: record3d_blobs(f, dh=3_000, dw=4_000),
    "record3d color": lambda f: record3d_images(f, "rgb"),
    "record3d depth": lambda f: record3d_images(f, "depth"),
    "nerfstudio depth": lambda f: nerfstudio_depth(f, BIG),
    "nerfstudio huge depth": lambda f: nerfstudio_depth(f, (1 << 30, 1 << 30)),
    "nerfstudio images": nerfstudio_images,
    "colmap cameras": lambda f: colmap(f, "cameras.bin", 0, _HUGE),
    "colmap size": lambda f: colmap(f, "cameras.bin", 16, _HUGE + _HUGE),
    "colmap images": lambda f: colmap(f, "images.bin", 0, _HUGE),
    "colmap track": lambda f: colmap(f, "points3D.bin", 51, _HUGE),
    "colmap points": lambda f: colmap(f, "points3D.bin", 0, _HUGE),
    "colmap depth": lambda f: colmap_depth(f, b"99999999&99999999&1&"),
    "colmap wide depth": lambda f: colmap_depth(f, b"9200&6900&1&"),
    "stored header": lambda f: stored_patched(f, "points.safetensors", lambda c: _HUGE + c[8:]),
    "stored shape": lambda f: stored_patched(
        f, "points.safetensors", safetensors_header([1 << 40, 3], 12 << 40)
    ),
    "stored color": lambda f: stored_patched(f, "frames/0.jpg", lambda c: lying_jpeg(c, BIG)),
    "stored depth": lambda f: stored_patched(f, "frames/0.png", lambda c: lying_png(c, BIG)),
    "stored long text": stored_text,
    "arkitscenes camera": lambda f: arkitscenes(f, "camera"),
    "arkitscenes color": lambda f: arkitscenes(f, "vga_wide"),
    "arkitscenes depth": lambda f: arkitscenes(f, "lowres_depth"),
    "scannetpp dslr": lambda f: scannetpp(f, "dslr"),
    "scannetpp color": lambda f: scannetpp(f, "rgb"),
    "scannetpp depth": lambda f: scannetpp(f, "depth"),
}
"""What lies -> writes it into a folder and says what to open."""

ACCEPTED: dict[str, Callable[[Path], Path]] = {
    "clip padded image": lambda f: clip(f, size=BIG, lie=padded_jpeg),
}
"""Likewise, but all there is fits together."""
