"""Doors, windows, curtains and pictures: what sits in or hangs on a wall.

The wall is the plane y = 0 seen from y > 0; x is centred on the opening, z = 0 is the floor.
"""

from __future__ import annotations

import numpy as np

from pcdistill.homes.collection import any_kind, choose, measure
from pcdistill.homes.furniture.bath import hanging_cloth
from pcdistill.homes.materials import (
    Finish,
    bernoulli,
    fabric,
    make_finish,
    metal,
    painted,
    plain_fabric,
    wood,
    wood_or_paint,
)
from pcdistill.homes.model import FurnitureModel
from pcdistill.homes.primitives import Array, ball, box, cylinder, rotate_z, translate

_ALL_BUT_FRONT = ("back", "top", "bottom", "left", "right")
_ALL_BUT_BACK = ("front", "top", "bottom", "left", "right")


def door_finish(rng: np.random.Generator) -> Finish:
    """Wood or a quiet paint."""
    return (
        wood(rng)
        if bernoulli(rng, 0.55)
        else painted(rng, ("white", "white", "cream", "gray", "blue", "green"))
    )


def door_frame(width: float, height: float, thickness: float) -> list[Array]:
    """Casing around an opening, from the wall's face through its thickness (y from -t to 0.02).

    Args:
        width: of the opening, metres.
        height: of the opening, metres.
        thickness: of the wall, metres.
    """
    half, w = width / 2, 0.07
    back = -thickness
    return [
        box((-half - w, -0.005, 0), (-half, 0.022, height + w), ("back",)),
        box((half, -0.005, 0), (half + w, 0.022, height + w), ("back",)),
        box((-half, -0.005, height), (half, 0.022, height + w), ("back",)),
        box((-half - 0.01, back, 0), (-half + 0.012, 0.0, height), ("back", "front")),
        box((half - 0.012, back, 0), (half + 0.01, 0.0, height), ("back", "front")),
        box((-half, back, height - 0.012), (half, 0.0, height + 0.01), ("back", "front")),
    ]


def door_leaf(
    rng: np.random.Generator, width: float, height: float
) -> list[tuple[list[Array], str]]:
    """A leaf from x = 0 (hinge) to width, 4 cm thick about y = 0, as (surfaces, role) pairs.

    Args:
        rng: random numbers of the home.
        width: metres.
        height: metres.
    """
    kind = any_kind(rng, ("flush", "four", "two", "glazed"))
    thick, margin = 0.02, 0.11
    leaf = [box((0, -thick, 0.01), (width, thick, height))]
    columns = [(margin, width - margin)]
    if kind == "four":
        columns = [(margin, width / 2 - 0.04), (width / 2 + 0.04, width - margin)]
    rows = {
        "flush": [],
        "four": [(0.12, 0.85), (1.0, height - 0.12)],
        "two": [(0.12, 0.9), (1.05, height - 0.12)],
        "glazed": [(0.12, 0.7)],
    }[kind]
    leaf += [
        box((x0, y, z0), (x1, y + 0.008, z1), (hidden,))
        for z0, z1 in rows
        for x0, x1 in columns
        for y, hidden in ((-thick - 0.008, "front"), (thick, "back"))
    ]
    glass = [
        box((margin, y, 0.85), (width - margin, y + 0.003, height - 0.12), hidden)
        for y, hidden in ((-thick - 0.003, _ALL_BUT_BACK), (thick, _ALL_BUT_FRONT))
    ]
    knobs = [
        part
        for side in (-1, 1)
        for part in _knob(width, side, thick, level=kind in ("flush", "glazed"))
    ]
    return [(leaf, "leaf"), (glass if kind == "glazed" else [], "glass"), (knobs, "metal")]


def _knob(width: float, side: int, thick: float, *, level: bool) -> list[Array]:
    """Lever or ball on one side of a leaf."""
    y = side * thick
    stem = cylinder((width - 0.07, y, 1.03), (width - 0.07, y + side * 0.05, 1.03), 0.012)
    if not level:
        return [stem, ball((width - 0.07, y + side * 0.065, 1.03), 0.03)]
    near, far = sorted((y + side * 0.04, y + side * 0.06))
    return [stem, box((width - 0.19, near, 1.02), (width - 0.06, far, 1.045))]


def closed_door(
    rng: np.random.Generator, width: float, height: float, thickness: float
) -> FurnitureModel:
    """A shut door in an outer wall: the leaf is recessed behind the casing.

    Args:
        rng: random numbers of the home.
        width: of the opening, metres.
        height: of the opening, metres.
        thickness: of the wall, metres.
    """
    finish, case = door_finish(rng), door_finish(rng)
    return _door(
        rng, width, height, thickness, finish, finish if bernoulli(rng, 0.6) else case, None
    )


