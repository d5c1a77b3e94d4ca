"""Superpoints: graph-based segmentation (Felzenszwalb and Huttenlocher) over normals.

The method is the graph segmentation of Felzenszwalb & Huttenlocher (IJCV 2004) with the edge
weights of ScanNet's mesh segmentator. An edge from a to b weighs ``1 - n_a . n_b``, squared if the
surface bends outwards there (``n_b . (p_b - p_a) > 0``), so that creases between things part more
easily than edges of one thing. Edges are visited from light to heavy; two components merge when
the edge is not heavier than either one's threshold, which afterwards is ``weight + threshold /
size``. A second pass over the edges joins every component below the minimum size to a neighbour.
Where colours are given, an edge weighs ``color_weight`` times the squared distance of the two
colours more, in units of the distance from black to white.

Choices where the release leaves the result to chance: equal weights keep the order of the edges
(the release sorts unstably), a superpoint's id is the rank of its lowest point index, faces without
area and edges without length count as no evidence (the release lets NaN spread from them).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcdistill.geometry.checks import require_finite, require_shape
from pcdistill.geometry.neighbors import nearest_neighbors, place_keys
from pcdistill.geometry.normals import estimate_normals, require_faces
from pcdistill.jit import njit


def mesh_superpoints(
    vertices: Tensor,
    faces: Tensor,
    *,
    threshold: float = 0.01,
    min_size: int = 60,
    colors: Tensor | None = None,
    color_weight: float = 0.0,
) -> Tensor:
    """Segment a mesh into superpoints, over its edges.

    Vertices of faces that lie at one place count as one, so that a mesh whose faces share no
    vertices, or not those at the seams of a texture, is cut like one whose faces do.
    Arithmetic is float32, or float64 for float64 vertices.

    Args:
        vertices: (N, 3) float, metres.
        faces: (F, 3) integer, vertex indices; their order decides in which order a vertex's normal
            is averaged, to rounding.
        threshold: unitless; larger makes larger superpoints.
        min_size: places; smaller components join a neighbour, unless they have none.
        colors: (N, 3) uint8, or float in [0, 1]; None leaves colour out, as the release does. The
            vertices of one place have their mean.
        color_weight: unitless, how much colour counts beside the normals' product; 0 leaves it out.

    Returns:
        (N,) int32 on the device of `vertices`, ids from 0 without gaps in the order of each
        superpoint's lowest vertex. A vertex of no face is a superpoint of its own.

    Raises:
        ValueError: wrong shape, a non-finite coordinate, a face that names a vertex that is not
            there, or a setting that is not positive.

    Source: SAS supplement "Superpoint generation" and its released segmentator.
    """
    require_shape("vertices", vertices, None, 3)
    require_finite("vertices", vertices)
    require_faces(faces, len(vertices))
    _require_settings(threshold, min_size)
    positions = _as_array(vertices)
    triangles = np.ascontiguousarray(faces.detach().cpu().numpy().astype(np.int32, copy=False))
    first = _first_alike(positions, triangles)
    triangles = first[triangles]
    normals = _running_mean_normals(positions, triangles)
    edges = triangles[:, [0, 1, 0, 2, 2, 1]].reshape(-1, 2)
    shades = _shades(colors, color_weight, len(vertices))
    if shades is not None:
        shades = _means(shades, first)
    labels = _segment(positions, normals, edges, threshold, min_size, shades)
    # a superpoint's lowest vertex is the first of its place, so that the order of ids stays
    ids = np.unique(labels[first], return_inverse=True)[1].astype(np.int32)
    return torch.from_numpy(ids).to(vertices.device)


def weld_faces(vertices: Tensor, faces: Tensor) -> Tensor:
    """Faces (F, 3) over (N, 3) vertices, with the first of all vertices at each one's place."""
    require_shape("vertices", vertices, None, 3)
    require_faces(faces, len(vertices))
    triangles = faces.detach().cpu().numpy().astype(np.int32, copy=False)
    first = _first_alike(_as_array(vertices), triangles)
    return torch.from_numpy(first[triangles]).to(faces)


