"""Floor plans: rooms on a rectangle, with the doors and windows in their walls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from pcdistill.homes.materials import bernoulli
from pcdistill.homes.portable_math import cosine, sine, snap

WALL = 0.1
"""Thickness of a wall between two rooms, metres."""

_AREAS = {
    "living room": (10.0, 12.5),
    "living kitchen": (15.0, 17.0),
    "kitchen": (6.6, 8.0),
    "bathroom": (4.4, 5.4),
    "bedroom": (9.2, 10.8),
    "second bedroom": (6.8, 8.0),
    "study": (5.4, 6.4),
}
_MIN_LENGTH = {
    "living room": 2.65,
    "living kitchen": 3.1,
    "kitchen": 2.0,
    "bathroom": 1.65,
    "bedroom": 2.5,
    "second bedroom": 2.3,
    "study": 1.95,
}
_PROGRAMS: tuple[tuple[str, ...], ...] = (
    ("living room", "kitchen", "bathroom", "bedroom"),
    ("living room", "kitchen", "bathroom", "bedroom"),
    ("living kitchen", "bathroom", "bedroom"),
    ("living room", "kitchen", "bathroom", "bedroom", "study"),
)
_DOOR_WIDTH, _DOOR_HEIGHT = 0.78, 2.0


class Rect(NamedTuple):
    """Axis-aligned rectangle on the floor, metres."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def width(self) -> float:
        """Extent along x."""
        return self.x1 - self.x0

    @property
    def depth(self) -> float:
        """Extent along y."""
        return self.y1 - self.y0


class Opening(NamedTuple):
    """A hole in one wall of a room; `along` is its centre in the wall's frame."""

    kind: str
    """door (opens into this room), door shut, doorway (the other side), or window."""
    side: int
    """0 south, 1 east, 2 north, 3 west."""
    along: float
    width: float
    low: float
    high: float


class WallFrame(NamedTuple):
    """Where a wall stands: middle of its foot, turn of its frame, length."""

    x: float
    y: float
    angle: float
    length: float


@dataclass
class Room:
    """One room: its name, inner faces of its walls, its height and its openings."""

    name: str
    rect: Rect
    height: float
    openings: list[Opening] = field(default_factory=list)

    def wall(self, side: int) -> WallFrame:
        """Frame of a wall: x runs along it, y points into the room."""
        r = self.rect
        x, y = (r.x0 + r.x1) / 2, (r.y0 + r.y1) / 2
        if side == 0:
            return WallFrame(x, r.y0, 0.0, r.width)
        if side == 1:
            return WallFrame(r.x1, y, math.pi / 2, r.depth)
        if side == 2:
            return WallFrame(x, r.y1, math.pi, r.width)
        return WallFrame(r.x0, y, -math.pi / 2, r.depth)

    def at_wall(self, side: int, along: float) -> tuple[float, float, float]:
        """(x, y, angle) of a place on a wall."""
        wall = self.wall(side)
        return (
            wall.x + along * cosine(wall.angle),
            wall.y + along * sine(wall.angle),
            wall.angle,
        )


def floor_plan(rng: np.random.Generator) -> list[Room]:
    """Three to five rooms of 26 to 40 square metres in all, every one reachable by doors."""
    names = list(_PROGRAMS[int(rng.integers(len(_PROGRAMS)))])
    for _ in range(5000):
        areas = [float(rng.uniform(*_AREAS[name])) for name in names]
        total = sum(areas)
        width = math.sqrt(total * rng.uniform(0.75, 1.35))
        cells = _split(rng, Rect(0, 0, width, total / width), list(zip(names, areas, strict=True)))
        if not all(_fits(name, rect) for name, rect in cells):
            continue
        height = snap(float(rng.uniform(2.4, 2.6)))
        rooms = [Room(name, _inset(rect), height) for name, rect in cells]
        if _connect(rng, rooms) and _open_outside(rng, rooms, Rect(0, 0, width, total / width)):
            return rooms
    raise RuntimeError("no floor plan in 5000 attempts")  # pragma: no cover


def _fits(name: str, rect: Rect) -> bool:
    sides = sorted((rect.width - WALL, rect.depth - WALL))
    return sides[0] >= _MIN_LENGTH[name] and sides[1] / sides[0] < 2.1


def _inset(rect: Rect) -> Rect:
    """The inner faces of the walls around a cell, on the grid."""
    half = WALL / 2
    inner = (rect.x0 + half, rect.y0 + half, rect.x1 - half, rect.y1 - half)
    return Rect(*(snap(value) for value in inner))


def _split(
    rng: np.random.Generator, rect: Rect, rooms: list[tuple[str, float]]
) -> list[tuple[str, Rect]]:
    """Cut the rectangle across its longer side until every room has its share."""
    if len(rooms) == 1:
        return [(rooms[0][0], rect)]
    order = [rooms[i] for i in rng.permutation(len(rooms))]
    cut = int(rng.integers(1, len(order)))
    fraction = sum(area for _, area in order[:cut]) / sum(area for _, area in order)
    if rect.width > rect.depth:
        middle = rect.x0 + fraction * rect.width
        parts = rect._replace(x1=middle), rect._replace(x0=middle)
    else:
        middle = rect.y0 + fraction * rect.depth
        parts = rect._replace(y1=middle), rect._replace(y0=middle)
    return _split(rng, parts[0], order[:cut]) + _split(rng, parts[1], order[cut:])


