"""Surfaces: the patches of a home as arrays, coarse for ray casting and fine as a scan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pcdistill.geometry import proper_faces
from pcdistill.homes.portable_math import GRID, dot, norms, unit
from pcdistill.homes.shading import shade_points
from pcdistill.homes.surface import Array, LabelledPart, Surface
from pcdistill.homes.textures import ALONG_EDGE, NORMALIZED
from pcdistill.jit import njit

_CREASE_COSINE = 0.6  # neighbours that meet at less than about 53 degrees are shaded as one
_WELD = 2e-4  # metres; corners closer than this are one vertex of their part
_WELD_SHIFT = 0.355  # cells; keeps round coordinates away from the boundaries of the weld grid


class ScanMesh(NamedTuple):
    """A fine mesh of a surface; N vertices welded within parts, F triangles."""

    points: Tensor
    """(N, 3) float32, metres."""
    faces: Tensor
    """(F, 3) int64."""
    normals: Tensor
    """(N, 3) float32, unit length, mean of the adjacent faces weighted by their area."""
    colors: Tensor
    """(N, 3) uint8, lit."""
    classes: Tensor
    """(N,) int64, index into `CLASSES`."""
    instances: Tensor
    """(N,) int32."""


def build_surface(parts: Sequence[LabelledPart], room_boxes: Array, lights: Array) -> Surface:
    """Gather tagged parts into arrays; normals are smooth inside a part except at creases.

    Args:
        parts: Q quads in all.
        room_boxes: (R, 6) low and high corner of each room, metres.
        lights: (R, 2, 6) position and color of lamp and daylight of each room.
    """
    counts = [len(tagged.part.quads) for tagged in parts]
    corners = np.concatenate([tagged.part.quads for tagged in parts])
    finishes = [tagged.part.finish for tagged in parts]

    def spread(values: Sequence[Any], kind: Any) -> Array:
        return np.repeat(np.array(values, dtype=kind), counts, axis=0)

    part_of_quad = spread(range(len(parts)), np.int32)
    face_normals = quad_normals(corners)
    patterns = spread([finish.pattern for finish in finishes], np.uint8)
    return Surface(
        corners=corners.astype(np.float32),
        normals=_smooth_normals(corners, face_normals, part_of_quad).astype(np.float32),
        uvs=_pattern_coordinates(corners, face_normals, patterns).astype(np.float32),
        classes=spread([tagged.class_index for tagged in parts], np.uint8),
        instances=spread([tagged.instance for tagged in parts], np.int32),
        materials=spread([finish.material for finish in finishes], np.uint8),
        patterns=patterns,
        parts=part_of_quad,
        rooms=spread([tagged.room for tagged in parts], np.int32),
        colors=spread([finish.color for finish in finishes], np.float32),
        seconds=spread([finish.second for finish in finishes], np.float32),
        scales=spread([finish.scale for finish in finishes], np.float32),
        room_boxes=np.asarray(room_boxes, np.float32),
        lights=np.asarray(lights, np.float32),
    )


def quad_normals(corners: Array) -> Array:
    """(Q, 3) unit normals of patches, from their diagonals."""
    crossed = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
    return unit(crossed)


def scan_mesh(surface: Surface, spacing: float = 0.06) -> ScanMesh:
    """Cut every patch into a grid no coarser than `spacing` metres and weld it within its part.

    Detail much finer than the spacing is merged.

    Raises:
        ValueError: `spacing` is not positive.
    """
    if not spacing > 0:
        raise ValueError(f"spacing must be > 0 metres, got {spacing}")
    nodes, uvs, quad_of_node, quad_faces = _subdivide(surface, spacing)
    points, vertex, keeper = _weld(nodes, surface.parts[quad_of_node])
    faces = proper_faces(vertex[quad_faces])
    normals = vertex_normals(points, faces)
    kept, new_vertex = _thin_out(points, normals, surface.parts[quad_of_node[keeper]], spacing)
    faces = proper_faces(new_vertex[faces])
    used, compact = np.unique(faces, return_inverse=True)
    kept, faces = kept[used], compact.reshape(-1, 3).astype(np.int64)
    points, keeper, coarse = points[kept], keeper[kept], normals[kept]
    normals = vertex_normals(points, faces)
    folded = ~normals.any(axis=1)  # faces that cancel each other
    normals[folded] = coarse[folded]
    quad = quad_of_node[keeper]
    colors = shade_points(surface, points, normals, uvs[keeper], quad)
    return ScanMesh(
        torch.from_numpy(points.astype(np.float32)),
        torch.from_numpy(faces),
        torch.from_numpy(normals.astype(np.float32)),
        torch.from_numpy(colors),
        torch.from_numpy(surface.classes[quad].astype(np.int64)),
        torch.from_numpy(surface.instances[quad].astype(np.int32)),
    )


def _subdivide(surface: Surface, spacing: float) -> tuple[Array, Array, Array, Array]:
    """Grid nodes (P, 3), their pattern coordinates (P, 2), their patch (P,), faces (F, 3)."""
    corners = surface.corners.astype(np.float64)
    edges = norms(np.roll(corners, -1, axis=1) - corners)[..., 0]  # (Q, 4) metres
    across = np.ceil(np.maximum(edges[:, 0], edges[:, 2]) / spacing - 1e-3).astype(int)
    along = np.ceil(np.maximum(edges[:, 1], edges[:, 3]) / spacing - 1e-3).astype(int)
    key = np.maximum(across, 1) * 100_000 + np.maximum(along, 1)
    nodes, uvs, owners, faces, offset = [], [], [], [], 0
    for size in np.unique(key):
        columns, rows = divmod(int(size), 100_000)
        quads = np.flatnonzero(key == size)
        weights, cells = _grid(columns, rows)
        nodes.append(_between(weights, corners[quads]).reshape(-1, 3))
        uvs.append(_between(weights, surface.uvs[quads]).reshape(-1, 2))
        owners.append(np.repeat(quads, len(weights)))
        starts = offset + np.arange(len(quads)) * len(weights)
        faces.append((starts[:, None, None] + cells).reshape(-1, 3))
        offset += len(quads) * len(weights)
    return (
        np.concatenate(nodes),
        np.concatenate(uvs),
        np.concatenate(owners),
        np.concatenate(faces),
    )


def _grid(columns: int, rows: int) -> tuple[Array, Array]:
    """Bilinear weights of the grid nodes (P, 4) and the triangles between them (F, 3)."""
    s, t = (
        axis.ravel()
        for axis in np.meshgrid(np.linspace(0, 1, columns + 1), np.linspace(0, 1, rows + 1))
    )
    weights = np.stack([(1 - s) * (1 - t), s * (1 - t), s * t, (1 - s) * t], axis=1)
    column, row = np.meshgrid(np.arange(columns), np.arange(rows))
    first = (row * (columns + 1) + column).ravel()
    right, above = first + 1, first + columns + 1
    odd = ((row + column) % 2 == 1).ravel()[:, None]
    lower = np.where(
        odd, np.stack([first, right, above], 1), np.stack([first, right, above + 1], 1)
    )
    upper = np.where(
        odd, np.stack([right, above + 1, above], 1), np.stack([first, above + 1, above], 1)
    )
    return weights, np.concatenate([lower, upper])


def _between(weights: Array, corners: Array) -> Array:
    """(Q, P, D) means of four corners (Q, 4, D), added in order, by (P, 4) weights."""
    shares = weights[None, :, :, None] * corners[:, None]
    return np.asarray(((shares[:, :, 0] + shares[:, :, 1]) + shares[:, :, 2]) + shares[:, :, 3])


def _weld(nodes: Array, parts: Array) -> tuple[Array, Array, Array]:
    """Merge nodes of a part at one place: points (N, 3), vertex of node (P,), a node each (N,)."""
    _, keeper, vertex = np.unique(_place_keys(nodes, parts), return_index=True, return_inverse=True)
    return nodes[keeper], vertex.astype(np.int64), keeper


def _place_keys(nodes: Array, parts: Array) -> Array:
    """(P,) int64 that agree where part and place agree; a place has 16 bits a coordinate."""
    away = nodes - nodes.min(axis=0)
    cell = max(_WELD, float(away.max()) / 65_000)
    cells = np.floor(away / cell + _WELD_SHIFT).astype(np.int64)
    keys = parts.astype(np.int64) << 48
    return np.asarray(keys | (cells[:, 0] << 32) | (cells[:, 1] << 16) | cells[:, 2])


def _thin_out(points: Array, normals: Array, parts: Array, spacing: float) -> tuple[Array, Array]:
    """Merge vertices of small detail, as a scanner does that cannot resolve it.

    Vertices of one part within one cell of 0.6 * spacing that face the same way become one, so
    thin boards keep both sides. Returns the vertices that stay (N',) and the new vertex of each
    old one (N,).
    """
    cells = np.floor((points - points.min(axis=0)) / (0.6 * spacing) + 0.37).astype(np.int64)
    axis = np.abs(normals).argmax(axis=1)
    facing = axis * 2 + (normals[np.arange(len(points)), axis] > 0)
    key = (parts.astype(np.int64) << 48) | (facing.astype(np.int64) << 45)
    key |= (cells[:, 0] << 30) | (cells[:, 1] << 15) | cells[:, 2]
    _, kept, new_vertex = np.unique(key, return_index=True, return_inverse=True)
    return kept, new_vertex.astype(np.int64)


def vertex_normals(points: Array, faces: Array) -> Array:
    """(N, 3) unit normals of points (N, 3): mean of the faces (F, 3), weighted by their area."""
    a, b, c = points[faces[:, 0]], points[faces[:, 1]], points[faces[:, 2]]
    weighted = np.cross(b - a, c - a)
    normals = np.stack(
        [
            np.bincount(faces.ravel(), np.repeat(weighted[:, axis], 3), minlength=len(points))
            for axis in range(3)
        ],
        axis=1,
    )
    return unit(normals)


def _smooth_normals(corners: Array, face_normals: Array, parts: Array) -> Array:
    """(Q, 4, 3) corner normals: mean over the patches of the part that meet there smoothly."""
    keys = _place_keys(corners.reshape(-1, 3), np.repeat(parts, 4))
    order = np.argsort(keys, kind="stable")
    area = norms(np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]))[:, 0]
    return _mean_of_neighbors(keys[order], order, face_normals, area).reshape(-1, 4, 3)


@njit(error_model="numpy")
def _mean_of_neighbors(keys: Array, order: Array, normals: Array, area: Array) -> Array:
    total = len(keys)
    result = np.zeros((total, 3))
    start = 0
    while start < total:
        stop = start
        while stop < total and keys[stop] == keys[start]:
            stop += 1
        for i in range(start, stop):
            own = order[i] // 4
            a, b, c = normals[own, 0], normals[own, 1], normals[own, 2]
            x, y, z = 0.0, 0.0, 0.0
            for j in range(start, stop):
                other = order[j] // 4
                u, v, w = normals[other, 0], normals[other, 1], normals[other, 2]
                if a * u + b * v + c * w > _CREASE_COSINE:
                    x += u * area[other]
                    y += v * area[other]
                    z += w * area[other]
            length = np.sqrt(x * x + y * y + z * z)
            if length > 0:
                a, b, c = x / length, y / length, z / length
            result[order[i], 0], result[order[i], 1], result[order[i], 2] = a, b, c
        start = stop
    return result


def _pattern_coordinates(corners: Array, normals: Array, patterns: Array) -> Array:
    """(Q, 4, 2) coordinates: seen along the main axis, along the longer edge, or 0 to 1."""
    uvs = _axis_coordinates(corners, normals)
    edge = np.isin(patterns, ALONG_EDGE)
    uvs[edge] = _edge_coordinates(corners[edge], normals[edge])
    whole = np.isin(patterns, NORMALIZED)
    low = uvs[whole].min(axis=1, keepdims=True)
    reach = uvs[whole].max(axis=1, keepdims=True) - low
    uvs[whole] = (uvs[whole] - low) / np.where(reach > 0, reach, 1)
    return uvs


def _axis_coordinates(corners: Array, normals: Array) -> Array:
    main = np.abs(normals).argmax(axis=1)
    horizontal = np.where(main == 0, 1, 0)
    vertical = np.where(main == 2, 1, 2)
    rows = np.arange(len(corners))[:, None]
    steps = np.arange(4)[None]
    return np.stack(
        [corners[rows, steps, horizontal[:, None]], corners[rows, steps, vertical[:, None]]], axis=2
    )


def _edge_coordinates(corners: Array, normals: Array) -> Array:
    first, last = corners[:, 1] - corners[:, 0], corners[:, 3] - corners[:, 0]
    # an edge has to be longer by a step of the grid, so that squares take the first one
    longer = norms(first) >= norms(last) - GRID
    u_axis = unit(np.where(longer, first, last))
    v_axis = np.cross(normals, u_axis)
    return np.stack([dot(corners, u_axis[:, None]), dot(corners, v_axis[:, None])], axis=2)
