"""Primitive surfaces as quadrilateral patches, seen from outside in counter-clockwise order."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from pcdistill.homes.portable_math import cosine, power, sine, transform, unit

Array = npt.NDArray[np.float64]
Vector = Sequence[float] | Array

_BOX_FACES = {
    "bottom": (0, 3, 2, 1),
    "top": (4, 5, 6, 7),
    "front": (3, 7, 6, 2),
    "back": (0, 1, 5, 4),
    "left": (0, 4, 7, 3),
    "right": (1, 2, 6, 5),
}  # front looks along +y, right along +x


def box(low: Vector, high: Vector, skip: Sequence[str] = ()) -> Array:
    """(6 - skipped, 4, 3) faces of the box between two corners; `skip` names faces left out.

    Args:
        low: (x, y, z) of the lowest corner, metres.
        high: (x, y, z) of the highest, metres.
        skip: faces that are left out, by name.
    """
    (x0, y0, z0), (x1, y1, z1) = low, high
    corners = np.array(
        [
            [x0, y0, z0],
            [x1, y0, z0],
            [x1, y1, z0],
            [x0, y1, z0],
            [x0, y0, z1],
            [x1, y0, z1],
            [x1, y1, z1],
            [x0, y1, z1],
        ],
        dtype=np.float64,
    )
    return corners[[face for name, face in _BOX_FACES.items() if name not in skip]]


def slab(center: Vector, size: Vector) -> Array:
    """(6, 4, 3) faces of a box given by its centre and its edge lengths."""
    middle, half = np.asarray(center, float), np.asarray(size, float) / 2
    return box(middle - half, middle + half)


def rounded_box(low: Vector, high: Vector, radius: float) -> Array:
    """(54, 4, 3) faces of a box with rounded edges; the radius is cut to what fits.

    Args:
        low: (x, y, z) of the lowest corner, metres.
        high: (x, y, z) of the highest, metres.
        radius: of the edges, metres.
    """
    bottom, top = np.asarray(low, float), np.asarray(high, float)
    half = (top - bottom) / 2
    radius = min(radius, float(half.min()) * 0.98)
    fraction = radius / (2 * half)
    ticks = np.stack(
        [np.zeros(3), fraction, 1 - fraction, np.ones(3)], axis=1
    )  # (3, 4) along each axis
    start, across, along, axes, steps = _box_nodes()
    first, second = ticks[axes[0], steps[0]], ticks[axes[1], steps[1]]
    points = (start + across * first[..., None] + along * second[..., None]) * half
    core = np.clip(points, -(half - radius), half - radius)
    away = points - core
    rounded = core + radius * unit(away)
    return np.asarray(rounded + (bottom + top) / 2)


@cache
def _box_nodes() -> tuple[Array, Array, Array, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where the nodes of a rounded box lie: 3 x 3 patches with 4 nodes on each of the six faces.

    Returns:
        start, across, along: (54, 4, 3) corner of the face of each node, and its two edges.
        axes: (2, 54, 4) axis of either edge.
        steps: (2, 54, 4) 0 to 3: on which of four ticks along either edge the node stands; the
            inner ones sit a radius from the edge.
    """
    faces = box(-np.ones(3), np.ones(3))
    across, along = faces[:, 1] - faces[:, 0], faces[:, 3] - faces[:, 0]
    patches = [
        [(column, row), (column + 1, row), (column + 1, row + 1), (column, row + 1)]
        for row in range(3)
        for column in range(3)
    ]
    steps = np.broadcast_to(np.array(patches), (6, 9, 4, 2)).reshape(54, 4, 2)

    def spread(values: Array) -> Array:
        return np.repeat(values, 9, axis=0)[:, None].repeat(4, axis=1)

    axes = [spread(np.abs(edge).argmax(axis=1)) for edge in (across, along)]
    return (
        spread(faces[:, 0]),
        spread(across),
        spread(along),
        np.stack(axes).astype(np.int64),
        np.moveaxis(steps, -1, 0).astype(np.int64),
    )


