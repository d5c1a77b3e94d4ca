"""Mesh cleaning: vertex merging, removal of small components and degenerate faces."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

Array = npt.NDArray[Any]

_CELL_BITS = 19  # per axis, with 3 left for the side that a vertex faces


class CleanMesh(NamedTuple):
    """A mesh in which every vertex has a face."""

    points: Tensor
    """(N, 3) float64."""
    faces: Tensor
    """(F, 3) int64."""


def merge_close_vertices(
    points: Tensor, faces: Tensor, normals: Tensor, spacing: float
) -> CleanMesh:
    """Merge vertices that share a cell of a grid and face the same way, at their mean place.

    Both sides of a thin board stay apart. Faces that lose a corner vanish with it.

    Args:
        points: (N, 3) float, metres.
        faces: (F, 3) int64.
        normals: (N, 3) float; which of the six directions of the axes is nearest tells the side.
        spacing: side of a cell, metres.

    Raises:
        ValueError: `spacing` is not positive, or the mesh is more than 2^19 cells wide.
    """
    if not spacing > 0:
        raise ValueError(f"spacing must be > 0 metres, got {spacing}")
    if len(points) == 0:
        return CleanMesh(points.double(), faces)
    places = points.double().numpy()
    cells = np.floor((places - places.min(axis=0)) / spacing).astype(np.int64)
    if int(cells.max()) >= 2**_CELL_BITS:
        raise ValueError(f"{cells.max() + 1} cells of {spacing} m in a row, expected at most 2^19")
    facing = normals.numpy()
    axis = np.abs(facing).argmax(axis=1)
    side = axis * 2 + (facing[np.arange(len(facing)), axis] > 0)
    key = side.astype(np.int64)
    for column in range(3):
        key = (key << _CELL_BITS) | cells[:, column]
    _, member = np.unique(key, return_inverse=True)
    counts = np.bincount(member)
    sums = [np.bincount(member, places[:, column]) for column in range(3)]
    merged = np.stack(sums, axis=1) / counts[:, None]
    return _used(merged, proper_faces(member[faces.numpy()]))


def drop_small_pieces(points: Tensor, faces: Tensor, least: int) -> CleanMesh:
    """Drop connected components of a mesh that have few vertices.

    Args:
        points: (N, 3) float, metres.
        faces: (F, 3) int, indices into the points.
        least: vertices that a component must have to stay.
    """
    triangles = faces.numpy()
    edges = triangles[:, [[0, 1], [1, 2]]].reshape(-1, 2)
    graph = coo_matrix((np.ones(len(edges), np.int8), edges.T), (len(points), len(points)))
    _, piece = connected_components(graph, directed=False)
    large = np.bincount(piece)[piece] >= least if len(points) else np.zeros(0, bool)
    return _used(points.double().numpy(), triangles[large[triangles[:, 0]]])


def proper_faces(faces: Array) -> Array:
    """Keep faces (F, 3) that have three different vertices, each set of vertices once."""
    a, b, c = faces.T
    kept = faces[(a != b) & (b != c) & (c != a)]
    ordered = np.sort(kept, axis=1).astype(np.int64)
    keys = (ordered[:, 0] << 42) | (ordered[:, 1] << 21) | ordered[:, 2]
    _, first = np.unique(keys, return_index=True)
    return np.asarray(kept[np.sort(first)])


def _used(points: Array, faces: Array) -> CleanMesh:
    """The mesh without vertices that no face has."""
    used, compact = np.unique(faces, return_inverse=True)
    return CleanMesh(
        torch.from_numpy(points[used]),
        torch.from_numpy(compact.reshape(-1, 3).astype(np.int64)),
    )
