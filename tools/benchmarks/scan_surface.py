"""Statistics of a scan's surface: density, holes, roughness where it is flat, superpoints."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from torch import Tensor

from pcdistill.geometry import (
    ThinnedTree,
    mesh_superpoints,
    superpoint_statistics,
    vertex_normals,
    weld_faces,
)
from pcdistill.labels import IGNORE_LABEL
from pcdistill.pipeline.config import PartitionConfig
from pcdistill.scenes import Scene
from pcdistill.stages.partition import partition_scene

from .scan_parts import faces_of

RADIUS = 0.10
"""Metres around a place within which it is asked to be flat: the same for every resolution."""
FLATNESS = 0.02
"""Largest ratio of the variance across a flat place to that along it: 7 mm across 10 cm."""
SEGMENT_THRESHOLD, SEGMENT_SIZE = 0.01, 20
"""Defaults of ScanNet's segmentator, on whose segments ScanNet's labels are painted."""
_LEAST_SPREAD = 0.2  # of the shorter to the longer variance: no strips
_PLACES = 4000  # sampled vertices, enough for a quantile to a percent
_LEAST = 8  # neighbours that a plane is fitted to
_NO_INSTANCE = -1

Statistics = dict[str, float]


def surface_statistics(scene: Scene) -> Statistics:
    """Density, spacing, holes and pieces of a scan with a mesh."""
    faces = weld_faces(scene.points, faces_of(scene))
    area = float(face_areas(scene.points, faces).sum())
    used = torch.unique(faces)
    edges, borders = edges_and_borders(faces)
    ends = scene.points.double()[edges]
    length = torch.linalg.vector_norm(ends[:, 0] - ends[:, 1], dim=1)
    positions = scene.points[used].double().numpy()
    nearest = ThinnedTree(positions, 2).nearest(positions, 2)[0][:, 1]
    sizes = piece_sizes(edges, used)
    found = {
        "points": len(used),
        "area": area,
        "density": len(used) / area,
        "spacing": 1000 * float(np.median(nearest)),
        "edge": 1000 * float(length.median()),
        "holes": float(length[borders].sum()) / area,
        "hole_edges": int(borders.sum()) / area,
        "pieces": len(sizes) / area,
        "largest_piece": 100 * int(sizes.max()) / len(used),
    }
    if scene.colors is not None:
        gray = scene.colors.double().mean(dim=1)
        found["color_step"] = float((gray[edges[:, 0]] - gray[edges[:, 1]]).abs().median())
    return found | flat_statistics(scene, used, edges)


def face_areas(points: Tensor, faces: Tensor) -> Tensor:
    """(F,) float64, m2."""
    a, b, c = points.double()[faces].unbind(1)
    doubled: Tensor = torch.linalg.vector_norm(torch.linalg.cross(b - a, c - a), dim=1)
    return doubled / 2


def edges_and_borders(faces: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct edges (E, 2) of triangles, and which of them (E,) bool only one face has."""
    pairs = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).sort(dim=1).values
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    keys, times = torch.unique(pairs[:, 0] << 32 | pairs[:, 1], return_counts=True)
    return torch.stack([keys >> 32, keys & 0xFFFFFFFF], dim=1), times == 1


def piece_sizes(edges: Tensor, used: Tensor) -> np.ndarray:
    """Vertices of each connected piece of those that edges use."""
    a, b = edges.numpy().T
    count = int(used.max()) + 1
    graph = coo_matrix((np.ones(len(a), np.int8), (a, b)), shape=(count, count))
    labels = connected_components(graph, directed=False)[1][used.numpy()]
    return np.unique(labels, return_counts=True)[1]