def _shared_wall(a: Rect, b: Rect) -> tuple[int, float, float] | None:
    """(side of a, start, stop in world coordinates) of the wall that two rooms share."""
    near = WALL * 1.01
    x0, x1 = max(a.x0, b.x0), min(a.x1, b.x1)
    y0, y1 = max(a.y0, b.y0), min(a.y1, b.y1)
    for side, gap, start, stop in (
        (0, a.y0 - b.y1, x0, x1),
        (1, b.x0 - a.x1, y0, y1),
        (2, b.y0 - a.y1, x0, x1),
        (3, a.x0 - b.x1, y0, y1),
    ):
        if 0 < gap <= near and stop - start > _DOOR_WIDTH + 0.3:
            return side, start, stop
    return None


def _connect(rng: np.random.Generator, rooms: Sequence[Room]) -> bool:
    """Doors along a spanning tree that prefers the living room; False where there is none."""
    rank = {"living room": 0, "living kitchen": 0, "kitchen": 1, "bathroom": 4}
    edges = []
    for i, first in enumerate(rooms):
        for j in range(i + 1, len(rooms)):
            wall = _shared_wall(first.rect, rooms[j].rect)
            if wall:
                weight = rank.get(first.name, 2) + rank.get(rooms[j].name, 2) + rng.random()
                edges.append((weight, i, j, wall))
    group = list(range(len(rooms)))
    for _, i, j, wall in sorted(edges):
        if group[i] != group[j]:
            group = [group[i] if g == group[j] else g for g in group]
            _add_door(rng, rooms[i], rooms[j], wall)
    return len(set(group)) == 1


def _add_door(rng: np.random.Generator, a: Room, b: Room, wall: tuple[int, float, float]) -> None:
    side, start, stop = wall
    margin = 0.15 + _DOOR_WIDTH / 2
    place = start + margin if bernoulli(rng, 0.4) else stop - margin
    if bernoulli(rng, 0.2):
        place = float(rng.uniform(start + margin, stop - margin))
    shut = bernoulli(rng, 0.4)
    into_a = a.rect.width * a.rect.depth > b.rect.width * b.rect.depth
    for room, wall_side, mine in ((a, side, into_a), (b, (side + 2) % 4, not into_a)):
        kind = ("door shut" if shut else "door") if mine else "doorway"
        along = snap(_along(room, wall_side, place))
        room.openings.append(Opening(kind, wall_side, along, _DOOR_WIDTH, 0.0, _DOOR_HEIGHT))


def _along(room: Room, side: int, place: float) -> float:
    """World coordinate along a wall to the wall's own coordinate."""
    wall = room.wall(side)
    middle = wall.x if side in (0, 2) else wall.y
    return (place - middle) * (1 if side in (0, 1) else -1)


def _open_outside(rng: np.random.Generator, rooms: Sequence[Room], outline: Rect) -> bool:
    """Windows for every room that has an outer wall, and one shut entrance door."""
    entrance = next(room for room in rooms if room.name.startswith("living"))
    _add_outside(rng, entrance, outline, "door shut", (0.85, 0.9), (0.0, 0.0), (2.02, 2.02))
    if bernoulli(rng, 0.4):
        other = rooms[int(rng.integers(len(rooms)))]
        _add_outside(rng, other, outline, "door shut", (0.7, 0.7), (0.0, 0.0), (2.0, 2.0))
    windows = 0
    for room in rooms:
        wide, low, high = (1.0, 1.7), (0.7, 0.95), (2.0, 2.15)
        if room.name == "bathroom":
            wide, low, high = (0.5, 0.7), (1.3, 1.45), (1.95, 2.1)
        elif room.name == "kitchen":
            wide, low, high = (0.8, 1.1), (1.08, 1.15), (1.95, 2.1)
        count = 2 if room.name.startswith("living") and bernoulli(rng, 0.6) else 1
        for _ in range(count):
            done = _add_outside(rng, room, outline, "window", wide, low, high)
            windows += done and room.name not in ("bathroom", "kitchen")
    return windows >= 1


def _add_outside(
    rng: np.random.Generator,
    room: Room,
    outline: Rect,
    kind: str,
    wide: tuple[float, float],
    low: tuple[float, float],
    high: tuple[float, float],
) -> bool:
    """Open an outer wall where there is room; False where there is none."""
    sides = [side for side in range(4) if _is_outer(room.rect, side, outline)]
    for side in rng.permutation(sides) if sides else ():
        length = room.wall(int(side)).length
        width = min(float(rng.uniform(*wide)), length - 0.7)
        if width < min(wide[0], 0.8) * 0.95:
            continue
        for _ in range(8):
            reach = (length - width) / 2 - 0.22
            along = snap(float(rng.uniform(-reach, reach)))
            foot, top = float(rng.uniform(*low)), float(rng.uniform(*high))
            opening = Opening(kind, int(side), along, snap(width), snap(foot), snap(top))
            if all(_apart(opening, other) for other in room.openings):
                room.openings.append(opening)
                return True
    return False


def _is_outer(rect: Rect, side: int, outline: Rect) -> bool:
    gaps = (
        rect.y0 - outline.y0,
        outline.x1 - rect.x1,
        outline.y1 - rect.y1,
        rect.x0 - outline.x0,
    )
    return gaps[side] < WALL


def _apart(a: Opening, b: Opening) -> bool:
    return a.side != b.side or abs(a.along - b.along) > (a.width + b.width) / 2 + 0.35
