"""Every 20th frame of a long .sens file: bytes, time and memory, against decoding all of it.

Two ScanNet scans are written, one long and one a tenth as long: a box-shaped room seen from a walk
through it, 320 x 240 JPEG colour and zlib depth with noise. Some images are made and then repeated.
Each measurement opens its scan through the public `open_scene` in a process of its own and asks
every frame it gives for image and depth; opening and its checks are inside. Bytes are those the
process asked the kernel for, from disk or its cache. Memory is what the peak rises by while it
reads, above that of a first, short scan, which loads what is loaded once.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from .lift import peak_mib

TOOLS = Path(__file__).resolve().parents[1]
ROOM = np.array([5.0, 4.0, 2.5])  # metres; one corner is the origin, z is up
SIZE = (240, 320)  # (H, W)
FOCAL = 290.0
STEP = 20
DIFFERENT = 40  # images that are made; longer scans repeat them
WARM = 40  # frames of the scan that is read first


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--frames", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3, help="times that each side is measured")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Read every 20th frame and all of them, in turn, and a scan a tenth as long."""
    short = max(arguments.frames // 10, STEP)
    if arguments.frames < 2 * STEP:
        raise SystemExit(f"--frames is {arguments.frames}, expected at least {2 * STEP}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = make_images()
        long_scan = write_scan(folder / "long", arguments.frames, images)
        short_scan = write_scan(folder / "short", short, images)
        write_scan(folder / "warm", WARM, images)
        sides = {"step": (long_scan, STEP), "all": (long_scan, 1), "short": (short_scan, STEP)}
        measured: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
        for _ in range(arguments.rounds):
            for side, (scan, step) in sides.items():
                measured[side].append(measure(folder / "warm", scan, step))
                print(json.dumps({"side": side, **measured[side][-1]}), flush=True)
        size = next(long_scan.glob("*.sens")).stat().st_size
    middle = {
        side: {key: statistics.median(found[key] for found in rounds) for key in rounds[0]}
        for side, rounds in measured.items()
    }
    some, everything = middle["step"], middle["all"]
    return {
        "bytes_ratio": round(some["bytes"] / everything["bytes"], 4),
        "time_ratio": round(some["seconds"] / everything["seconds"], 4),
        f"memory_mb_{short}": round(middle["short"]["peak_mib"], 1),
        f"memory_mb_{arguments.frames}": round(some["peak_mib"], 1),
        "memory_mb_all": round(everything["peak_mib"], 1),
        "frames": arguments.frames,
        "frames_read": some["frames"],
        "frame_step": STEP,
        "seconds": round(some["seconds"], 3),
        "seconds_all": round(everything["seconds"], 3),
        "file_bytes": size,
        "bytes": some["bytes"],
        "bytes_all": everything["bytes"],
    }


def measure(warm: Path, scan: Path, step: int) -> dict[str, float]:
    """Measure one way of reading one scan, in a process of its own.

    Args:
        warm: folder of the scan that is read first.
        scan: folder of the scan that is measured.
        step: frames from one that is read to the next.
    """
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(
            [str(TOOLS), str(TOOLS.parent), os.environ.get("PYTHONPATH", "")]
        ),
    }
    command = [sys.executable, "-m", "benchmarks.sens", str(warm), str(scan), str(step)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def work(warm: Path, scan: Path, step: int) -> dict[str, float]:
    """Read one scan and measure time, bytes and memory.

    Args:
        warm: scan that is read first, which costs what only the first of a process does.
        scan: what is measured.
        step: frames from one that is read to the next.
    """
    read_frames(warm, 1)
    memory, bytes_before = peak_mib(), bytes_read()
    begin = time.perf_counter()
    frames = read_frames(scan, step)
    seconds = time.perf_counter() - begin
    return {
        "seconds": seconds,
        "bytes": bytes_read() - bytes_before,
        "peak_mib": peak_mib() - memory,
        "frames": frames,
    }


def read_frames(scan: Path, step: int) -> int:
    """Decode what `open_scene` gives; how many frames that were."""
    from pcdistill.scenes import open_scene

    scene = open_scene(scan, frame_step=step)
    for frame in scene.frames:
        frame.image()
        frame.depth()
    return len(scene.frames)


def bytes_read() -> int:
    """Bytes that this process has asked the kernel for so far, from disk or from its cache."""
    return int(Path("/proc/self/io").read_text().split("rchar:")[1].split()[0])


def make_images() -> list[tuple[np.ndarray, bytes, bytes]]:
    """Pose (4, 4), JPEG colour and zlib depth of a walk through the room, with noise."""
    from PIL import Image

    generator = np.random.default_rng(0)
    images = []
    for turn in np.linspace(0, 2 * np.pi, DIFFERENT, endpoint=False):
        pose, depth, places = look_around(turn)
        counts = np.rint(depth * 1000 + generator.normal(0, 4, SIZE)).astype("<u2")
        pattern = 128 + 60 * np.sin(9 * places) + generator.normal(0, 3, (*SIZE, 3))
        stream = io.BytesIO()
        Image.fromarray(np.clip(pattern, 0, 255).astype(np.uint8)).save(stream, "JPEG", quality=90)
        images.append((pose, stream.getvalue(), zlib.compress(counts.tobytes())))
    return images


def look_around(turn: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Camera-to-world (4, 4), depth (H, W) and seen places (H, W, 3), metres, of one view."""
    pose = np.eye(4)
    forward = np.array([np.cos(2 * turn), np.sin(2 * turn), -0.3])
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    pose[:3, 3] = 2.3 + 0.8 * np.cos(turn), 2.1 + 0.8 * np.sin(turn), 1.4
    v, u = np.mgrid[: SIZE[0], : SIZE[1]]
    rays = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(camera()).T
    rays = rays @ pose[:3, :3].T
    rays[rays == 0] = 1e-12  # along a wall, which it never meets
    depth = (np.where(rays > 0, ROOM - pose[:3, 3], -pose[:3, 3]) / rays).min(axis=-1)
    return pose, depth, pose[:3, 3] + rays * depth[..., None]


def camera() -> np.ndarray:
    """(3, 3) matrix, pixels, of colour and depth."""
    return np.array([[FOCAL, 0, SIZE[1] / 2], [0, FOCAL, SIZE[0] / 2], [0, 0, 1]])


def write_scan(folder: Path, frames: int, images: list[tuple[np.ndarray, bytes, bytes]]) -> Path:
    """Write a .sens file and the mesh of the room; returns the folder.

    Args:
        folder: to create.
        frames: of the file.
        images: pose (4, 4), JPEG colour and zlib depth each, repeated as often as needed.
    """
    import torch

    from pcdistill.scenes import write_ply

    folder.mkdir(parents=True)
    matrix = np.eye(4, dtype="<f4")
    matrix[:3, :3] = camera()
    rig = np.eye(4, dtype="<f4").tobytes()
    with (folder / f"{folder.name}.sens").open("wb") as stream:
        stream.write(struct.pack("<IQ", 4, 4) + b"room")
        stream.write((matrix.tobytes() + rig) * 2)
        stream.write(struct.pack("<2i4If", 2, 1, SIZE[1], SIZE[0], SIZE[1], SIZE[0], 1000.0))
        stream.write(struct.pack("<Q", frames))
        for number in range(frames):
            pose, color, depth = images[number % len(images)]
            stream.write(pose.astype("<f4").tobytes())
            times = 33_333 * number
            stream.write(struct.pack("<4Q", times, times, len(color), len(depth)) + color + depth)
        stream.write(struct.pack("<Q", 0))
    write_ply(folder / f"{folder.name}_vh_clean_2.ply", torch.from_numpy(walls()))
    return folder


def walls(spacing: float = 0.1) -> np.ndarray:
    """(N, 3) points on the six sides of the room."""
    sides = []
    for axis in range(3):
        others = [i for i in range(3) if i != axis]
        grid = np.meshgrid(*(np.arange(0, ROOM[i], spacing) for i in others))
        for end in (0.0, ROOM[axis]):
            side = np.full((grid[0].size, 3), end)
            side[:, others] = np.stack(grid, axis=-1).reshape(-1, 2)
            sides.append(side)
    return np.concatenate(sides)


if __name__ == "__main__":
    print(json.dumps(work(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))))