def ring(center: Vector, radius_x: float, radius_y: float, segments: int = 16) -> Array:
    """(segments, 3) outline of a level ellipse, counter-clockwise seen from above.

    Args:
        center: (x, y, z), metres.
        radius_x: metres.
        radius_y: metres.
        segments: number of points.
    """
    turn = np.arange(segments) * (2 * np.pi / segments)
    flat = np.stack([radius_x * cosine(turn), radius_y * sine(turn), np.zeros(segments)], -1)
    return np.asarray(flat + np.asarray(center, float))


def rounded_ring(center: Vector, half_x: float, half_y: float, exponent: float = 4.0) -> Array:
    """(24, 3) outline of a level rectangle with round corners; a higher exponent is squarer.

    Args:
        center: (x, y, z), metres.
        half_x: half the width, metres.
        half_y: half the depth, metres.
        exponent: of the superellipse.
    """
    turn = (np.arange(24) + 0.5) * (2 * np.pi / 24)
    across, along = cosine(turn), sine(turn)
    reach = power(power(np.abs(across), exponent) + power(np.abs(along), exponent), -1 / exponent)
    flat = np.stack([half_x * across * reach, half_y * along * reach, np.zeros(24)], -1)
    return np.asarray(flat + np.asarray(center, float))


def loft(rings: Sequence[Array], *, cap_start: bool = False, cap_end: bool = False) -> Array:
    """Skin through outlines of equal length; looks outward when they are stacked upward.

    Args:
        rings: outlines (n, 3), metres.
        cap_start: close the first with a disc.
        cap_end: close the last with a disc.
    """
    stack = np.stack(rings)
    following = np.concatenate([stack[:, 1:], stack[:, :1]], axis=1)
    sides = np.stack([stack[:-1], following[:-1], following[1:], stack[1:]], axis=2)
    faces = [sides.reshape(-1, 4, 3)]
    if cap_start:
        faces.append(disc(stack[0][::-1]))
    if cap_end:
        faces.append(disc(stack[-1]))
    return np.concatenate(faces)


