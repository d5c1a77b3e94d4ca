"""Kitchen runs: counters with sinks and stoves, wall cabinets, refrigerators."""

from __future__ import annotations

import numpy as np

from pcdistill.homes.collection import any_kind, choose, measure
from pcdistill.homes.furniture.storage import fronts, wall_cabinet
from pcdistill.homes.materials import (
    Finish,
    bernoulli,
    ceramic,
    make_finish,
    metal,
    plastic,
    steel,
    stone,
    wood,
    wood_or_paint,
)
from pcdistill.homes.model import FurnitureModel
from pcdistill.homes.primitives import (
    Array,
    box,
    cylinder,
    lathe,
    loft,
    rounded_box,
    rounded_ring,
    tube,
)

_CABINET_DEPTH = 0.56


def counter(rng: np.random.Generator, width: float, *, with_sink: bool = True) -> FurnitureModel:
    """Base units under a worktop that overhangs them, with a sink and now and then a stove.

    Args:
        rng: random numbers of the home.
        width: metres.
        with_sink: whether one of the units has a sink.
    """
    height, half = measure(rng, 0.87, 0.92), width / 2
    body = wood_or_paint(rng, 0.4)
    front = body if bernoulli(rng, 0.8) else wood_or_paint(rng, 0.3)
    top_finish = stone(rng) if bernoulli(rng, 0.6) else wood(rng)
    depth, deck = _CABINET_DEPTH, height - 0.04
    carcass = [
        box((-half + 0.005, 0, 0.1), (half - 0.005, depth, deck), ("top",)),
        box((-half + 0.01, 0.02, 0), (half - 0.01, depth - 0.06, 0.1), ("top", "bottom")),
    ]
    columns = max(2, round(width / 0.5))
    drawn = int(rng.integers(0, columns))
    doors, handles = _unit_fronts(rng, half, deck, depth, columns, drawn)
    basin = _basin_place(rng, half) if with_sink else None
    top = _worktop(half, depth + 0.05, deck, height, basin)
    back_edge = [box((-half, 0, height), (half, 0.02, height + measure(rng, 0.05, 0.1)))]
    if bernoulli(rng, 0.5):
        back_edge = []
    model = FurnitureModel().add(
        "counter",
        ([*top, *back_edge], top_finish),
        (carcass, body),
        (doors, front),
        (handles, metal(rng)),
    )
    if basin:
        model.extend(_inset_sink(rng, basin, height))
    free = -1 if basin and basin[0] > 0 else 1
    if width > 1.35 and bernoulli(rng, 0.8):
        model.extend(_hob(rng, (free * (half - 0.36), 0.3, height)))
    elif width > 1.1 and bernoulli(rng, 0.7):
        model.extend(_appliance(rng).transformed(free * (half - 0.25), 0.12, height))
    return model


def _unit_fronts(
    rng: np.random.Generator, half: float, deck: float, depth: float, columns: int, drawn: int
) -> tuple[list[Array], list[Array]]:
    doors, handles = [], []
    for column in range(columns):
        x0, x1 = (-half + 2 * half * (column + k) / columns for k in (0, 1))
        if column == drawn:
            made = fronts(rng, (x0, x1), (0.11, deck - 0.01), depth, (1, 3), drawers=True)
        else:
            made = fronts(rng, (x0, x1), (0.11, deck - 0.01), depth, (1, 1))
        doors += made[0]
        handles += made[1]
    return doors, handles


def _basin_place(rng: np.random.Generator, half: float) -> tuple[float, float, float]:
    """(x, half width, half depth) of the sink in the worktop."""
    wide = measure(rng, 0.21, 0.27)
    side = 1 if bernoulli(rng, 0.5) else -1
    room = half - wide - 0.12
    return (float(side * measure(rng, 0.3, 1.0) * max(room, 0)), float(wide), 0.18)