def point_superpoints(
    points: Tensor,
    normals: Tensor | None = None,
    *,
    edges: Tensor | None = None,
    neighbors: int = 8,
    threshold: float = 0.01,
    min_size: int = 60,
    colors: Tensor | None = None,
    color_weight: float = 0.0,
) -> Tensor:
    """Segment points without a mesh into superpoints, over a graph of neighbours.

    Args:
        points: (N, 3) float, metres.
        normals: (N, 3) float, unit length, consistently oriented; None estimates them (see
            `estimate_normals`). Normals from a sensor's viewpoint are better where there are any.
        edges: (E, 2) integer, directed pairs of point indices; None joins each point to its
            `neighbors` nearest points.
        neighbors: points joined to each point when `edges` is None.
        threshold: unitless; larger makes larger superpoints.
        min_size: points; smaller components join a neighbour, unless they have none.
        colors: (N, 3) uint8, or float in [0, 1]; None leaves colour out, as the release does.
        color_weight: unitless, how much colour counts beside the normals' product; 0 leaves it out.

    Returns:
        (N,) int32 on the device of `points`, ids from 0 without gaps in the order of each
        superpoint's lowest point.

    Raises:
        ValueError: wrong shape, a non-finite value, an edge that names a point that is not there,
            or a setting that is not positive.

    Source: SAS's released segmentator for points, where normals and edges are given.
    """
    require_shape("points", points, None, 3)
    require_finite("points", points)
    _require_settings(threshold, min_size)
    if normals is None:
        normals = estimate_normals(points)
    require_shape("normals", normals, len(points), 3)
    require_finite("normals", normals)
    positions = _as_array(points)
    if edges is None:
        edges = neighbor_edges(points, neighbors)
    else:
        _require_edges(edges, len(points))
    pairs = np.ascontiguousarray(edges.detach().cpu().numpy().astype(np.int32, copy=False))
    directions = _as_array(normals.to(points.dtype))
    shades = _shades(colors, color_weight, len(points))
    labels = _segment(positions, directions, pairs, threshold, min_size, shades)
    return torch.from_numpy(labels).to(points.device)


def neighbor_edges(points: Tensor, neighbors: int = 8) -> Tensor:
    """Join each point to its nearest other points.

    Args:
        points: (N, 3) float, metres.
        neighbors: edges that leave each point, where there are that many other points. Of many
            equal points, all are joined to the same first ones.

    Returns:
        (E, 2) int32 on the CPU, directed pairs of point indices.

    Raises:
        ValueError: wrong shape, a non-finite value, or no neighbour is asked for.
    """
    require_shape("points", points, None, 3)
    require_finite("points", points)
    if neighbors < 1:
        raise ValueError(f"neighbors must be at least 1, got {neighbors}")
    return torch.from_numpy(_neighbor_edges(_as_array(points), neighbors))


def mesh_edges(faces: Tensor) -> Tensor:
    """The distinct edges of triangles (F, 3): (E, 2) int64, the lower vertex first."""
    require_shape("faces", faces, None, 3)
    pairs = faces.long()[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).sort(dim=1).values
    keys = torch.unique(pairs[:, 0] << 32 | pairs[:, 1])
    edges = torch.stack([keys >> 32, keys & 0xFFFFFFFF], dim=1)
    return edges[edges[:, 0] != edges[:, 1]]


def _require_settings(threshold: float, min_size: int) -> None:
    if not threshold > 0 or min_size < 1:
        raise ValueError(f"threshold must be > 0 and min_size >= 1, got {threshold} and {min_size}")


def _require_edges(edges: Tensor, points: int) -> None:
    require_shape("edges", edges, None, 2)
    if edges.is_floating_point() or edges.is_complex():
        raise ValueError(f"edges have dtype {edges.dtype}, expected integer point indices")
    if len(edges):
        low, high = (int(value) for value in edges.aminmax())
        if low < 0 or high >= points:
            raise ValueError(f"edges name points {low} to {high}, expected 0 to {points - 1}")


def _as_array(tensor: Tensor) -> NDArray[np.floating]:
    """Contiguous float32 (float64 stays) on the CPU."""
    wanted = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    return np.ascontiguousarray(tensor.detach().to(device="cpu", dtype=wanted).numpy())


