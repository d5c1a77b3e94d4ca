"""Bounding-volume hierarchy over triangles that tells which segments are blocked."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pcdistill.jit import njit

Array = npt.NDArray[Any]

_LEAF = 4  # triangles at most
_SLACK = 1e-9  # metres by which boxes are larger than their triangles
_DEPTH = 512  # boxes that wait at most: one a level, and a level halves an extent or a number


class Hierarchy(NamedTuple):
    """Boxes around triangles: box i holds triangles first:first + count, or boxes child, child + 1.

    `boxes` is (B, 6) float64 (low corner, high corner); `links` (B, 2) int64 is (first, count) of a
    leaf, or (child, 0); `triangles` (T, 3, 3) float64 are in the order of the leaves.
    """

    boxes: Array
    links: Array
    triangles: Array


def build_hierarchy(triangles: Array) -> Hierarchy:
    """Part (T, 3, 3) triangles at the middle of their longest extent until few are left."""
    corners = np.ascontiguousarray(triangles, dtype=np.float64)
    lows, highs = corners.min(axis=1) - _SLACK, corners.max(axis=1) + _SLACK
    boxes, links, order = _split(corners[:, 0] + corners[:, 1] + corners[:, 2], lows, highs)
    return Hierarchy(boxes, links, corners[order])


@njit(error_model="numpy")
def _split(middles: Array, lows: Array, highs: Array) -> tuple[Array, Array, Array]:
    """Boxes (B, 6), links (B, 2) and the order of the triangles (T,)."""
    total = len(middles)
    order = np.arange(total)
    boxes = np.zeros((2 * total + 1, 6))
    links = np.zeros((2 * total + 1, 2), dtype=np.int64)
    links[0, 1] = total
    used, count = 1, 1
    waiting = np.zeros(_DEPTH, dtype=np.int64)
    while count:
        count -= 1
        number = waiting[count]
        first, size = links[number, 0], links[number, 1]
        axis, widest, middle = 0, -1.0, 0.0
        for k in range(3):
            low, high = np.inf, -np.inf
            least, limit = np.inf, -np.inf
            for place in range(first, first + size):
                i = order[place]
                low, high = min(low, lows[i, k]), max(high, highs[i, k])
                least, limit = min(least, middles[i, k]), max(limit, middles[i, k])
            boxes[number, k], boxes[number, k + 3] = low, high
            if limit - least > widest:
                axis, widest, middle = k, limit - least, (least + limit) / 2
        if size <= _LEAF:
            continue
        half = 0
        for place in range(first, first + size):
            i = order[place]
            if middles[i, axis] < middle:
                order[place], order[first + half] = order[first + half], i
                half += 1
        if half == 0 or half == size:
            half = size // 2
        links[number, 0], links[number, 1] = used, 0
        links[used, 0], links[used, 1] = first, half
        links[used + 1, 0], links[used + 1, 1] = first + half, size - half
        waiting[count], waiting[count + 1] = used, used + 1
        count += 2
        used += 2
    return boxes[:used].copy(), links[:used].copy(), order


def blocked(hierarchy: Hierarchy, origins: Array, vectors: Array, reach: float) -> Array:
    """Which segments from `origins` along `reach` of `vectors` meet a triangle.

    Args:
        hierarchy: of the triangles.
        origins: (R, 3) metres.
        vectors: (R, 3) metres, from an origin to its goal.
        reach: share of each vector that counts, unitless.

    Returns:
        (R,) bool.
    """
    return np.asarray(
        _blocked(
            *hierarchy,
            np.ascontiguousarray(origins, dtype=np.float64),
            np.ascontiguousarray(vectors, dtype=np.float64),
            reach,
        )
    )


@njit(error_model="numpy")
def _enters(box: Array, origin: Array, inverse: Array, reach: float) -> bool:
    """Whether a segment passes through a box."""
    begin, end = 0.0, reach
    for axis in range(3):
        near = (box[axis] - origin[axis]) * inverse[axis]
        far = (box[axis + 3] - origin[axis]) * inverse[axis]
        if near > far:
            near, far = far, near
        begin = max(begin, near)
        end = min(end, far)
    return begin <= end


@njit(error_model="numpy")
def _meets(corner: Array, origin: Array, vector: Array, reach: float) -> bool:
    """Whether a segment meets a triangle (Moeller & Trumbore, 1997)."""
    e0, e1, e2 = (
        corner[1, 0] - corner[0, 0],
        corner[1, 1] - corner[0, 1],
        corner[1, 2] - corner[0, 2],
    )
    f0, f1, f2 = (
        corner[2, 0] - corner[0, 0],
        corner[2, 1] - corner[0, 1],
        corner[2, 2] - corner[0, 2],
    )
    p0 = vector[1] * f2 - vector[2] * f1
    p1 = vector[2] * f0 - vector[0] * f2
    p2 = vector[0] * f1 - vector[1] * f0
    volume = e0 * p0 + e1 * p1 + e2 * p2
    if volume == 0:
        return False
    s0, s1, s2 = origin[0] - corner[0, 0], origin[1] - corner[0, 1], origin[2] - corner[0, 2]
    u = (s0 * p0 + s1 * p1 + s2 * p2) / volume
    if u < 0 or u > 1:
        return False
    q0, q1, q2 = s1 * e2 - s2 * e1, s2 * e0 - s0 * e2, s0 * e1 - s1 * e0
    v = (vector[0] * q0 + vector[1] * q1 + vector[2] * q2) / volume
    if v < 0 or u + v > 1:
        return False
    t = (f0 * q0 + f1 * q1 + f2 * q2) / volume
    return bool(0 < t < reach)


@njit(error_model="numpy")
def _blocked(
    boxes: Array, links: Array, triangles: Array, origins: Array, vectors: Array, reach: float
) -> Array:
    result = np.zeros(len(origins), dtype=np.bool_)
    waiting = np.empty(_DEPTH, dtype=np.int64)
    inverse = np.empty(3)
    for ray in range(len(origins)):
        origin, vector = origins[ray], vectors[ray]
        for axis in range(3):
            # a segment along a box gets a quotient that is large instead of infinite
            step = vector[axis] if abs(vector[axis]) > 1e-12 else 1e-12
            inverse[axis] = 1 / step
        waiting[0] = 0
        count = 1
        while count:
            count -= 1
            number = waiting[count]
            if not _enters(boxes[number], origin, inverse, reach):
                continue
            first, size = links[number]
            if size == 0 and first > 0:
                waiting[count] = first
                waiting[count + 1] = first + 1
                count += 2
                continue
            for index in range(first, first + size):
                if _meets(triangles[index], origin, vector, reach):
                    result[ray] = True
                    count = 0
                    break
    return result
