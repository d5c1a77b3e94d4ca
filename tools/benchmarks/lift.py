"""Lifting features onto 100,000 points: time, memory and disk, against the plain way in numpy.

The plain way does what the published preprocessing does for every image: project all points, round,
test for occlusion, upsample the feature map to the image, index it at all points, and add it to a
float32 table with a counter. It is written here anew in numpy. Both sides get the same points,
frames and feature map (one for all frames; no network is timed) and run in a process of their
own with the same number of threads; memory is what the peak of the process rises by over what
it was after imports and reading the inputs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from pcdistill.scenes import Scene

DEPTH_TOLERANCE, BORDER = 0.05, 10
SIDES = ("plain", "ours")
TOOLS = Path(__file__).resolve().parents[1]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--frames", type=int, default=80, help="ScanNet has 80 a scan")
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--image-size", type=int, nargs=2, default=(240, 320), help="H W")
    parser.add_argument("--map-size", type=int, nargs=2, default=(120, 160), help="h w")
    parser.add_argument("--rounds", type=int, default=3, help="times that each side is measured")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seed", type=int, default=0, help="of the home")
    parser.add_argument("--scan", type=Path, help="scan with a mesh, for the disk; default: a home")
    parser.set_defaults(vertices=100_000, mesh=None)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure both sides in turn and compare what they found."""
    from pcdistill.homes import home_scene

    size = tuple(arguments.image_size)
    home = home_scene(arguments.seed, "validation", frames=arguments.frames, image_size=size)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_inputs(folder, home, arguments)
        measured: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
        for _ in range(arguments.rounds):
            for side in SIDES:
                measured[side].append(measure(folder, side, arguments.threads))
                print(json.dumps({"side": side, **measured[side][-1]}), flush=True)
        difference = compare(folder)
        disk = disk_use(folder, scanned(home, arguments), arguments)
    middle = {
        side: {key: statistics.median(m[key] for m in measured[side]) for key in measured[side][0]}
        for side in SIDES
    }
    plain, ours = middle["plain"], middle["ours"]
    return {
        "lift_speedup": round(plain["seconds_per_frame"] / ours["seconds_per_frame"], 2),
        "lift_memory_ratio": round(ours["peak_mib"] / plain["peak_mib"], 4),
        "lift_process_ratio": round(ours["process_mib"] / plain["process_mib"], 4),
        "disk_ratio": round(disk["small_bytes"] / disk["large_bytes"], 5),
        "largest_difference": difference,
        **{
            f"{side}_{key}": round(value, 5)
            for side in SIDES
            for key, value in middle[side].items()
        },
        **disk,
        "points": arguments.points,
        "frames": arguments.frames,
        "dimensions": arguments.dimensions,
        "image_size": list(arguments.image_size),
        "map_size": list(arguments.map_size),
        "threads": arguments.threads,
    }


def write_inputs(folder: Path, scene: Scene, arguments: argparse.Namespace) -> None:
    """Write points, cameras and depth of a home, and a feature map of noise.

    Args:
        folder: where `inputs.npz` is written.
        scene: the home.
        arguments: of the command line.
    """
    from .scan_parts import depth_of, faces_of

    generator = np.random.default_rng(arguments.seed)
    shape = (arguments.dimensions, *arguments.map_size)
    np.savez(
        folder / "inputs.npz",
        points=points_on(
            scene.points.numpy(), faces_of(scene).numpy(), arguments.points, generator
        ),
        poses=np.stack([frame.camera_to_world.numpy() for frame in scene.frames]),
        intrinsics=np.stack([frame.intrinsics.numpy() for frame in scene.frames]),
        depth=np.stack([depth_of(frame).numpy() for frame in scene.frames]),
        feature_map=generator.standard_normal(shape, dtype=np.float32).astype(np.float16),
    )


def points_on(
    vertices: np.ndarray, faces: np.ndarray, count: int, generator: np.random.Generator
) -> np.ndarray:
    """(count, 3) float32: random points on a mesh, in the order of its faces.

    Args:
        vertices: (N, 3) float, metres.
        faces: (F, 3) int.
        count: of the points.
        generator: draws them.
    """
    a, b, c = vertices[faces].swapaxes(0, 1).astype(np.float64)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    face = np.sort(generator.choice(len(faces), count, p=area / area.sum()))
    u, v = generator.random((2, count, 1))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    points: np.ndarray = a[face] + u * (b - a)[face] + v * (c - a)[face]
    return points.astype(np.float32)