def _shades(colors: Tensor | None, color_weight: float, points: int) -> NDArray[np.float32] | None:
    """(N, 3) float32 colours such that an edge weighs the squared distance of its two more."""
    if not 0 <= color_weight < float("inf"):
        raise ValueError(f"color_weight must be a number >= 0, got {color_weight}")
    if colors is None or color_weight == 0:
        return None
    require_shape("colors", colors, points, 3)
    require_finite("colors", colors)
    unit = colors.float() if colors.is_floating_point() else colors.float() / 255
    scaled: NDArray[np.float32] = (unit * (color_weight / 3) ** 0.5).detach().cpu().numpy()
    return scaled


def _neighbor_edges(positions: NDArray[np.floating], neighbors: int) -> NDArray[np.int32]:
    """(E, 2) int32, from each point to its nearest other points."""
    count = len(positions)
    if count < 2:
        return np.empty((0, 2), np.int32)
    nearest = nearest_neighbors(positions.astype(np.float64), min(neighbors + 1, count))
    sources = np.broadcast_to(np.arange(count)[:, None], nearest.shape)
    other = nearest != sources
    # among coincident points the point itself may be missing: then the farthest goes instead
    other[other.all(axis=1), -1] = False
    return np.stack([sources[other], nearest[other]], axis=1).astype(np.int32)


def _first_alike(
    positions: NDArray[np.floating], triangles: NDArray[np.int32]
) -> NDArray[np.int32]:
    """(N,) the first vertex at each one's place, of those that triangles use; the others' own."""
    first = np.arange(len(positions), dtype=np.int32)
    used = np.zeros(len(positions), dtype=np.bool_)
    used[triangles] = True
    rows = np.flatnonzero(used)
    _, lowest, place = np.unique(
        place_keys(positions[rows]), return_index=True, return_inverse=True
    )
    first[rows] = rows[lowest[place]]
    return first


def _means(values: NDArray[np.float32], first: NDArray[np.int32]) -> NDArray[np.float32]:
    """(N, C) the mean of the values (N, C) of all vertices that have the same first one."""
    counts = np.bincount(first, minlength=len(first))
    if counts.max(initial=0) < 2:
        return values
    sums = [np.bincount(first, values[:, c], len(first)) for c in range(values.shape[1])]
    means = (np.stack(sums, axis=1) / np.maximum(counts, 1)[:, None]).astype(np.float32)
    return means[first]


def _segment(
    positions: NDArray[np.floating],
    normals: NDArray[np.floating],
    edges: NDArray[np.int32],
    threshold: float,
    min_size: int,
    shades: NDArray[np.float32] | None = None,
) -> NDArray[np.int32]:
    """(N,) int32 ids, dense from 0."""
    weights = _edge_weights(positions, normals, edges)
    if shades is not None:
        apart = shades[edges[:, 0]] - shades[edges[:, 1]]
        weights += np.einsum("ij,ij->i", apart, apart)
    return _merge(  # type: ignore[no-any-return]
        len(positions), edges, weights, _ascending(weights), threshold, min_size
    )


def _ascending(weights: NDArray[np.floating]) -> NDArray[np.int64]:
    """Stable order of the weights, quick for float32.

    The bits of a float, with all of them inverted below zero and the sign bit set otherwise, sort
    as the number does; with the index in the low half, any sort is a stable one.
    """
    if weights.dtype != np.float32:
        return np.argsort(weights, kind="stable")
    bits = (weights + np.float32(0)).view(np.int32)  # -0.0 becomes 0.0
    rank = bits ^ ((bits >> 31) | np.int32(-(2**31)))
    keys = rank.view(np.uint32).astype(np.uint64) << np.uint64(32)
    keys |= np.arange(len(weights), dtype=np.uint64)
    keys.sort()
    return (keys & np.uint64(0xFFFFFFFF)).view(np.int64)


