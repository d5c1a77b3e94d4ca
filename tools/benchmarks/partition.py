"""Superpoints of a mesh of 100,000 vertices: time, against plain Python or a compiled segmentator.

The plain side is the same rule written edge by edge in Python. Where `--segmentator` names the
binary that ScanNet publishes (build it from its Segmentator folder), that is timed too. It reads
a mesh file and writes its answer, so its time on a mesh of as many faces, all of them the same
one, is taken off; with it goes some of its work, so the ratio errs in its favour.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

THRESHOLD, MIN_SIZE = 0.01, 60

Result = TypeVar("Result")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--vertices", type=int, default=100_000, help="at least")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0, help="of the home")
    parser.add_argument("--mesh", type=Path, help="PLY of a mesh in place of the home's")
    parser.add_argument("--segmentator", type=Path, help="ScanNet's compiled segmentator")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time all sides and compare their partitions."""
    from pcdistill.geometry import mesh_superpoints, point_superpoints, vertex_normals

    points, faces = mesh(arguments)
    mesh_superpoints(points[:100], faces[:0])  # compiled at first use
    seconds, ids = timed(
        arguments.rounds,
        lambda: mesh_superpoints(points, faces, threshold=THRESHOLD, min_size=MIN_SIZE),
    )
    begin = time.perf_counter()
    plain = segment_plainly(points.numpy(), faces.numpy())
    plain_seconds = time.perf_counter() - begin
    result = {
        "partition_seconds": round(seconds, 4),
        "partition_speedup_over_plain_python": round(plain_seconds / seconds, 1),
        "plain_python_seconds": round(plain_seconds, 3),
        "same_partition_as_plain_python": same(ids.numpy(), plain),
        "vertices": len(points),
        "faces": len(faces),
        "superpoints": int(ids.max()) + 1,
    }
    normals = vertex_normals(points, faces)
    cloud_seconds, _ = timed(
        1, lambda: point_superpoints(points, normals, threshold=THRESHOLD, min_size=MIN_SIZE)
    )
    result["cloud_seconds"] = round(cloud_seconds, 4)
    if arguments.segmentator is not None:
        compiled, found = run_segmentator(arguments.segmentator, points, faces, arguments.rounds)
        result["compiled_seconds"] = round(compiled, 4)
        result["partition_speedup"] = round(compiled / seconds, 2)
        result["same_partition_as_compiled"] = same(ids.numpy(), found)
    print(json.dumps(result, indent=1))
    return result


def mesh(arguments: argparse.Namespace) -> tuple[torch.Tensor, torch.Tensor]:
    """Vertices (N, 3) float32 and faces (F, 3) int64."""
    from pcdistill.homes import build_home, scan_mesh
    from pcdistill.scenes import read_ply

    if arguments.mesh is not None:
        ply = read_ply(arguments.mesh)
        if ply.faces is None:
            raise SystemExit(f"{arguments.mesh}: has no faces, expected a mesh; give one")
        return ply.points, ply.faces
    surface, spacing = build_home(arguments.seed, "validation").surface, 0.12
    found = scan_mesh(surface, spacing)
    while len(found.points) < arguments.vertices:
        spacing *= 0.9
        found = scan_mesh(surface, spacing)
    noise = torch.randn(found.points.shape, generator=torch.Generator().manual_seed(0))
    return (found.points + 0.004 * noise).float(), found.faces


def timed(rounds: int, work: Callable[[], Result]) -> tuple[float, Result]:
    """Measure the median seconds of a function; returns them and the last result."""
    seconds = []
    for _ in range(rounds):
        begin = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds), result


def same(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two labellings agree up to renaming."""
    pairs = len(np.unique(np.stack([first, second], axis=1), axis=0))
    return pairs == len(np.unique(first)) == len(np.unique(second))


def segment_plainly(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Felzenszwalb-Huttenlocher over the edges of the mesh, one edge at a time: (N,) int64."""
    count = len(points)
    corners = points[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    normal = (normal / np.where(length > 0, length, 1)).astype(np.float32)
    normals, seen = np.zeros((count, 3), np.float32), np.zeros(count, np.int64)
    for number, face in enumerate(faces):
        if length[number] == 0:
            continue
        for vertex in face:
            fraction = np.float32(1) / np.float32(seen[vertex] + 1)
            normals[vertex] = fraction * normal[number] + (1 - fraction) * normals[vertex]
            seen[vertex] += 1
    edges = faces[:, [0, 1, 0, 2, 2, 1]].reshape(-1, 2)
    a, b = edges.T
    way = points[b] - points[a]
    way /= np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-30)
    weights = 1 - (normals[a] * normals[b]).sum(axis=1)
    weights = np.where((normals[b] * way).sum(axis=1) > 0, weights**2, weights)
    order = np.argsort(weights, kind="stable").tolist()
    parent, size = list(range(count)), [1] * count
    limit = [THRESHOLD] * count

    def find(vertex: int) -> int:
        while parent[vertex] != vertex:
            parent[vertex] = parent[parent[vertex]]
            vertex = parent[vertex]
        return vertex

    def join(one: int, other: int) -> int:
        if size[one] < size[other]:
            one, other = other, one
        parent[other] = one
        size[one] += size[other]
        return one

    pairs, values = edges.tolist(), weights.tolist()
    for edge in order:
        one, other = (find(vertex) for vertex in pairs[edge])
        if one != other and values[edge] <= min(limit[one], limit[other]):
            root = join(one, other)
            limit[root] = values[edge] + THRESHOLD / size[root]
    for edge in order:
        one, other = (find(vertex) for vertex in pairs[edge])
        if one != other and min(size[one], size[other]) < MIN_SIZE:
            join(one, other)
    return np.array([find(vertex) for vertex in range(count)])


def run_segmentator(
    binary: Path, points: torch.Tensor, faces: torch.Tensor, rounds: int
) -> tuple[float, np.ndarray]:
    """Median seconds of the compiled segmentator without reading and writing, and its ids.

    Args:
        binary: ScanNet's segmentator.
        points: (N, 3) float32, metres.
        faces: (F, 3) int64.
        rounds: times that it is run.
    """
    from pcdistill.scenes import write_ply

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole, one = folder / "mesh.ply", folder / "same.ply"
        write_ply(whole, points, faces=faces)
        write_ply(one, points, faces=faces[:1].expand_as(faces).contiguous())
        seconds = []
        for file in (whole, one):
            command = [str(binary.resolve()), str(file), str(THRESHOLD), str(MIN_SIZE)]
            once = partial(subprocess.run, command, check=True, capture_output=True)
            taken, _ = timed(rounds, once)
            seconds.append(taken)
        answer = json.loads(next(folder.glob("mesh*.json")).read_text())
        return max(seconds[0] - seconds[1], math.ulp(1.0)), np.array(answer["segIndices"])
