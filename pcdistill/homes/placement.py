"""Placement of furniture in a room, without overlaps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pcdistill.homes.floorplan import Room
from pcdistill.homes.model import FurnitureModel
from pcdistill.homes.portable_math import cosine, sine

_GAP = 0.02  # metres kept between neighbours
_PLACES = 25  # positions tried along a wall


class Box3d(NamedTuple):
    """An axis-aligned box in the room, metres."""

    x0: float
    y0: float
    z0: float
    x1: float
    y1: float
    z1: float

    def meets(self, other: Box3d) -> bool:
        """Whether two boxes overlap."""
        return (
            self.x0 < other.x1
            and other.x0 < self.x1
            and self.y0 < other.y1
            and other.y0 < self.y1
            and self.z0 < other.z1
            and other.z0 < self.z1
        )


def bounding_box(model: FurnitureModel) -> Box3d:
    """Bounding box of a placed model."""
    low, high = model.bounds()
    return Box3d(*(float(v) for v in (*low, *high)))


Bounds = tuple[np.ndarray, np.ndarray]


def _quarter_turned(bounds: Bounds, side: int, x: float, y: float, lift: float) -> Box3d:
    """Bounding box of a model at the wall `side`, from its own bounds."""
    (a, b, c), (d, e, f) = (corner.tolist() for corner in bounds)
    x0, y0, x1, y1 = ((a, b, d, e), (-e, a, -b, d), (-d, -e, -a, -b), (b, -d, e, -a))[side]
    return Box3d(x + x0, y + y0, lift + c, x + x1, y + y1, lift + f)


class RoomLayout:
    """The furniture of one room and the space it leaves."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.solids: list[Box3d] = []
        self.keep_free: list[Box3d] = []
        self.models: list[FurnitureModel] = []
        for opening in room.openings:
            if opening.kind != "window":
                self._keep_door_free(opening.side, opening.along, opening.width)

    def add_fixed(self, model: FurnitureModel) -> None:
        """Take a model that is already in place, such as a curtain or an open door."""
        self.models.append(model)
        for piece in model.pieces:
            self.solids.append(bounding_box(FurnitureModel([piece])))

    def place_against_wall(
        self,
        rng: np.random.Generator,
        model: FurnitureModel,
        *,
        clearance: float = 0.5,
        sides: Sequence[int] = (0, 1, 2, 3),
        corner: float = 0.5,
        lift: float = 0.0,
    ) -> tuple[int, float] | None:
        """Stand a model with its back to a wall; returns (side, along) or None.

        `clearance` metres before it stay free; with probability `corner` it is tried in the
        corners first; `lift` is the height of its foot.

        Args:
            rng: random numbers of the home.
            model: in its own frame, with its back at y = 0.
            clearance: metres before it that stay free.
            sides: walls that are tried.
            corner: probability that the corners are tried first.
            lift: height of its foot, metres.
        """
        low, high = model.bounds()
        for side in rng.permutation(list(sides)):
            half = self.room.wall(int(side)).length / 2
            first, last = -half - low[0] + _GAP, half - high[0] - _GAP
            if last < first:
                continue
            places = [float(v) for v in rng.permutation(np.linspace(first, last, _PLACES))]
            ends = [first, last] if rng.random() < 0.5 else [last, first]
            places = ends + places if rng.random() < corner else places + ends
            for along in places:
                if self.try_place_at_wall(model, int(side), along, clearance, lift):
                    return int(side), along
        return None

    def try_place_at_wall(
        self, model: FurnitureModel, side: int, along: float, clearance: float, lift: float = 0.0
    ) -> bool:
        """Stand a model at one place on a wall if it fits there.

        Args:
            model: in its own frame, with its back at y = 0.
            side: number of the wall.
            along: place on the wall, metres from its middle.
            clearance: metres before it that stay free.
            lift: height of its foot, metres.
        """
        bounds = model.bounds()
        x, y, angle = self.room.at_wall(side, along)
        x, y = x - sine(angle) * 0.005, y + cosine(angle) * 0.005
        solid = _quarter_turned(bounds, side, x, y, lift)
        front = self._front(solid, side, clearance)
        if not self.fits(solid) or self._covers_opening(bounds, side, along, lift):
            return False
        if any(front.meets(other) for other in self.solids):
            return False
        self.add(model.transformed(x, y, lift, angle), front)
        return True

    def fits(self, solid: Box3d) -> bool:
        """Whether a box lies in the room and meets nothing."""
        r, tolerance = self.room.rect, 0.004
        inside = (
            solid.x0 > r.x0 - tolerance
            and solid.y0 > r.y0 - tolerance
            and solid.x1 < r.x1 + tolerance
            and solid.y1 < r.y1 + tolerance
            and solid.z1 < self.room.height
        )
        return inside and not any(solid.meets(b) for b in (*self.solids, *self.keep_free))

    def add(self, placed: FurnitureModel, front: Box3d | None = None) -> None:
        """Add a placed model and the space before it."""
        self.models.append(placed)
        self.solids.append(bounding_box(placed))
        if front is not None:
            self.keep_free.append(front)

    def try_place(self, model: FurnitureModel, x: float, y: float, angle: float) -> bool:
        """Stand a model anywhere on the floor if it fits there.

        Args:
            model: in its own frame.
            x: metres.
            y: metres.
            angle: turn about z, radians.
        """
        placed = model.transformed(x, y, 0, angle)
        if not self.fits(bounding_box(placed)):
            return False
        self.add(placed)
        return True

    def place_on_wall(self, rng: np.random.Generator, model: FurnitureModel, height: float) -> bool:
        """Hang a model on a free stretch of wall with its origin at `height`.

        Args:
            rng: random numbers of the home.
            model: in its own frame, with its back at y = 0.
            height: of its origin, metres.
        """
        low, high = model.bounds()
        for _ in range(12):
            side = int(rng.integers(4))
            half = self.room.wall(side).length / 2 - 0.1
            first, last = -half - low[0], half - high[0]
            if last <= first:
                continue
            along = float(rng.uniform(first, last))
            if self._near_opening((low, high), side, along):
                continue
            x, y, angle = self.room.at_wall(side, along)
            solid = _quarter_turned((low, high), side, x, y, height)
            if not any(solid.meets(other) for other in self.solids):
                self.add(model.transformed(x, y, height, angle))
                return True
        return False

    def free_cells(self, margin: float, step: float = 0.1, tall: float = 0.95) -> np.ndarray:
        """(n, 2) floor positions at least `margin` from walls and from whatever is tall.

        Things lower than `tall` metres only keep a third of the margin: a person's arms reach
        over them.

        Args:
            margin: metres.
            step: between the positions, metres.
            tall: height from which things keep the whole margin, metres.
        """
        r = self.room.rect
        x, y = np.meshgrid(
            np.arange(r.x0 + margin, r.x1 - margin + 1e-6, step),
            np.arange(r.y0 + margin, r.y1 - margin + 1e-6, step),
        )
        cells = np.stack([x.ravel(), y.ravel()], axis=1)
        free = np.ones(len(cells), dtype=bool)
        for b in self.solids:
            if b.z0 > 2.0:
                continue
            keep = margin if b.z1 > tall else margin / 3
            inside = (
                (cells[:, 0] > b.x0 - keep)
                & (cells[:, 0] < b.x1 + keep)
                & (cells[:, 1] > b.y0 - keep)
                & (cells[:, 1] < b.y1 + keep)
            )
            free &= ~inside
        return cells[free]

    def _front(self, solid: Box3d, side: int, clearance: float) -> Box3d:
        """The space before something at a wall."""
        x0, y0, _, x1, y1, _ = solid
        top = min(solid.z1, 1.9)
        if side == 0:
            return Box3d(x0, y1, 0.05, x1, y1 + clearance, top)
        if side == 1:
            return Box3d(x0 - clearance, y0, 0.05, x0, y1, top)
        if side == 2:
            return Box3d(x0, y0 - clearance, 0.05, x1, y0, top)
        return Box3d(x1, y0, 0.05, x1 + clearance, y1, top)

    def _keep_door_free(self, side: int, along: float, width: float) -> None:
        x, y, angle = self.room.at_wall(side, along)
        half = width / 2 + 0.08
        along_axis = np.array([cosine(angle), sine(angle)]) * half
        inward = np.array([-sine(angle), cosine(angle)]) * 0.75
        corners = np.array([x, y]) + np.array([along_axis, -along_axis, along_axis + inward])
        low, high = corners.min(axis=0), corners.max(axis=0)
        self.keep_free.append(Box3d(low[0], low[1], 0.0, high[0], high[1], 2.0))

    def _covers_opening(self, bounds: Bounds, side: int, along: float, lift: float) -> bool:
        low, high = bounds
        for o in self.room.openings:
            beside = (
                along + low[0] > o.along + o.width / 2 or along + high[0] < o.along - o.width / 2
            )
            if (
                o.side == side
                and not beside
                and high[2] + lift > o.low - 0.02
                and low[2] + lift < o.high
            ):
                return True
        return False

    def _near_opening(self, bounds: Bounds, side: int, along: float) -> bool:
        low, high = bounds
        return any(
            o.side == side
            and along + high[0] > o.along - o.width / 2 - 0.12
            and along + low[0] < o.along + o.width / 2 + 0.12
            for o in self.room.openings
        )