def flat_statistics(scene: Scene, used: Tensor, edges: Tensor) -> Statistics:
    """Roughness of flat places, and how far normals there are from those of fitted planes.

    Args:
        scene: a scan with a mesh.
        used: (M,) vertices that faces use.
        edges: (E, 2) of the mesh.
    """
    positions = scene.points[used].double().numpy()
    chosen = np.random.default_rng(0).permutation(len(used))[:_PLACES]
    around = cKDTree(positions).query_ball_point(positions[chosen], RADIUS)
    planes, roughness, flat = fit_planes(positions, around)
    where = used[torch.from_numpy(chosen[flat])]
    of_mesh = vertex_normals(scene.points, weld_faces(scene.points, faces_of(scene))).double()
    own = of_mesh if scene.normals is None else scene.normals.double()
    is_flat = torch.zeros(len(scene.points), dtype=torch.bool)
    is_flat[where] = True
    a, b = edges[is_flat[edges].any(dim=1)].T
    samples = {
        "roughness": 1000 * roughness[flat],
        "normal_noise": angles(own[where], torch.from_numpy(planes[flat])),
        "mesh_normal_noise": angles(of_mesh[where], torch.from_numpy(planes[flat])),
        "bend": angles(of_mesh[a], of_mesh[b]),
    }
    found = {"flat": 100 * float(flat.mean())}
    for name, values in samples.items():
        if len(values):
            found[name] = float(np.median(values))
            found[f"{name}_90"] = float(np.quantile(values, 0.9))
    return found


def fit_planes(
    positions: np.ndarray, around: list[list[int]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Planes of least squares through neighbourhoods.

    Args:
        positions: (N, 3) float64, metres.
        around: indices of the points of each of P neighbourhoods.

    Returns:
        normals: (P, 3) unit.
        roughness: (P,) metres, root mean square of the distances from the plane.
        flat: (P,) bool: spread out in two directions, and by far less in the third.
    """
    normals, roughness = np.zeros((len(around), 3)), np.zeros(len(around))
    flat = np.zeros(len(around), bool)
    for row, members in enumerate(around):
        if len(members) < _LEAST:
            continue
        local = positions[members] - positions[members].mean(axis=0)
        # a plane takes three degrees of freedom
        variance, axes = np.linalg.eigh(local.T @ local / (len(members) - 3))
        normals[row] = axes[:, 0]
        roughness[row] = np.sqrt(max(variance[0], 0))
        flat[row] = variance[0] < FLATNESS * variance[1] and variance[1] > (
            _LEAST_SPREAD * variance[2]
        )
    return normals, roughness, flat


def angles(first: Tensor, second: Tensor) -> np.ndarray:
    """(P,) degrees between lines along unit vectors (P, 3) and (P, 3); 90 where one is zero."""
    cosine = (first * second).sum(dim=1).abs()
    return torch.rad2deg(torch.arccos(cosine.clamp(max=1))).numpy()


def scan_superpoint_statistics(scene: Scene) -> Statistics:
    """Sizes of the superpoints of the default partition, and how well they keep things apart."""
    ids, edges, _ = partition_scene(scene, PartitionConfig(method="mesh"))
    faces = faces_of(scene)
    areas = face_areas(scene.points, faces)
    fraction = torch.zeros(len(ids), dtype=torch.float64)
    fraction.index_add_(0, faces.flatten(), areas.repeat_interleave(3) / 3)
    members = torch.bincount(ids.long()).double()
    extent = torch.zeros_like(members).index_add_(0, ids.long(), fraction)
    found = {
        "superpoints": 1000 * len(members) / len(ids),
        "superpoints_per_m2": len(members) / float(areas.sum()),
        "size": float(members.median()),
        "size_mean": float(members.mean()),
        "extent": float(extent.median()),
        "extent_mean": float(extent.mean()),
    }
    segments = mesh_superpoints(
        scene.points, faces, threshold=SEGMENT_THRESHOLD, min_size=SEGMENT_SIZE
    ).long()
    for kind, truth, unknown in (
        ("label", scene.labels, IGNORE_LABEL),
        ("instance", scene.instances, _NO_INSTANCE),
    ):
        if truth is None or not bool((truth != unknown).any()):
            continue
        for prefix, answers in (("", truth), ("painted_", painted(segments, truth))):
            fidelity = superpoint_statistics(ids, edges, answers, ignore_label=unknown).labels
            if fidelity is None:
                continue
            found |= {
                f"{prefix}{kind}_{name}": 100 * value
                for name, value in fidelity._asdict().items()
                if value is not None
            }
    return found


def painted(segments: Tensor, truth: Tensor) -> Tensor:
    """(N,) what most points of each one's segment (N,) are, as ScanNet's annotators gave labels."""
    values, index = torch.unique(truth, return_inverse=True)
    votes = torch.bincount(
        segments * len(values) + index, minlength=(int(segments.max()) + 1) * len(values)
    )
    most: Tensor = values[votes.view(-1, len(values)).argmax(dim=1)]
    return most[segments]