def measure(folder: Path, side: str, threads: int) -> dict[str, float]:
    """Measure one side in a process of its own.

    Args:
        folder: of the inputs.
        side: one of `SIDES`.
        threads: of the process.
    """
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join(
            [str(TOOLS), str(TOOLS.parent), os.environ.get("PYTHONPATH", "")]
        ),
    }
    command = [sys.executable, "-m", "benchmarks.lift", str(folder), side]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def compare(folder: Path) -> float:
    """Largest difference of the features; fails where the two sides saw different points."""
    plain, ours = (np.load(folder / f"{side}.npz") for side in SIDES)
    if not np.array_equal(plain["seen"], ours["seen"]):
        raise SystemExit("the two sides saw different points, so their times say nothing")
    return float(np.abs(plain["features"].astype(np.float32) - ours["features"]).max())


def scanned(home: Scene, arguments: argparse.Namespace) -> Scene:
    """The scan that is asked for, or a mesh of 100,000 vertices with the frames of a home."""
    from pcdistill.scenes import Scene, open_scene

    from .partition import mesh

    if arguments.scan is not None:
        scan = open_scene(arguments.scan)
        if scan.faces is None:
            raise SystemExit(f"{arguments.scan}: has no mesh; give a scan with one")
        return scan
    points, faces = mesh(arguments)
    return Scene(home.name, points, faces=faces, frames=home.frames)


def disk_use(folder: Path, scene: Scene, arguments: argparse.Namespace) -> dict[str, float]:
    """Bytes of one scene's fused features: as published per point, and as stored by default.

    The small form counts the superpoint ids too; the large one is the features of the points that
    some frame sees, in half precision, and their mask.

    Args:
        folder: to write to.
        scene: a scan with a mesh.
        arguments: of the command line.
    """
    from pcdistill.artifacts.superpoints import compact_ids
    from pcdistill.geometry import mesh_superpoints
    from pcdistill.lifting.lift_scene import count_views
    from pcdistill.lifting.projector import ProjectionRules
    from pcdistill.pipeline.artifact_files import write_tensors

    from .partition import timed
    from .scan_parts import faces_of

    points, faces = scene.points, faces_of(scene)
    mesh_superpoints(points[:100], faces[:0])  # compiled at first use
    seconds, ids = timed(arguments.rounds, lambda: mesh_superpoints(points, faces))
    rules = ProjectionRules(DEPTH_TOLERANCE, BORDER)
    seen = count_views(scene, rules, lambda done, total, words: None) > 0
    large = folder / "large.pt"
    feature = torch.zeros(int(seen.sum()), arguments.dimensions, dtype=torch.float16)
    torch.save({"feat": feature, "mask_full": seen}, large)
    superpoints = int(ids.max()) + 1
    means = torch.zeros(superpoints, arguments.dimensions, dtype=torch.float16)
    small = {
        "superpoint_means": means,
        "superpoint_seen": torch.ones(superpoints, dtype=torch.uint8),
        "seen_bits": torch.from_numpy(np.packbits(seen.numpy())),
    }
    write_tensors(folder / "small.safetensors", small, {})
    write_tensors(folder / "ids.safetensors", {"superpoint_ids": compact_ids(ids)}, {})
    written = [folder / "small.safetensors", folder / "ids.safetensors"]
    return {
        "partition_seconds": round(seconds, 4),
        "disk_points": len(points),
        "disk_seen_points": int(seen.sum()),
        "disk_superpoints": superpoints,
        "small_bytes": sum(path.stat().st_size for path in written),
        "large_bytes": large.stat().st_size,
    }