def disc(outline: Array) -> Array:
    """(n / 2, 4, 3) fan of quadrilaterals that fills an outline of even length n."""
    center = np.broadcast_to(outline.mean(axis=0), (len(outline) // 2, 3))
    first, second = outline[0::2], outline[1::2]
    third = np.concatenate([first[1:], first[:1]])
    return np.stack([center, first, second, third], axis=1)


def cylinder(
    start: Vector, end: Vector, radius: float, end_radius: float | None = None, segments: int = 8
) -> Array:
    """Closed cylinder or cone frustum between two points.

    Args:
        start: (x, y, z) of the middle of one end, metres.
        end: (x, y, z) of the middle of the other, metres.
        radius: at the start, metres.
        end_radius: at the end, metres; as at the start by default.
        segments: around the axis.
    """
    tail, head = np.asarray(start, float), np.asarray(end, float)
    x, y, z = unit(head - tail).tolist()
    # a direction across the axis, and the one across both
    side = unit(np.array([0.0, -z, y] if abs(x) < 0.9 else [z, 0.0, -x]))
    a, b, c = side.tolist()
    other = np.array([y * c - z * b, z * a - x * c, x * b - y * a])
    turn = (np.arange(segments) + 0.5) * (2 * np.pi / segments)
    circle = cosine(turn)[:, None] * side + sine(turn)[:, None] * other
    last = radius if end_radius is None else end_radius
    return loft([tail + radius * circle, head + last * circle], cap_start=True, cap_end=True)


def lathe(center: Vector, profile: Sequence[tuple[float, float]], segments: int = 16) -> Array:
    """Surface of revolution; the profile is (radius, height) from the bottom up.

    Args:
        center: (x, y, z) of the foot of the axis, metres.
        profile: (radius, height) pairs, metres.
        segments: around the axis.
    """
    x, y, z = center
    return loft([ring((x, y, z + height), radius, radius, segments) for radius, height in profile])


def ball(center: Vector, radius: float, squash: float = 1.0, segments: int = 12) -> Array:
    """Sphere, flattened in height by `squash`.

    Args:
        center: (x, y, z), metres.
        radius: metres.
        squash: height by width.
        segments: around the axis.
    """
    angles = np.linspace(-np.pi / 2, np.pi / 2, 7)
    profile = [(radius * cosine(a) + 1e-4, radius * squash * sine(a)) for a in angles]
    return lathe(center, profile, segments)


def tube(path: Sequence[Vector], radius: float, segments: int = 6) -> Array:
    """Round bar along a chain of points.

    Args:
        path: (x, y, z) of each point, metres.
        radius: metres.
        segments: around the axis.
    """
    pairs = itertools.pairwise(path)
    return np.concatenate([cylinder(a, b, radius, segments=segments) for a, b in pairs])


def sheet(grid: Array) -> Array:
    """((rows-1) * (columns-1), 4, 3) patches of a grid of points (rows, columns, 3)."""
    patches = np.stack([grid[:-1, :-1], grid[:-1, 1:], grid[1:, 1:], grid[1:, :-1]], axis=2)
    return np.asarray(patches.reshape(-1, 4, 3))


def panel(low: Vector, high: Vector, holes: Sequence[tuple[float, float, float, float]]) -> Array:
    """Upright rectangle in the plane y = 0 facing +y, with rectangular holes.

    Args:
        low: (3,) metres, the lowest corner.
        high: (3,) metres, the highest.
        holes: (x0, z0, x1, z1) openings inside it, cut so that neighbours share whole edges.
    """
    x_cuts = sorted({low[0], high[0], *(v for hole in holes for v in (hole[0], hole[2]))})
    z_cuts = sorted({low[1], high[1], *(v for hole in holes for v in (hole[1], hole[3]))})
    quads = []
    for x0, x1 in itertools.pairwise(x_cuts):
        for z0, z1 in itertools.pairwise(z_cuts):
            x, z = (x0 + x1) / 2, (z0 + z1) / 2
            if any(a < x < c and b < z < d for a, b, c, d in holes):
                continue
            quads.append([[x1, 0, z0], [x0, 0, z0], [x0, 0, z1], [x1, 0, z1]])
    return np.array(quads, dtype=np.float64).reshape(-1, 4, 3)


def rotate_z(quads: Array, angle: float, about: tuple[float, float] = (0.0, 0.0)) -> Array:
    """Turn about a vertical axis, counter-clockwise seen from above, in radians.

    Args:
        quads: (n, 4, 3) metres.
        angle: radians.
        about: (x, y) of the axis, metres.
    """
    a, b = cosine(angle), sine(angle)
    pivot = np.array([about[0], about[1], 0.0])
    rotation = np.array([[a, -b, 0], [b, a, 0], [0, 0, 1.0]])
    return np.asarray(transform(quads - pivot, rotation) + pivot)


def rotate_x(quads: Array, angle: float, about: tuple[float, float]) -> Array:
    """Turn about an axis along x through (y, z), positive raises +y to +z, in radians.

    Args:
        quads: (n, 4, 3) metres.
        angle: radians.
        about: (y, z) of the axis, metres.
    """
    a, b = cosine(angle), sine(angle)
    pivot = np.array([0.0, about[0], about[1]])
    rotation = np.array([[1.0, 0, 0], [0, a, -b], [0, b, a]])
    return np.asarray(transform(quads - pivot, rotation) + pivot)


def translate(quads: Array, offset: Vector) -> Array:
    """Shift by (x, y, z)."""
    return np.asarray(quads + np.asarray(offset, float))
