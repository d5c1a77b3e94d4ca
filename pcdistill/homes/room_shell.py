"""The shell of a room: walls with openings, floor, ceiling, doors and windows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pcdistill.homes.collection import any_kind, choose, measure
from pcdistill.homes.floorplan import WALL, Room
from pcdistill.homes.furniture.doors_and_windows import (
    closed_door,
    curtain,
    door_finish,
    door_frame,
    open_door,
    window,
)
from pcdistill.homes.materials import Finish, bernoulli, make_finish
from pcdistill.homes.model import FurnitureModel
from pcdistill.homes.portable_math import cosine, sine
from pcdistill.homes.primitives import panel, rotate_z


class RoomFinishes(NamedTuple):
    """Finishes of a room."""

    wall: Finish
    accent: Finish
    floor: Finish
    ceiling: Finish


def sample_room_finishes(rng: np.random.Generator, name: str) -> RoomFinishes:
    """Tiles in the bathroom and often in the kitchen, planks, tiles or carpet elsewhere."""
    wet = name == "bathroom"
    wall = _wall_finish(rng, tiled=wet and bernoulli(rng, 0.75))
    accent = wall if wet or bernoulli(rng, 0.65) else _wall_finish(rng, tiled=False)
    ceiling = make_finish(rng, "paint", "white", "plaster", jitter=0.02)
    return RoomFinishes(wall, accent, _floor_finish(rng, name), ceiling)


def _wall_finish(rng: np.random.Generator, *, tiled: bool) -> Finish:
    if tiled:
        color = choose(rng, ("white", "white", "light blue", "cream", "gray", "teal", "green"))
        size = float(choose(rng, (0.1, 0.15, 0.2, 0.3)))
        return make_finish(rng, "tile", color, "tiles", scale=size, second="gray", jitter=0.03)
    color = choose(
        rng,
        ("white", "white", "white", "cream", "cream", "beige", "gray", "light blue", "green",
         "yellow", "pink", "teal"),
    )  # fmt: skip
    finish = make_finish(rng, "paint", color, "plaster", jitter=0.04)
    pale = tuple(0.45 * part + 0.5 for part in finish.color)
    finish = finish._replace(color=(pale[0], pale[1], pale[2]))
    if bernoulli(rng, 0.12):  # wallpaper
        paper = choose(rng, ("stripes", "dots"))
        other = tuple(part * 0.93 for part in finish.color)
        papered = make_finish(rng, "paper", color, paper, scale=measure(rng, 0.1, 0.18))
        return papered._replace(color=finish.color, second=(other[0], other[1], other[2]))
    return finish


def _floor_finish(rng: np.random.Generator, name: str) -> Finish:
    kinds = {"bathroom": ("tiles",), "kitchen": ("tiles", "planks")}.get(
        name, ("planks", "planks", "planks", "carpet", "tiles")
    )
    kind = any_kind(rng, kinds)
    if kind == "planks":
        color = choose(rng, ("light brown", "brown", "beige", "dark brown", "gray"))
        return make_finish(rng, "wood", color, "planks", scale=measure(rng, 0.09, 0.16))
    if kind == "carpet":
        color = choose(rng, ("beige", "gray", "dark blue", "brown", "dark gray", "green"))
        finish = make_finish(rng, "fabric", color, "weave", scale=0.012)
        dull = tuple(0.55 * part + 0.18 for part in finish.color)
        return finish._replace(color=(dull[0], dull[1], dull[2]))
    color = choose(rng, ("gray", "white", "beige", "brown", "dark gray"))
    return make_finish(
        rng, "tile", color, "tiles", scale=float(choose(rng, (0.2, 0.3, 0.4))), second="dark gray"
    )


def room_surfaces(room: Room, finishes: RoomFinishes, accent_side: int) -> FurnitureModel:
    """Walls (one piece each), floor with door sills, and ceiling.

    Args:
        room: with its openings.
        finishes: of its walls, floor and ceiling.
        accent_side: number of the wall with the accent finish.
    """
    model, r, h = FurnitureModel(), room.rect, room.height
    for side in range(4):
        wall = room.wall(side)
        half = wall.length / 2
        holes = [
            (o.along - o.width / 2, o.low, o.along + o.width / 2, o.high)
            for o in room.openings
            if o.side == side
        ]
        quads = panel((-half, 0.0), (half, h), holes)
        shown = rotate_z(quads, wall.angle) + np.array([wall.x, wall.y, 0])
        model.add("wall", (shown, finishes.accent if side == accent_side else finishes.wall))
    floor = [np.array([[[r.x0, r.y0, 0], [r.x1, r.y0, 0], [r.x1, r.y1, 0], [r.x0, r.y1, 0]]])]
    floor += [
        _sill(room, o.side, o.along, o.width)
        for o in room.openings
        if o.kind in ("door", "door shut")
    ]
    model.add("floor", (floor, finishes.floor))
    top = np.array([[[r.x0, r.y0, h], [r.x0, r.y1, h], [r.x1, r.y1, h], [r.x1, r.y0, h]]])
    return model.add("ceiling", (top, finishes.ceiling))


def _sill(room: Room, side: int, along: float, width: float) -> np.ndarray:
    """The floor inside a doorway."""
    half = width / 2
    quad = np.array([[[-half, -WALL, 0], [half, -WALL, 0], [half, 0, 0], [-half, 0, 0]]])
    x, y, angle = room.at_wall(side, along)
    return np.asarray(rotate_z(quad, angle) + np.array([x, y, 0]))


def opening_models(
    rng: np.random.Generator, room: Room
) -> tuple[list[FurnitureModel], list[FurnitureModel]]:
    """Doors and windows of a room, and the curtains of its windows, all in place."""
    fixed, curtains = [], []
    for o in room.openings:
        x, y, angle = room.at_wall(o.side, o.along)
        if o.kind == "door":
            swing = float(measure(rng, 1.35, 1.6))
            model = open_door(rng, o.width, o.high, WALL, swing, -1 if bernoulli(rng, 0.5) else 1)
        elif o.kind == "door shut":
            model = closed_door(rng, o.width, o.high, WALL)
        elif o.kind == "doorway":
            model = FurnitureModel().add(
                "door", (door_frame(o.width, o.high, 0.0)[:3], door_finish(rng))
            )
        else:
            model = window(rng, o.width, o.low, o.high)
            if _wants_curtain(rng, room.name):
                hung = curtain(rng, o.width, o.low, o.high, room.height)
                curtains.append(_within(hung, room, o.side, o.along).transformed(x, y, 0, angle))
        fixed.append(model.transformed(x, y, 0, angle))
    return fixed, curtains


def _wants_curtain(rng: np.random.Generator, name: str) -> bool:
    return name not in ("bathroom", "kitchen") and bernoulli(rng, 0.9)


def _within(model: FurnitureModel, room: Room, side: int, along: float) -> FurnitureModel:
    """Squeeze a model along its wall so that it ends before the corners."""
    half = room.wall(side).length / 2 - 0.03
    low, high = model.bounds()
    squeeze = min(1.0, (half - along) / high[0], (half + along) / -low[0])
    if squeeze >= 1:
        return model
    scale = np.array([squeeze, 1, 1])
    shrunk = FurnitureModel()
    for piece in model.pieces:
        shrunk.add(piece.category, *((part.quads * scale, part.finish) for part in piece.parts))
    return shrunk


def room_lights(room: Room, rng: np.random.Generator) -> np.ndarray:
    """(2, 6) position and colour of the lamp under the ceiling and of the daylight."""
    r = room.rect
    lamp = [(r.x0 + r.x1) / 2, (r.y0 + r.y1) / 2, room.height - 0.6]
    warm = measure(rng, 0.8, 1.0)
    power = measure(rng, 0.75, 1.05)
    panes = [o for o in room.openings if o.kind == "window"]
    if panes:
        x, y, angle = room.at_wall(panes[0].side, panes[0].along)
        sky = [x - 0.1 * sine(angle), y + 0.1 * cosine(angle), 1.6]
        bright = measure(rng, 0.25, 0.6)
    else:
        sky, bright = lamp, 0.0
    daylight = [bright * 0.95, bright, bright * 1.06]
    return np.array([[*lamp, power, power * (0.7 + 0.3 * warm), power * warm], [*sky, *daylight]])