def lift_plainly(inputs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The published loop: (M, D) float16 features and (M,) seen points, with all of its tables."""
    points, feature_map = inputs["points"], torch.from_numpy(inputs["feature_map"])
    count, dimensions, frames = len(points), feature_map.shape[0], len(inputs["poses"])
    height, width = inputs["depth"].shape[1:]
    counter = np.zeros((count, 1), np.float32)
    sums = np.zeros((count, dimensions), np.float32)
    seen_in = np.zeros((count, frames), np.int64)
    for frame in range(frames):
        matrix, depth = inputs["intrinsics"][frame], inputs["depth"][frame]
        homogeneous = np.concatenate([points, np.ones((count, 1))], axis=1)
        x, y, z, _ = np.linalg.inv(inputs["poses"][frame]) @ homogeneous.T
        with np.errstate(all="ignore"):
            column = np.round(x * matrix[0, 0] / z + matrix[0, 2])
            row = np.round(y * matrix[1, 1] / z + matrix[1, 2])
        inside = (column >= BORDER) & (row >= BORDER) & (z > 0)
        inside &= (column < width - BORDER) & (row < height - BORDER)
        column = np.where(inside, column, 0).astype(int)
        row = np.where(inside, row, 0).astype(int)
        measured = depth[row[inside], column[inside]]
        inside[inside] = np.abs(measured - z[inside]) <= DEPTH_TOLERANCE * measured
        mapping = np.stack([row * inside, column * inside, inside.astype(int)], axis=1)
        if mapping[:, 2].sum() == 0:
            continue
        mask = mapping[:, 2] != 0
        seen_in[:, frame] = mapping[:, 2]
        upsampled = torch.nn.functional.interpolate(
            feature_map[None].float(), (height, width), mode="bilinear"
        )[0].numpy()  # (D, H, W)
        at_points = upsampled[:, mapping[:, 0], mapping[:, 1]].T  # (N, D)
        counter[mask] += 1
        sums[mask] += at_points[mask]
    counter[counter == 0] = 1e-5
    mean = sums / counter
    seen = np.flatnonzero(seen_in.any(axis=1))
    return mean[seen].astype(np.float16), seen


def lift_ours(inputs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The same with the library: (M, D) float16 features and (M,) seen points."""
    from pcdistill.fusion import MultiViewAccumulator
    from pcdistill.geometry import PointGrid

    points = torch.from_numpy(inputs["points"])
    feature_map = torch.from_numpy(inputs["feature_map"])
    image_size = inputs["depth"].shape[1:]
    grid = PointGrid(points)
    accumulator = MultiViewAccumulator(len(points), feature_map.shape[0])
    for frame, pose in enumerate(inputs["poses"]):
        found = grid.visible_from(
            torch.from_numpy(pose),
            torch.from_numpy(inputs["intrinsics"][frame]),
            image_size,
            torch.from_numpy(inputs["depth"][frame]),
            depth_tolerance=DEPTH_TOLERANCE,
            border=BORDER,
        )
        accumulator.add_map(*found, feature_map, image_size)
    features, seen = accumulator.finish()
    return features.numpy(), seen.numpy()


def peak_mib() -> float:
    """Largest memory of this process so far (what `getrusage` says counts the parent's too)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 2**10


def work(folder: Path, side: str) -> dict[str, float]:
    """Measure one side; what it found goes into a file."""
    lift = {"plain": lift_plainly, "ours": lift_ours}[side]
    with np.load(folder / "inputs.npz") as archive:
        inputs = {key: archive[key] for key in archive.files}
    few = {key: value[:2] for key, value in inputs.items()}
    few["points"], few["feature_map"] = inputs["points"][:500], inputs["feature_map"][:8]
    lift(few)  # imports, and whatever is compiled at first use
    before = peak_mib()
    begin, cpu = time.perf_counter(), time.process_time()
    features, seen = lift(inputs)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    peak = peak_mib()
    np.savez(folder / f"{side}.npz", features=features[::25], seen=seen)
    return {
        "seconds_per_frame": seconds / len(inputs["poses"]),
        "cpu_seconds_per_frame": cpu / len(inputs["poses"]),
        "peak_mib": peak - before,
        "process_mib": peak,
        "seen_points": len(seen),
    }


if __name__ == "__main__":
    print(json.dumps(work(Path(sys.argv[1]), sys.argv[2])))