def _worktop(
    half: float, depth: float, low: float, high: float, basin: tuple[float, float, float] | None
) -> list[Array]:
    """The slab, with a hole where the sink goes."""
    if basin is None:
        return [box((-half, 0, low), (half, depth, high))]
    x, wide, deep = basin
    y0, y1 = 0.3 - deep, 0.3 + deep
    x_cuts, y_cuts = (-half, x - wide, x + wide, half), (0.0, y0, y1, depth)
    quads = []
    for i in range(3):
        for j in range(3):
            if i == 1 and j == 1:
                continue
            a, b, c, d = x_cuts[i], x_cuts[i + 1], y_cuts[j], y_cuts[j + 1]
            quads.append([[a, c, high], [b, c, high], [b, d, high], [a, d, high]])
    rim = box((-half, 0, low), (half, depth, high), ("top", "bottom"))
    return [np.concatenate([np.array(quads), rim])]


def _inset_sink(
    rng: np.random.Generator, basin: tuple[float, float, float], height: float
) -> FurnitureModel:
    x, wide, deep = basin
    finish = steel(rng) if bernoulli(rng, 0.75) else ceramic(rng)
    z = height
    lip, power = 0.025, 5.0
    rings = [
        rounded_ring((x, 0.3, z + 0.002), wide + lip, deep + lip, power),
        rounded_ring((x, 0.3, z + 0.012), wide + lip, deep + lip, power),
        rounded_ring((x, 0.3, z + 0.01), wide - 0.005, deep - 0.005, power),
        rounded_ring((x, 0.3, z - 0.14), wide - 0.025, deep - 0.025, power),
        rounded_ring((x, 0.3, z - 0.16), 0.04, 0.04, 2.0),
    ]
    bowl = loft(rings, cap_end=True)
    drainer = []
    if finish.pattern == steel(rng).pattern and bernoulli(rng, 0.3):
        drainer.append(box((x + wide + 0.01, 0.14, z), (x + wide + 0.1, 0.46, z + 0.012)))
    return FurnitureModel().add(
        "sink", ([bowl, *drainer], finish), (tap((x, 0.07, z), 0.24, 0.17), metal(rng, ("silver",)))
    )


def tap(place: tuple[float, float, float], rise: float, reach: float) -> list[Array]:
    """A tap that leans over +y, with its lever.

    Args:
        place: (x, y, z) of its foot, metres.
        rise: height of the pipe, metres.
        reach: length of the spout along y, metres.
    """
    x, y, z = place
    spout = tube(
        [
            (x, y, z),
            (x, y, z + rise),
            (x, y + reach * 0.5, z + rise + 0.04),
            (x, y + reach, z + rise - 0.03),
        ],
        0.014,
        8,
    )
    base = cylinder((x, y, z), (x, y, z + 0.05), 0.026)
    lever = cylinder((x, y, z + 0.05), (x + 0.07, y, z + 0.09), 0.008, segments=6)
    return [spout, base, lever]


def _hob(rng: np.random.Generator, place: tuple[float, float, float]) -> FurnitureModel:
    x, y, z = place
    plate = make_finish(rng, "glass", "black")
    top = box((x - 0.27, y - 0.22, z), (x + 0.27, y + 0.22, z + 0.012))
    rings_finish = metal(rng, ("black", "silver"))
    burners = [
        lathe(
            (x + i, y + j, z + 0.012),
            [(0.085, 0), (0.08, 0.014), (0.05, 0.016), (0.001, 0.012)],
            12,
        )
        for i in (-0.13, 0.13)
        for j in (-0.1, 0.1)
    ]
    model = FurnitureModel().add("other furniture", ([top], plate), (burners, rings_finish))
    if bernoulli(rng, 0.5):
        pot = [(0.09, 0.015), (0.1, 0.13), (0.095, 0.13), (0.085, 0.03), (0.001, 0.03)]
        body = lathe((x - 0.13, y + 0.1, z + 0.012), pot, 14)
        grip = box((x - 0.03, y + 0.09, z + 0.12), (x + 0.1, y + 0.115, z + 0.135))
        model.add("other furniture", ([body, grip], metal(rng, ("silver", "black", "red"))))
    return model


