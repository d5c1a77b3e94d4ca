"""Primitive surfaces as quadrilateral patches, seen from outside in counter-clockwise order."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

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
    """(6 - skipped, 4, 3) faces of the box between two corners; `skip` names faces left out."""
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
    """(54, 4, 3) faces of a box with rounded edges; the radius is cut to what fits."""
    bottom, top = np.asarray(low, float), np.asarray(high, float)
    half = (top - bottom) / 2
    radius = min(radius, float(half.min()) * 0.98)
    quads = []
    for face in box(-np.ones(3), np.ones(3)):
        for row in range(3):
            for column in range(3):
                steps = ((column, row), (column + 1, row), (column + 1, row + 1), (column, row + 1))
                quads.append([_face_node(face, i, j, half, radius) for i, j in steps])
    points = np.array(quads)
    core = np.clip(points, -(half - radius), half - radius)
    away = points - core
    length = np.linalg.norm(away, axis=-1, keepdims=True)
    rounded = core + radius * away / np.where(length > 0, length, 1)
    return np.asarray(rounded + (bottom + top) / 2)


def _face_node(face: Array, i: int, j: int, half: Array, radius: float) -> Array:
    """Node (i, j) of 4 x 4 on one face of the box; the inner ones sit a radius from the edge."""
    across, along = face[1] - face[0], face[3] - face[0]
    axis_a, axis_b = int(np.argmax(np.abs(across))), int(np.argmax(np.abs(along)))
    ticks_a = (0.0, radius / (2 * half[axis_a]), 1 - radius / (2 * half[axis_a]), 1.0)
    ticks_b = (0.0, radius / (2 * half[axis_b]), 1 - radius / (2 * half[axis_b]), 1.0)
    return np.asarray((face[0] + across * ticks_a[i] + along * ticks_b[j]) * half)


def ring(center: Vector, radius_x: float, radius_y: float, segments: int = 16) -> Array:
    """(segments, 3) outline of a level ellipse, counter-clockwise seen from above."""
    turn = np.arange(segments) * (2 * np.pi / segments)
    flat = np.stack([radius_x * np.cos(turn), radius_y * np.sin(turn), np.zeros(segments)], -1)
    return np.asarray(flat + np.asarray(center, float))


def rounded_ring(center: Vector, half_x: float, half_y: float, power: float = 4.0) -> Array:
    """(24, 3) outline of a level rectangle with round corners; a higher power is squarer."""
    turn = (np.arange(24) + 0.5) * (2 * np.pi / 24)
    cosine, sine = np.cos(turn), np.sin(turn)
    reach = (np.abs(cosine) ** power + np.abs(sine) ** power) ** (-1 / power)
    flat = np.stack([half_x * cosine * reach, half_y * sine * reach, np.zeros(24)], -1)
    return np.asarray(flat + np.asarray(center, float))


def loft(rings: Sequence[Array], *, cap_start: bool = False, cap_end: bool = False) -> Array:
    """Skin through outlines of equal length; looks outward when they are stacked upward."""
    stack = np.stack(rings)
    following = np.roll(stack, -1, axis=1)
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
    first, second, third = outline[0::2], outline[1::2], np.roll(outline, -2, axis=0)[0::2]
    return np.stack([center, first, second, third], axis=1)


def cylinder(
    start: Vector, end: Vector, radius: float, end_radius: float | None = None, segments: int = 8
) -> Array:
    """Closed cylinder or cone frustum between two points."""
    tail, head = np.asarray(start, float), np.asarray(end, float)
    axis = (head - tail) / np.linalg.norm(head - tail)
    helper = np.array([1.0, 0, 0]) if abs(axis[0]) < 0.9 else np.array([0, 1.0, 0])
    side = np.cross(helper, axis)
    side /= np.linalg.norm(side)
    other = np.cross(axis, side)
    turn = (np.arange(segments) + 0.5) * (2 * np.pi / segments)
    unit = np.cos(turn)[:, None] * side + np.sin(turn)[:, None] * other
    last = radius if end_radius is None else end_radius
    return loft([tail + radius * unit, head + last * unit], cap_start=True, cap_end=True)


def lathe(center: Vector, profile: Sequence[tuple[float, float]], segments: int = 16) -> Array:
    """Surface of revolution; the profile is (radius, height) from the bottom up."""
    x, y, z = center
    return loft([ring((x, y, z + height), radius, radius, segments) for radius, height in profile])


def ball(center: Vector, radius: float, squash: float = 1.0, segments: int = 12) -> Array:
    """Sphere, flattened in height by `squash`."""
    angles = np.linspace(-np.pi / 2, np.pi / 2, 7)
    profile = [(radius * np.cos(a) + 1e-4, radius * squash * np.sin(a)) for a in angles]
    return lathe(center, profile, segments)


def tube(path: Sequence[Vector], radius: float, segments: int = 6) -> Array:
    """Round bar along a chain of points."""
    pairs = itertools.pairwise(path)
    return np.concatenate([cylinder(a, b, radius, segments=segments) for a, b in pairs])


def sheet(grid: Array) -> Array:
    """((rows-1) * (columns-1), 4, 3) patches of a grid of points (rows, columns, 3)."""
    patches = np.stack([grid[:-1, :-1], grid[:-1, 1:], grid[1:, 1:], grid[1:, :-1]], axis=2)
    return np.asarray(patches.reshape(-1, 4, 3))


def panel(low: Vector, high: Vector, holes: Sequence[tuple[float, float, float, float]]) -> Array:
    """Upright rectangle in the plane y = 0 facing +y, with rectangular holes.

    Args:
        low, high: (x, z) corners.
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


def turned(quads: Array, angle: float, about: tuple[float, float] = (0.0, 0.0)) -> Array:
    """Turn about a vertical axis, counter-clockwise seen from above, in radians."""
    cosine, sine = np.cos(angle), np.sin(angle)
    pivot = np.array([about[0], about[1], 0.0])
    rotation = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1.0]])
    return np.asarray((quads - pivot) @ rotation.T + pivot)


def tilted(quads: Array, angle: float, about: tuple[float, float]) -> Array:
    """Turn about an axis along x through (y, z), positive raises +y to +z, in radians."""
    cosine, sine = np.cos(angle), np.sin(angle)
    pivot = np.array([0.0, about[0], about[1]])
    rotation = np.array([[1.0, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    return np.asarray((quads - pivot) @ rotation.T + pivot)


def moved(quads: Array, offset: Vector) -> Array:
    """Shift by (x, y, z)."""
    return np.asarray(quads + np.asarray(offset, float))