@njit()
def _running_mean_normals(positions, faces):  # type: ignore[no-untyped-def]
    """(N, 3) mean of the unit normals of the adjacent faces, updated face by face, not unit."""
    kind = positions.dtype.type
    one = kind(1)
    normals = np.zeros_like(positions)
    seen = np.zeros(len(positions), np.int32)
    for face in range(len(faces)):
        a, b, c = faces[face]
        ux = positions[b, 0] - positions[a, 0]
        uy = positions[b, 1] - positions[a, 1]
        uz = positions[b, 2] - positions[a, 2]
        vx = positions[c, 0] - positions[a, 0]
        vy = positions[c, 1] - positions[a, 1]
        vz = positions[c, 2] - positions[a, 2]
        x = uy * vz - uz * vy
        y = uz * vx - ux * vz
        z = ux * vy - uy * vx
        length = np.sqrt(x * x + y * y + z * z)
        if length == 0:
            continue
        x /= length
        y /= length
        z /= length
        for vertex in (a, b, c):
            new = one / (kind(seen[vertex]) + one)
            old = one - new
            normals[vertex, 0] = new * x + old * normals[vertex, 0]
            normals[vertex, 1] = new * y + old * normals[vertex, 1]
            normals[vertex, 2] = new * z + old * normals[vertex, 2]
            seen[vertex] += 1
    return normals


_DOUBT, _TINY = 1e-5, 1e-20
"""Share of its terms up to which the sign of a sum is taken from unit vectors, as the reference
does; and what is too small for squares in float32."""


@njit()
def _edge_weights(positions, normals, edges):  # type: ignore[no-untyped-def]
    """(E,) weight of each directed edge, see the module's docstring."""
    one = positions.dtype.type(1)
    weights = np.empty(len(edges), positions.dtype)
    for edge in range(len(edges)):
        a, b = edges[edge]
        dx = positions[b, 0] - positions[a, 0]
        dy = positions[b, 1] - positions[a, 1]
        dz = positions[b, 2] - positions[a, 2]
        nx, ny, nz = normals[b, 0], normals[b, 1], normals[b, 2]
        weight = one - (normals[a, 0] * nx + normals[a, 1] * ny + normals[a, 2] * nz)
        outwards = nx * dx + ny * dy + nz * dz
        doubt = _DOUBT * (abs(nx * dx) + abs(ny * dy) + abs(nz * dz))
        if abs(outwards) <= doubt or doubt < _TINY:  # the sign may hang on how it is rounded
            length = np.sqrt(dx * dx + dy * dy + dz * dz)
            if length > 0:
                outwards = nx * (dx / length) + ny * (dy / length) + nz * (dz / length)
            else:
                outwards = length
        if outwards > 0:
            weight = weight * weight
        weights[edge] = weight
    return weights


@njit()
def _find(parent, point):  # type: ignore[no-untyped-def]
    """Root of a point's component; halves the path on the way."""
    while parent[point] != point:
        parent[point] = parent[parent[point]]
        point = parent[point]
    return point


@njit()
def _merge(count, edges, weights, order, threshold, min_size):  # type: ignore[no-untyped-def]
    """(N,) int32 ids: merge along the ordered edges, then once more for small components."""
    kind = weights.dtype.type
    constant = kind(threshold)
    parent = np.arange(count, dtype=np.int32)
    size = np.ones(count, np.int32)
    limit = np.full(count, constant, weights.dtype)
    for edge in order:
        a = _find(parent, edges[edge, 0])
        b = _find(parent, edges[edge, 1])
        weight = weights[edge]
        if a != b and weight <= limit[a] and weight <= limit[b]:
            if size[a] < size[b]:
                a, b = b, a
            parent[b] = a
            size[a] += size[b]
            limit[a] = weight + constant / kind(size[a])
    for edge in order:
        a = _find(parent, edges[edge, 0])
        b = _find(parent, edges[edge, 1])
        if a != b and (size[a] < min_size or size[b] < min_size):
            if size[a] < size[b]:
                a, b = b, a
            parent[b] = a
            size[a] += size[b]
    ids = np.full(count, -1, np.int32)
    labels = np.empty(count, np.int32)
    used = np.int32(0)
    for point in range(count):
        root = _find(parent, point)
        if ids[root] < 0:
            ids[root] = used
            used += np.int32(1)
        labels[point] = ids[root]
    return labels
