"""Furnishing: which furniture a room gets, and where."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from pcdistill.homes.collection import draws_like
from pcdistill.homes.furniture import bath, kitchen, storage, tables
from pcdistill.homes.furniture import beds_and_seats as rest
from pcdistill.homes.furniture import lamps_plants_and_bins as small
from pcdistill.homes.furniture.doors_and_windows import picture
from pcdistill.homes.materials import bernoulli
from pcdistill.homes.model import FurnitureModel
from pcdistill.homes.placement import Box3d, RoomLayout, bounding_box
from pcdistill.homes.portable_math import cosine, sine

_WALKABLE = 12  # cells of 10 cm that must stay free for a camera


def furnish(rng: np.random.Generator, space: RoomLayout) -> set[str]:
    """Fill a room by its name; returns the required furniture that found no place."""
    plan = {
        "living room": _living_room,
        "living kitchen": _living_kitchen,
        "kitchen": _kitchen,
        "bathroom": _bathroom,
        "bedroom": _bedroom,
        "second bedroom": _bedroom,
        "study": _study,
    }[space.room.name]
    missing = plan(rng, space)
    if len(space.free_cells(0.38)) < _WALKABLE:
        missing.add("free floor")
    return missing


def _optional(
    rng: np.random.Generator,
    space: RoomLayout,
    maker: Callable[[np.random.Generator], FurnitureModel],
    probability: float,
    clearance: float = 0.3,
) -> bool:
    """Stand something at a wall if chance and space allow, and a person can still walk there."""
    if not bernoulli(rng, probability):
        return False
    before = (len(space.models), len(space.solids), len(space.keep_free))
    if space.place_against_wall(rng, maker(rng), clearance=clearance) is None:
        return False
    if len(space.free_cells(0.38)) < _WALKABLE * 2:
        del space.models[before[0] :], space.solids[before[1] :], space.keep_free[before[2] :]
        return False
    return True


def _required(
    rng: np.random.Generator,
    space: RoomLayout,
    maker: Callable[[np.random.Generator], FurnitureModel],
    clearance: float,
    corner: float = 0.5,
) -> bool:
    """Stand something at a wall: several variants, in the end with little space before it."""
    for fraction in (1.0, 1.0, 0.85, 0.7, 0.6):
        if space.place_against_wall(rng, maker(rng), clearance=clearance * fraction, corner=corner):
            return True
    return False


def _bathroom(rng: np.random.Generator, space: RoomLayout) -> set[str]:
    missing = set()
    if not _tub(rng, space):
        missing.add("bathtub")
    if not _required(rng, space, bath.toilet, 0.4, 0.7):
        missing.add("toilet")
    if not _required(rng, space, bath.bathroom_sink, 0.45, 0.6):
        missing.add("sink")
    _optional(rng, space, lambda g: storage.cabinet(g, "cupboard"), 0.35, 0.4)
    _optional(rng, space, small.waste_bin, 0.5, 0.05)
    for _ in range(2):
        if bernoulli(rng, 0.6):
            space.place_on_wall(rng, bath.towel(rng), rng.uniform(0.75, 1.0))
    _pictures(rng, space, 1, 0.2)
    return missing


def _tub(rng: np.random.Generator, space: RoomLayout) -> bool:
    sides = sorted(range(4), key=lambda s: (space.room.wall(s).length > 2.3, rng.random()))
    for side in sides:
        length = space.room.wall(side).length
        whole_wall = 1.45 <= length <= 2.05
        reach = length - 0.045 if whole_wall else min(1.7, length - 0.05)
        if reach < 1.4:
            continue
        for built_in in (True, False) if bernoulli(rng, 0.75) else (False, True):
            model = bath.bathtub(rng, reach, built_in=built_in)
            depth = float(model.bounds()[1][1])
            model.extend(bath.shower_curtain(rng, reach, depth))
            if (
                space.place_against_wall(rng, model, clearance=0.5, sides=[side], corner=1.0)
                is not None
            ):
                return True
    return False


def _kitchen_run(rng: np.random.Generator, space: RoomLayout) -> set[str]:
    missing = set()
    placed = None
    for width in (rng.uniform(1.7, 2.3), 1.6, 1.3):
        placed = space.place_against_wall(
            rng, kitchen.counter(rng, float(width)), clearance=0.7, corner=0.9
        )
        if placed:
            break
    if placed is None:
        missing.add("counter")
    else:
        _hang_cabinets(rng, space, placed, float(width))
    if not _required(rng, space, kitchen.refrigerator, 0.6, 0.8):
        missing.add("refrigerator")
    if bernoulli(rng, 0.45):
        second = kitchen.counter(rng, float(rng.uniform(0.7, 1.2)), with_sink=False)
        space.place_against_wall(rng, second, clearance=0.6, corner=0.8)
    return missing


def _hang_cabinets(
    rng: np.random.Generator, space: RoomLayout, place: tuple[int, float], width: float
) -> None:
    side, along = place
    for _ in range(4):
        fraction = float(rng.uniform(0.45, 1.0)) * width
        shift = float(rng.uniform(-1, 1)) * (width - fraction) / 2
        if space.try_place_at_wall(
            kitchen.hanging_cabinets(rng, fraction), side, along + shift, 0.0
        ):
            return


def _kitchen(rng: np.random.Generator, space: RoomLayout) -> set[str]:
    missing = _kitchen_run(rng, space)
    _dining(rng, space, rng.uniform(0.8, 1.0))
    _optional(rng, space, lambda g: storage.cabinet(g, "cupboard"), 0.4)
    _optional(rng, space, small.waste_bin, 0.6, 0.05)
    _pictures(rng, space, 1, 0.6)
    return missing


def _living_room(rng: np.random.Generator, space: RoomLayout) -> set[str]:
    missing = set()
    if not _seating(rng, space):
        missing.add("sofa")
    if not _required(rng, space, storage.bookshelf, 0.45, 0.7):
        missing.add("bookshelf")
    _optional(rng, space, small.tv_stand, 0.8, 0.4)
    _dining(rng, space, 0.75)
    _optional(rng, space, lambda g: storage.cabinet(g, "sideboard"), 0.6, 0.4)
    _optional(rng, space, small.floor_lamp, 0.7, 0.1)
    _optional(rng, space, small.plant, 0.6, 0.05)
    _optional(rng, space, rest.chair, 0.5, 0.3)
    _optional(rng, space, rest.ottoman, 0.3, 0.2)
    _pictures(rng, space, 4, 0.75)
    return missing


def _living_kitchen(rng: np.random.Generator, space: RoomLayout) -> set[str]:
    missing = _kitchen_run(rng, space)
    return missing | _living_room(rng, space)


def _bedroom(rng: np.random.Generator, space: RoomLayout) -> set[str]:
    missing = set()
    bed = rest.bed(rng)
    placed = space.place_against_wall(rng, bed, clearance=0.25, corner=0.4)
    if placed is None:
        missing.add("bed")
    else:
        half = float(bed.bounds()[1][0])
        for sign in (-1, 1):
            if bernoulli(rng, 0.8):
                stand = small.nightstand(rng)
                away = half + float(stand.bounds()[1][0]) + 0.05
                space.try_place_at_wall(stand, placed[0], placed[1] + sign * away, 0.05)
    if not _desk_place(rng, space, 0.92):
        missing.add("desk")
    if not _required(rng, space, _bedroom_cabinet, 0.45, 0.7):
        missing.add("cabinet")
    _optional(rng, space, storage.bookshelf, 0.3)
    _optional(rng, space, small.clothes_rack, 0.25)
    _optional(rng, space, small.plant, 0.35, 0.05)
    _optional(rng, space, small.floor_lamp, 0.25, 0.05)
    _optional(rng, space, tables.crate, 0.3, 0.05)
    _pictures(rng, space, 3, 0.7)
    return missing


def _study(rng: np.random.Generator, space: RoomLayout) -> set[str]:
    missing = set()
    if not _desk_place(rng, space, 1.0):
        missing.add("desk")
    if not _required(rng, space, storage.bookshelf, 0.4, 0.7):
        missing.add("bookshelf")
    _optional(rng, space, storage.cabinet, 0.6)
    _optional(rng, space, rest.chair, 0.4)
    _optional(rng, space, small.plant, 0.4, 0.05)
    _optional(rng, space, tables.crate, 0.5, 0.05)
    _optional(rng, space, small.waste_bin, 0.5, 0.05)
    _pictures(rng, space, 2, 0.7)
    return missing


def _desk_place(rng: np.random.Generator, space: RoomLayout, chairs: float) -> bool:
    """A desk at a wall and, if there is space, a chair before it that faces it."""
    for clearance in (0.66, 0.66, 0.6, 0.4, 0.3):
        desk = tables.desk(rng)
        placed = space.place_against_wall(rng, desk, clearance=clearance, corner=0.6)
        if placed is None:
            continue
        if bernoulli(rng, chairs):
            space.keep_free.pop()
            _face_wall(rng, space, rest.desk_chair(rng), placed, float(desk.bounds()[1][1]))
        return True
    return False


def _face_wall(
    rng: np.random.Generator,
    space: RoomLayout,
    seat: FurnitureModel,
    place: tuple[int, float],
    depth: float,
) -> bool:
    side, along = place
    far = depth + float(seat.bounds()[1][1]) + rng.uniform(0.0, 0.12)
    x, y, angle = space.room.at_wall(side, along + rng.uniform(-0.15, 0.15))
    x, y = x - sine(angle) * far, y + cosine(angle) * far
    return space.try_place(seat, x, y, angle + math.pi + rng.normal(0, 0.12))


def _seating(rng: np.random.Generator, space: RoomLayout) -> bool:
    """A sofa at a wall with a low table before it."""
    for _ in range(4):
        sofa = rest.sofa(rng)
        placed = space.place_against_wall(rng, sofa, clearance=0.35, corner=0.4)
        if placed is None:
            continue
        if bernoulli(rng, 0.8):
            depth = float(sofa.bounds()[1][1])
            space.keep_free.pop()
            x, y, angle = space.room.at_wall(*placed)
            far = depth + rng.uniform(0.28, 0.38)
            x, y = x - sine(angle) * far, y + cosine(angle) * far
            space.try_place(tables.coffee_table(rng), x, y, angle)
        return True
    return False


def _dining(rng: np.random.Generator, space: RoomLayout, probability: float) -> bool:
    """A table somewhere in the room with chairs around it that look at it."""
    if not bernoulli(rng, probability):
        return False
    for _ in range(25):
        board = tables.table(rng)
        low, high = board.bounds()
        r = space.room.rect
        quarter = int(rng.integers(4))
        x, y = rng.uniform(r.x0 + 0.5, r.x1 - 0.5), rng.uniform(r.y0 + 0.5, r.y1 - 0.5)
        placed = board.transformed(x, y, 0, quarter * math.pi / 2)
        solid = bounding_box(placed)
        roomy = Box3d(solid.x0 - 0.3, solid.y0 - 0.3, 0, solid.x1 + 0.3, solid.y1 + 0.3, 1.0)
        if not space.fits(solid) or sum(roomy.meets(other) for other in space.solids) > 1:
            continue
        mark = (len(space.models), len(space.solids), len(space.keep_free))
        space.add(placed)
        for thing in tables.table_top_things(rng, float(high[2])):
            middle = (low + high) / 2
            inner = thing.transformed(float(middle[0]), float(middle[1]))
            space.models.append(inner.transformed(x, y, 0, quarter * math.pi / 2))
        if _chairs_around(rng, space, solid) and len(space.free_cells(0.38)) >= _WALKABLE * 2:
            return True
        del space.models[mark[0] :], space.solids[mark[1] :], space.keep_free[mark[2] :]
    return False


def _chairs_around(rng: np.random.Generator, space: RoomLayout, board: Box3d) -> int:
    """Chairs of one kind on the sides of a table; how many found a place."""
    state = int(rng.integers(2**31))
    wide, deep = board.x1 - board.x0, board.y1 - board.y0
    count = 0
    for turn in rng.permutation(4):
        along = wide if turn in (0, 2) else deep
        for offset in (-0.27, 0.27) if along > 1.0 else (0.0,):
            if not bernoulli(rng, 0.75):
                continue
            seat = rest.dining_chair(draws_like(rng, state))
            # its own frame: back at y = 0, looks along +y; the seat ends 4 cm before the table
            reach = float(seat.bounds()[1][1]) + 0.04 + rng.uniform(0, 0.08)
            x, y, angle = (
                ((board.x0 + board.x1) / 2 + offset, board.y0 - reach, 0.0),
                (board.x1 + reach, (board.y0 + board.y1) / 2 + offset, math.pi / 2),
                ((board.x0 + board.x1) / 2 + offset, board.y1 + reach, math.pi),
                (board.x0 - reach, (board.y0 + board.y1) / 2 + offset, -math.pi / 2),
            )[int(turn)]
            count += space.try_place(seat, x, y, angle + rng.normal(0, 0.06))
    return count


def _pictures(rng: np.random.Generator, space: RoomLayout, count: int, probability: float) -> None:
    for _ in range(count):
        if bernoulli(rng, probability):
            space.place_on_wall(rng, picture(rng), rng.uniform(1.45, 1.65))


def _bedroom_cabinet(rng: np.random.Generator) -> FurnitureModel:
    return storage.cabinet(rng, "wardrobe" if bernoulli(rng, 0.6) else None)