def open_door(
    rng: np.random.Generator,
    width: float,
    height: float,
    thickness: float,
    angle: float,
    hinge: int,
) -> FurnitureModel:
    """A door whose leaf stands open into y > 0 by `angle` radians; `hinge` is -1 left, 1 right.

    Args:
        rng: random numbers of the home.
        width: of the opening, metres.
        height: of the opening, metres.
        thickness: of the wall, metres.
        angle: by which the leaf stands open, radians.
        hinge: -1 for the left, 1 for the right.
    """
    finish, case = door_finish(rng), door_finish(rng)
    return _door(
        rng,
        width,
        height,
        thickness,
        finish,
        finish if bernoulli(rng, 0.6) else case,
        (angle, hinge),
    )


def _door(
    rng: np.random.Generator,
    width: float,
    height: float,
    thickness: float,
    finish: Finish,
    case: Finish,
    opened: tuple[float, int] | None,
) -> FurnitureModel:
    finishes = {
        "leaf": finish,
        "glass": make_finish(rng, "glass", "light blue"),
        "metal": metal(rng, ("silver", "gold", "black")),
    }
    half = width / 2
    parts = []
    for surfaces, role in door_leaf(rng, width - 0.03, height - 0.015):
        if opened is None:
            placed = [translate(quads, (-half + 0.015, -0.045, 0)) for quads in surfaces]
        else:
            angle, hinge = opened
            if hinge > 0:
                surfaces = [mirrored(quads) for quads in surfaces]
            swung = [rotate_z(quads, -hinge * angle) for quads in surfaces]
            placed = [translate(quads, (hinge * (half - 0.015), 0.03, 0)) for quads in swung]
        parts.append((placed, finishes[role]))
    model = FurnitureModel().add("door", *parts, (door_frame(width, height, thickness), case))
    return model


def mirrored(quads: Array) -> Array:
    """Flip x and keep the faces looking outward."""
    return np.asarray((quads * np.array([-1.0, 1, 1]))[:, ::-1])


def window(rng: np.random.Generator, width: float, low: float, high: float) -> FurnitureModel:
    """A window recessed in the wall: reveal, frame with sashes or bars, bright panes, a sill.

    Args:
        rng: random numbers of the home.
        width: metres.
        low: z of the lower edge, metres.
        high: z of the upper edge, metres.
    """
    frame = (
        painted(rng, ("white", "white", "white", "gray", "dark gray", "cream"))
        if bernoulli(rng, 0.7)
        else wood(rng)
    )
    half, deep, t = width / 2, measure(rng, 0.09, 0.14), 0.05
    reveal = [
        box(
            (-half - 0.01, -deep, low), (-half, 0, high), ("back", "front", "left", "top", "bottom")
        ),
        box(
            (half, -deep, low), (half + 0.01, 0, high), ("back", "front", "right", "top", "bottom")
        ),
        box(
            (-half, -deep, high), (half, 0, high + 0.01), ("back", "front", "top", "left", "right")
        ),
    ]
    bars = [
        box((-half, -deep, low), (-half + t, -deep + 0.05, high), ("back", "left")),
        box((half - t, -deep, low), (half, -deep + 0.05, high), ("back", "right")),
        box((-half + t, -deep, low), (half - t, -deep + 0.05, low + t), ("back", "bottom")),
        box((-half + t, -deep, high - t), (half - t, -deep + 0.05, high), ("back", "top")),
    ]
    bars += _window_bars(rng, half, low, high, deep)
    if bernoulli(rng, 0.7):  # the handle
        x, z = -half + t / 2, (low + high) / 2
        bars.append(box((x - 0.01, -deep + 0.05, z - 0.05), (x + 0.01, -deep + 0.08, z + 0.06)))
    sill = box((-half - 0.06, -deep + 0.01, low - 0.03), (half + 0.06, 0.09, low + 0.004))
    pane = box(
        (-half, -deep + 0.004, low),
        (half, -deep + 0.006, high),
        _ALL_BUT_FRONT,
    )
    view = make_finish(rng, "glass", "light blue", "outdoors", scale=float(rng.integers(1, 9999)))
    return FurnitureModel().add(
        "window", (bars, frame), ([sill], frame), ([pane], view), (reveal, frame)
    )