def _appliance(rng: np.random.Generator) -> FurnitureModel:
    """A microwave or a kettle for the worktop."""
    if bernoulli(rng, 0.6):
        case = plastic(rng, ("white", "black", "silver"))
        body = box((-0.23, 0, 0.01), (0.23, 0.33, 0.27))
        door = box((-0.21, 0.33, 0.03), (0.1, 0.34, 0.25), ("back",))
        return FurnitureModel().add(
            "other furniture", ([body], case), ([door], make_finish(rng, "glass", "black"))
        )
    shape = [(0.075, 0), (0.08, 0.03), (0.06, 0.18), (0.03, 0.2), (0.001, 0.22)]
    finish = steel(rng) if bernoulli(rng, 0.5) else plastic(rng)
    return FurnitureModel().add("other furniture", ([lathe((0, 0.12, 0), shape, 12)], finish))


def hanging_cabinets(rng: np.random.Generator, width: float) -> FurnitureModel:
    """A row of wall cabinets at eye height."""
    body = wood_or_paint(rng, 0.4)
    front = (
        body
        if bernoulli(rng, 0.8)
        else make_finish(rng, "paint", choose(rng, ("white", "gray", "cream")))
    )
    return wall_cabinet(rng, width, body, front).transformed(0, 0, measure(rng, 1.38, 1.48))


def refrigerator(rng: np.random.Generator) -> FurnitureModel:
    """A tall appliance with rounded doors and handles, white or steel as a rule."""
    kind = any_kind(rng, ("freezer below", "freezer above", "two doors", "retro"))
    half = measure(rng, 0.38, 0.44) if kind == "two doors" else measure(rng, 0.29, 0.34)
    depth, height = measure(rng, 0.6, 0.68), measure(rng, 1.6, 1.85)
    body = _fridge_finish(rng, kind)
    grip = metal(rng, ("silver", "silver", "black"))
    radius = 0.07 if kind == "retro" else 0.018
    carcass = rounded_box((-half, 0.02, 0.03), (half, depth - 0.07, height), radius)
    plinth = box((-half + 0.03, 0.05, 0), (half - 0.03, depth - 0.12, 0.035))
    split = {"freezer below": 0.62, "freezer above": 1.15, "retro": 1.2, "two doors": 0.0}[kind]
    front = (depth - 0.065, depth)
    doors: list[Array] = []
    bars: list[Array] = []
    if kind == "two doors":
        for side in (-1, 1):
            x0, x1 = sorted((side * 0.003, side * half))
            doors.append(rounded_box((x0, front[0], 0.05), (x1, front[1], height), radius))
            bars.append(_grip(side * 0.04, depth, 0.75, 1.45))
    else:
        cut = split * height / 1.7
        doors.append(rounded_box((-half, front[0], 0.05), (half, front[1], cut - 0.005), radius))
        doors.append(rounded_box((-half, front[0], cut + 0.005), (half, front[1], height), radius))
        x = (half - 0.06) * (1 if bernoulli(rng, 0.5) else -1)
        bars.append(_grip(x, depth, max(cut - 0.4, 0.1), cut - 0.06))
        bars.append(_grip(x, depth, cut + 0.06, min(cut + 0.46, height - 0.06)))
    return FurnitureModel().add(
        "refrigerator",
        ([carcass, *doors], body),
        ([plinth], plastic(rng, ("black",))),
        (bars, grip),
    )


def _fridge_finish(rng: np.random.Generator, kind: str) -> Finish:
    if kind == "retro":
        return make_finish(
            rng, "metal", choose(rng, ("red", "light blue", "cream", "teal", "white"))
        )
    if bernoulli(rng, 0.45):
        return steel(rng)
    return make_finish(rng, "metal", choose(rng, ("white", "white", "white", "black")), jitter=0.02)


def _grip(x: float, y: float, low: float, high: float) -> Array:
    return tube(
        [(x, y, low), (x, y + 0.045, low + 0.02), (x, y + 0.045, high - 0.02), (x, y, high)], 0.012
    )
