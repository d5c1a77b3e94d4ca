"""Pinhole rasterizer: the nearest patch behind every pixel centre, the same on every processor."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from pcdistill.jit import njit

Array = npt.NDArray[Any]

_NEAR = 1e-3  # metres; bounds of triangles are cut there, what lies behind is not seen


def rasterize(
    corners: Array, camera_to_world: Array, intrinsics: Array, image_size: tuple[int, int]
) -> tuple[Array, Array, Array, Array]:
    """Find what a camera sees of quadrilateral patches, by edge functions in float64.

    A ray through a pixel centre hits a triangle if it passes all three edges on the same side; the
    edge that two triangles share divides pixels between them without a gap. Of surfaces at equal
    depth the earlier triangle is taken.

    Args:
        corners: (Q, 4, 3) float32, metres; triangles 2q and 2q + 1 are patch q.
        camera_to_world: (4, 4) float64, metres; +x right, +y down, +z forward.
        intrinsics: (3, 3) float64, pixels.
        image_size: (H, W) pixels.

    Returns:
        triangles: (H * W,) int64, -1 where nothing is hit.
        depth: (H * W,) float64, metres along the optical axis, 0 where nothing is hit.
        second, third: (H * W,) float64, barycentric weights of the triangle's second and third
            corner.

    Source: homogeneous edge functions as in Olano & Greer, Triangle scan conversion using 2D
    homogeneous coordinates, 1997.
    """
    height, width = image_size
    columns = (np.arange(width) - intrinsics[0, 2]) / intrinsics[0, 0]
    rows = (np.arange(height) - intrinsics[1, 2]) / intrinsics[1, 1]
    rotation = np.ascontiguousarray(camera_to_world[:3, :3], dtype=np.float64)
    position = np.ascontiguousarray(camera_to_world[:3, 3], dtype=np.float64)
    camera = np.array(
        [intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2]], np.float64
    )
    edges, inverse, triangles = _nearest(corners, rotation, position, camera, columns, rows)
    depth, second, third = _at_pixels(edges, inverse, triangles, columns, rows)
    return triangles.reshape(-1), depth, second, third


@njit(error_model="numpy")
def _edge(out: Array, row: int, a: Array, b: Array) -> None:
    """Write a x b: the plane through the camera and the edge from a to b."""
    out[row, 0] = a[1] * b[2] - a[2] * b[1]
    out[row, 1] = a[2] * b[0] - a[0] * b[2]
    out[row, 2] = a[0] * b[1] - a[1] * b[0]


@njit(error_model="numpy")
def _interval(corner: Array, axis: int, focal: float, middle: float, size: int) -> tuple[int, int]:
    """First and last pixel (exclusive) along one image axis that a triangle may cover."""
    low, high = math.inf, -math.inf
    for i in range(3):
        z = corner[i, 2]
        if z > _NEAR:
            value = corner[i, axis] / z
            low, high = min(low, value), max(high, value)
        j = (i + 1) % 3
        other = corner[j, 2]
        if (z > _NEAR) != (other > _NEAR):
            fraction = (_NEAR - z) / (other - z)
            value = (corner[i, axis] + fraction * (corner[j, axis] - corner[i, axis])) / _NEAR
            low, high = min(low, value), max(high, value)
    first = max(0.0, min(float(size), math.floor(low * focal + middle)))
    last = max(0.0, min(float(size), math.ceil(high * focal + middle) + 1))
    return int(first), int(last)


@njit(error_model="numpy")
def _nearest(
    corners: Array, rotation: Array, position: Array, camera: Array, columns: Array, rows: Array
) -> tuple[Array, Array, Array]:
    """Edge functions (T, 3, 3) of all triangles, inverse depth (H, W), triangle (H, W)."""
    height, width = len(rows), len(columns)
    total = 2 * len(corners)
    edges = np.zeros((total, 3, 3))
    inverse = np.zeros((height, width))
    nearest = np.full((height, width), -1, dtype=np.int64)
    quad = np.empty((4, 3))
    corner = np.empty((3, 3))
    plane = np.empty(3)
    for q in range(len(corners)):
        ahead = False
        for i in range(4):
            x = corners[q, i, 0] - position[0]
            y = corners[q, i, 1] - position[1]
            z = corners[q, i, 2] - position[2]
            for axis in range(3):
                quad[i, axis] = (
                    x * rotation[0, axis] + y * rotation[1, axis] + z * rotation[2, axis]
                )
            ahead |= quad[i, 2] > _NEAR
        if not ahead:
            continue
        for half in range(2):
            triangle = 2 * q + half
            corner[0], corner[1], corner[2] = quad[0], quad[1 + half], quad[2 + half]
            if max(corner[0, 2], corner[1, 2], corner[2, 2]) <= _NEAR:
                continue
            left, right = _interval(corner, 0, camera[0], camera[2], width)
            top, bottom = _interval(corner, 1, camera[1], camera[3], height)
            if left >= right or top >= bottom:
                continue
            edge = edges[triangle]
            _edge(edge, 0, corner[1], corner[2])
            _edge(edge, 1, corner[2], corner[0])
            _edge(edge, 2, corner[0], corner[1])
            volume = (
                corner[0, 0] * edge[0, 0] + corner[0, 1] * edge[0, 1] + corner[0, 2] * edge[0, 2]
            )
            if volume == 0:
                continue
            if volume < 0:
                volume = -volume
                for i in range(3):
                    for axis in range(3):
                        edge[i, axis] = -edge[i, axis]
            for axis in range(3):
                plane[axis] = (edge[0, axis] + edge[1, axis] + edge[2, axis]) / volume
            for row in range(top, bottom):
                y = rows[row]
                a0 = edge[0, 1] * y + edge[0, 2]
                b0 = edge[1, 1] * y + edge[1, 2]
                c0 = edge[2, 1] * y + edge[2, 2]
                p0 = plane[1] * y + plane[2]
                for column in range(left, right):
                    x = columns[column]
                    value = plane[0] * x + p0
                    inside = (
                        (edge[0, 0] * x + a0 >= 0)
                        & (edge[1, 0] * x + b0 >= 0)
                        & (edge[2, 0] * x + c0 >= 0)
                    )
                    if inside & (value > inverse[row, column]):
                        inverse[row, column] = value
                        nearest[row, column] = triangle
    return edges, inverse, nearest


@njit(error_model="numpy")
def _at_pixels(
    edges: Array, inverse: Array, nearest: Array, columns: Array, rows: Array
) -> tuple[Array, Array, Array]:
    """Depth and two barycentric weights of every pixel, each (H * W,)."""
    height, width = nearest.shape
    depth = np.zeros(height * width)
    second = np.zeros(height * width)
    third = np.zeros(height * width)
    for row in range(height):
        for column in range(width):
            triangle = nearest[row, column]
            if triangle < 0:
                continue
            edge = edges[triangle]
            x, y = columns[column], rows[row]
            a = edge[0, 0] * x + (edge[0, 1] * y + edge[0, 2])
            b = edge[1, 0] * x + (edge[1, 1] * y + edge[1, 2])
            c = edge[2, 0] * x + (edge[2, 1] * y + edge[2, 2])
            total = a + b + c
            index = row * width + column
            depth[index] = 1 / inverse[row, column]
            if total > 0:
                second[index] = b / total
                third[index] = c / total
    return depth, second, third