def _window_bars(
    rng: np.random.Generator, half: float, low: float, high: float, deep: float
) -> list[Array]:
    y0, y1, made = -deep, -deep + 0.045, []
    kind = any_kind(rng, ("sashes", "cross", "grid", "transom"))
    middle = (low + high) / 2
    if kind in ("sashes", "cross", "grid") and half > 0.3:
        made.append(box((-0.04, y0, low), (0.04, y1, high)))
    if kind == "cross":
        made.append(box((-half, y0, middle + 0.08), (half, y1, middle + 0.12)))
    if kind == "transom":
        made.append(box((-half, y0, high - 0.38), (half, y1, high - 0.32)))
    if kind == "grid":
        levels = np.linspace(low, high, 4)[1:-1]
        made += [box((-half, y0, z - 0.012), (half, y1, z + 0.012)) for z in levels]
        made += [box((x - 0.012, y0, low), (x + 0.012, y1, high)) for x in (-half / 2, half / 2)]
    return made


def curtain(
    rng: np.random.Generator, width: float, low: float, high: float, ceiling: float
) -> FurnitureModel:
    """Curtains before a window on a rod: a pair at its sides, or one drawn most of the way.

    Args:
        rng: random numbers of the home.
        width: of the window, metres.
        low: z of its lower edge, metres.
        high: z of its upper edge, metres.
        ceiling: height of the room, metres.
    """
    top = min(high + measure(rng, 0.1, 0.2), ceiling - 0.06)
    bottom = 0.03 if bernoulli(rng, 0.6) else low - measure(rng, 0.08, 0.2)
    half = width / 2 + measure(rng, 0.12, 0.2)
    cover = measure(rng, 0.28, 0.5)
    kind = any_kind(rng, ("pair", "pair", "pair", "single"))
    finish = plain_fabric(rng) if bernoulli(rng, 0.6) else fabric(rng)
    y = 0.14
    spans = [(-half, -half + cover * width), (half - cover * width, half)]
    if kind == "single":
        side = int(rng.integers(2))
        spread = width * measure(rng, 0.5, 0.9)
        spans = [(-half, -half + spread)] if side else [(half - spread, half)]
    cloths = [hanging_cloth(rng, a, b, bottom, top, y, wave=0.032) for a, b in spans]
    rod = [cylinder((-half - 0.06, y, top + 0.015), (half + 0.06, y, top + 0.015), 0.014)]
    rod += [ball((x, y, top + 0.015), 0.026, segments=8) for x in (-half - 0.07, half + 0.07)]
    rod += [
        cylinder((x, 0, top + 0.015), (x, y, top + 0.015), 0.008, segments=6)
        for x in (-half - 0.03, half + 0.03)
    ]
    return FurnitureModel().add(
        "curtain",
        (cloths, finish),
        (rod, metal(rng) if bernoulli(rng, 0.6) else wood_or_paint(rng)),
    )


def picture(rng: np.random.Generator) -> FurnitureModel:
    """A framed picture or a canvas, 3 to 4 cm thick; its centre is at z = 0."""
    half, tall = measure(rng, 0.15, 0.42), measure(rng, 0.15, 0.36)
    deep, edge = measure(rng, 0.03, 0.042), measure(rng, 0.02, 0.045)
    art = make_finish(rng, "paper", "white", "artwork", scale=float(rng.integers(1, 99999)))
    kind = any_kind(rng, ("framed", "matted", "canvas"))
    if kind == "canvas":
        body = box((-half, 0, -tall), (half, deep, tall), ("back", "front"))
        face = box(
            (-half, 0, -tall), (half, deep, tall), ("back", "top", "bottom", "left", "right")
        )
        return FurnitureModel().add(
            "picture", ([face], art), ([body], make_finish(rng, "fabric", "white"))
        )
    frame = (
        wood(rng)
        if bernoulli(rng, 0.5)
        else painted(rng, ("black", "white", "gray"))
        if bernoulli(rng, 0.7)
        else metal(rng, ("gold", "silver"))
    )
    bars = [
        box((-half, 0, -tall), (-half + edge, deep, tall), ("back",)),
        box((half - edge, 0, -tall), (half, deep, tall), ("back",)),
        box((-half + edge, 0, -tall), (half - edge, deep, -tall + edge), ("back",)),
        box((-half + edge, 0, tall - edge), (half - edge, deep, tall), ("back",)),
    ]
    inset = edge + (min(half, tall) * 0.28 if kind == "matted" else 0)
    only_front = _ALL_BUT_FRONT
    sheet_ = box(
        (-half + inset, 0, -tall + inset), (half - inset, deep - 0.012, tall - inset), only_front
    )
    parts: list[tuple[list[Array], Finish]] = [(bars, frame), ([sheet_], art)]
    if kind == "matted":
        mat = box((-half, 0, -tall), (half, deep - 0.014, tall), only_front)
        parts.append(([mat], make_finish(rng, "paper", choose(rng, ("white", "cream")))))
    return FurnitureModel().add("picture", *parts)
