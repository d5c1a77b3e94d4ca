"""Surface normals of meshes and of bare points."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcdistill.geometry.checks import require_finite, require_shape
from pcdistill.geometry.neighbors import nearest_neighbors
from pcdistill.jit import njit

_CHUNK = 65536  # points whose neighbourhoods are held at a time


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit normals of mesh vertices: the mean of the adjacent faces' normals, weighted by area.

    Args:
        vertices: (N, 3) float, metres.
        faces: (F, 3) integer, vertex indices, counter-clockwise seen from outside.

    Returns:
        (N, 3) of the dtype of `vertices`; zero where no face (or only faces without area) touches.

    Raises:
        ValueError: wrong shape, or a face that names a vertex that is not there.
    """
    require_shape("vertices", vertices, None, 3)
    require_faces(faces, len(vertices))
    index = faces.long()
    corners = vertices.double()[index]  # (F, 3 corners, 3)
    doubled_area = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = torch.zeros((len(vertices), 3), dtype=torch.float64, device=vertices.device)
    normals.index_add_(0, index.flatten(), doubled_area.repeat_interleave(3, dim=0))
    length = torch.linalg.vector_norm(normals, dim=1, keepdim=True)
    return torch.where(length > 0, normals / length, 0.0).to(vertices.dtype)


def require_faces(faces: Tensor, vertices: int) -> None:
    """Check that faces are (F, 3) integer indices into `vertices` vertices.

    Raises:
        ValueError: they are not.
    """
    require_shape("faces", faces, None, 3)
    if faces.is_floating_point() or faces.is_complex():
        raise ValueError(f"faces have dtype {faces.dtype}, expected integer vertex indices")
    if len(faces):
        low, high = (int(value) for value in faces.aminmax())
        if low < 0 or high >= vertices:
            raise ValueError(
                f"faces name vertices {low} to {high}, expected 0 to {vertices - 1}: "
                "faces and vertices do not belong together"
            )


def estimate_normals(
    points: Tensor, neighbors: int = 16, viewpoint: Tensor | None = None
) -> Tensor:
    """Unit normals of bare points: the direction of least spread among their nearest neighbours.

    The sign is chosen towards the viewpoint where one is given. Otherwise it is carried from point
    to point along the spanning tree of most parallel neighbours, and each connected piece is
    turned so that it mostly faces the mean of all points, as the surfaces of a room do.

    Args:
        points: (N, 3) float, metres.
        neighbors: points in each neighbourhood, the point itself included; at least 3.
        viewpoint: (3,) or (N, 3) float, metres: where each point was seen from, or None.

    Returns:
        (N, 3) of the dtype and device of `points`. With fewer than three points: all (0, 0, 1).

    Raises:
        ValueError: wrong shape, a non-finite coordinate, or too few neighbours asked for.

    Source: Hoppe et al., Surface reconstruction from unorganized points, SIGGRAPH 1992, section 3.
    """
    require_shape("points", points, None, 3)
    require_finite("points", points)
    if neighbors < 3:
        raise ValueError(f"neighbors must be at least 3, got {neighbors}")
    if viewpoint is not None and viewpoint.dim() == 1:
        require_shape("viewpoint", viewpoint, 3)
    elif viewpoint is not None:
        require_shape("viewpoint", viewpoint, len(points), 3)
    count = len(points)
    if count < 3:
        upwards = torch.zeros_like(points)
        upwards[:, 2] = 1
        return upwards
    positions = points.detach().cpu().numpy().astype(np.float64)
    nearest = nearest_neighbors(positions, min(neighbors, count))
    normals = _directions_of_least_spread(positions, nearest)
    if viewpoint is not None:
        towards = viewpoint.detach().cpu().numpy().astype(np.float64) - positions
        away = np.einsum("ij,ij->i", normals, towards) < 0
        normals[away] *= -1
    else:
        _orient_along_tree(positions, normals, nearest)
    return torch.from_numpy(normals).to(device=points.device, dtype=points.dtype)


def _directions_of_least_spread(
    positions: NDArray[np.float64], nearest: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(N, 3) unit eigenvectors of the smallest eigenvalue of each neighbourhood's covariance."""
    normals = np.empty_like(positions)
    for start in range(0, len(positions), _CHUNK):
        stop = start + _CHUNK
        covariance = _covariances(positions, nearest[start:stop])
        normals[start:stop] = np.linalg.eigh(covariance)[1][:, :, 0]
    return normals


@njit()
def _covariances(positions, nearest):  # type: ignore[no-untyped-def]
    """(n, 3, 3) covariance of each row of neighbours."""
    rows, count = nearest.shape
    covariance = np.empty((rows, 3, 3))
    mean = np.empty(3)
    for row in range(rows):
        mean[:] = 0.0
        for column in range(count):
            mean += positions[nearest[row, column]]
        mean /= count
        for i in range(3):
            for j in range(i, 3):
                total = 0.0
                for column in range(count):
                    point = nearest[row, column]
                    total += (positions[point, i] - mean[i]) * (positions[point, j] - mean[j])
                covariance[row, i, j] = total / count
                covariance[row, j, i] = total / count
    return covariance


def _orient_along_tree(
    positions: NDArray[np.float64], normals: NDArray[np.float64], nearest: NDArray[np.int64]
) -> None:
    """Give neighbouring normals like signs, in place."""
    sources = np.repeat(np.arange(len(positions)), nearest.shape[1])
    targets = nearest.ravel()
    bend = 1.0 - np.abs(np.einsum("ij,ij->i", normals[sources], normals[targets]))
    _propagate_signs(
        normals, sources, targets, np.argsort(bend, kind="stable"), positions.mean(0) - positions
    )


@njit()
def _propagate_signs(normals, sources, targets, order, inwards):  # type: ignore[no-untyped-def]
    """Kruskal's spanning forest that tracks each point's sign relative to its root."""
    count = len(normals)
    parent = np.arange(count)
    flipped = np.zeros(count, np.bool_)  # relative to the parent
    size = np.ones(count, np.int64)
    for edge in order:
        a, b = sources[edge], targets[edge]
        sign_a = False
        while parent[a] != a:
            sign_a ^= flipped[a]
            a = parent[a]
        sign_b = False
        while parent[b] != b:
            sign_b ^= flipped[b]
            b = parent[b]
        if a == b:
            continue
        opposed = np.dot(normals[sources[edge]], normals[targets[edge]]) < 0
        if size[a] < size[b]:
            a, b = b, a
        parent[b] = a
        flipped[b] = sign_a ^ sign_b ^ opposed
        size[a] += size[b]
    facing = np.zeros(count)
    root_of = np.empty(count, np.int64)
    for point in range(count):
        sign = False
        root = point
        while parent[root] != root:
            sign ^= flipped[root]
            root = parent[root]
        root_of[point] = root
        if sign:
            normals[point] *= -1.0
        facing[root] += np.dot(normals[point], inwards[point])
    for point in range(count):
        if facing[root_of[point]] < 0:
            normals[point] *= -1.0
