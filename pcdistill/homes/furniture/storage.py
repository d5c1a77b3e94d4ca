"""Cabinets of all heights and bookshelves."""

from __future__ import annotations

import itertools

import numpy as np

from pcdistill.homes.collection import any_kind, choose, measure
from pcdistill.homes.materials import Finish, bernoulli, make_finish, metal, painted, wood_or_paint
from pcdistill.homes.model import FurnitureModel
from pcdistill.homes.primitives import Array, box, cylinder

_BOOK_COLORS = (
    "red",
    "blue",
    "dark blue",
    "green",
    "dark green",
    "brown",
    "black",
    "white",
    "cream",
    "orange",
    "yellow",
    "teal",
    "purple",
)


def cabinet(rng: np.random.Generator, kind: str | None = None) -> FurnitureModel:
    """A closed cabinet: sideboard, chest of drawers, wardrobe or cupboard; its back at the wall."""
    kind = kind or any_kind(rng, ("sideboard", "chest", "wardrobe", "cupboard"))
    sizes = {
        "sideboard": ((0.9, 1.3), (0.38, 0.45), (0.65, 0.85)),
        "chest": ((0.7, 1.0), (0.4, 0.48), (0.75, 1.1)),
        "wardrobe": ((0.8, 1.3), (0.5, 0.58), (1.8, 2.05)),
        "cupboard": ((0.6, 0.9), (0.35, 0.45), (1.2, 1.6)),
    }[kind]
    width, depth, height = (float(measure(rng, *span)) for span in sizes)
    body = wood_or_paint(rng, 0.55)
    front = body if bernoulli(rng, 0.7) else painted(rng)
    if kind == "chest":
        grid = (1 if width < 0.8 else 2, int(rng.integers(3, 5)))
    else:
        grid = (max(2, round(width / 0.45)), 2 if kind == "cupboard" and bernoulli(rng, 0.5) else 1)
    return _closed_box(rng, width, depth, height, grid, body, front, drawers=kind == "chest")


def _closed_box(
    rng: np.random.Generator,
    width: float,
    depth: float,
    height: float,
    grid: tuple[int, int],
    body: Finish,
    front: Finish,
    *,
    drawers: bool = False,
) -> FurnitureModel:
    half = width / 2
    foot = measure(rng, 0.0, 0.1)
    carcass = [box((-half, 0, foot), (half, depth - 0.02, height))]
    if foot > 0.05:
        for x in (-half + 0.04, half - 0.04):
            carcass += [
                box((x - 0.025, y - 0.025, 0), (x + 0.025, y + 0.025, foot))
                for y in (0.04, depth - 0.06)
            ]
    else:
        carcass.append(box((-half + 0.01, 0.0, 0), (half - 0.01, depth - 0.05, foot + 0.001)))
    carcass.append(box((-half - 0.01, 0, height), (half + 0.01, depth + 0.01, height + 0.025)))
    doors, handles = fronts(
        rng, (-half, half), (foot + 0.01, height - 0.005), depth - 0.02, grid, drawers=drawers
    )
    return FurnitureModel().add("cabinet", (carcass, body), (doors, front), (handles, metal(rng)))


def fronts(
    rng: np.random.Generator,
    x_span: tuple[float, float],
    z_span: tuple[float, float],
    y: float,
    grid: tuple[int, int],
    *,
    drawers: bool = False,
) -> tuple[list[Array], list[Array]]:
    """Door or drawer fronts (columns, rows) with gaps between, plain or framed, and handles.

    Args:
        rng: random numbers of the home.
        x_span: first and last x, metres.
        z_span: first and last z, metres.
        y: of the fronts, metres.
        grid: (columns, rows).
        drawers: drawers rather than doors.
    """
    columns, rows = grid
    framed, style = bernoulli(rng, 0.4), any_kind(rng, ("bar", "knob"))
    doors, handles = [], []
    for column in range(columns):
        x0, x1 = (x_span[0] + (x_span[1] - x_span[0]) * (column + k) / columns for k in (0, 1))
        for row in range(rows):
            z0, z1 = (z_span[0] + (z_span[1] - z_span[0]) * (row + k) / rows for k in (0, 1))
            doors += _front(x0 + 0.004, x1 - 0.004, z0 + 0.004, z1 - 0.004, y, framed)
            hinge_left = column % 2 == 0
            x = (x0 + x1) / 2 if drawers else (x1 - 0.05 if hinge_left else x0 + 0.05)
            z = (
                (z0 + z1) / 2
                if drawers or z1 - z0 > 1.0
                else (z1 - 0.14 if z0 < 1.0 else z0 + 0.14)
            )
            handles.append(_handle((x, y + 0.02, z), style, level=drawers))
    return doors, handles


def _front(x0: float, x1: float, z0: float, z1: float, y: float, framed: bool) -> list[Array]:
    made = [box((x0, y, z0), (x1, y + 0.018, z1), ("back",))]
    if framed and x1 - x0 > 0.2 and z1 - z0 > 0.2:
        w, deep = 0.05, y + 0.03
        made += [
            box((x0, y + 0.018, z0), (x0 + w, deep, z1), ("back",)),
            box((x1 - w, y + 0.018, z0), (x1, deep, z1), ("back",)),
            box((x0 + w, y + 0.018, z0), (x1 - w, deep, z0 + w), ("back",)),
            box((x0 + w, y + 0.018, z1 - w), (x1 - w, deep, z1), ("back",)),
        ]
    return made


def _handle(place: tuple[float, float, float], style: str, *, level: bool) -> Array:
    x, y, z = place
    if style == "knob":
        return cylinder((x, y, z), (x, y + 0.03, z), 0.016, segments=8)
    reach = 0.07
    if level:
        return box((x - reach, y + 0.012, z - 0.008), (x + reach, y + 0.03, z + 0.008))
    return box((x - 0.008, y + 0.012, z - reach), (x + 0.008, y + 0.03, z + reach))


def wall_cabinet(
    rng: np.random.Generator, width: float, body: Finish, front: Finish
) -> FurnitureModel:
    """A cabinet that hangs above a worktop; its lower edge is at z = 0.

    Args:
        rng: random numbers of the home.
        width: metres.
        body: finish of the carcass.
        front: finish of the doors.
    """
    half, height, depth = width / 2, measure(rng, 0.5, 0.65), measure(rng, 0.3, 0.34)
    carcass = box((-half, 0, 0), (half, depth - 0.018, height))
    columns = max(1, round(width / 0.5))
    doors, handles = fronts(rng, (-half, half), (0.0, height), depth - 0.018, (columns, 1))
    return FurnitureModel().add("cabinet", ([carcass], body), (doors, front), (handles, metal(rng)))


def bookshelf(rng: np.random.Generator) -> FurnitureModel:
    """Open shelves with books: tall, wide and low, in cubes, or on a frame of posts."""
    kind = any_kind(rng, ("tall", "tall", "low", "cubes", "posts"))
    spans = {
        "tall": ((0.6, 0.9), (1.6, 2.0)),
        "low": ((0.9, 1.3), (0.8, 1.1)),
        "cubes": ((0.76, 1.1), (0.76, 1.5)),
        "posts": ((0.7, 0.9), (1.4, 1.9)),
    }[kind]
    width, height = float(measure(rng, *spans[0])), float(measure(rng, *spans[1]))
    depth, finish, t = measure(rng, 0.26, 0.34), wood_or_paint(rng, 0.65), 0.022
    half = width / 2
    pitch = 0.38 if kind == "cubes" else measure(rng, 0.3, 0.38)
    levels = np.linspace(0.06, height - t, max(3, round(height / pitch) + 1))
    boards = [box((-half + t, 0.005, z), (half - t, depth, z + t)) for z in levels]
    walls = [-half + t / 2, half - t / 2]
    if kind == "cubes":
        walls = list(np.linspace(-half + t / 2, half - t / 2, max(3, round(width / 0.38) + 1)))
    if kind == "posts":
        posts = [
            box((x - 0.015, y, 0), (x + 0.015, y + 0.03, height))
            for x in (-half + 0.015, half - 0.015)
            for y in (0.0, depth - 0.03)
        ]
    else:
        posts = [box((x - t / 2, 0, 0), (x + t / 2, depth, height)) for x in walls]
        if bernoulli(rng, 0.75):
            posts.append(box((-half, 0, 0.03), (half, 0.008, height)))
    model = FurnitureModel().add(
        "bookshelf", (boards + posts, finish), *_books(rng, walls, levels, depth, t)
    )
    return model


def _books(
    rng: np.random.Generator, walls: list[float], levels: np.ndarray, depth: float, t: float
) -> list[tuple[list[Array], Finish]]:
    """Rows of books of differing height and colour; some cells stay partly or wholly empty."""
    shelves: dict[str, list[Array]] = {}
    palette = [choose(rng, _BOOK_COLORS) for _ in range(6)]
    for left, right in itertools.pairwise(walls):
        for low, high in itertools.pairwise(levels):
            if bernoulli(rng, 0.1):
                continue
            stop = left + (right - left) * measure(rng, 0.55, 1.0)
            x, room = left + t / 2 + 0.01, high - low - t
            while x < stop - 0.07:
                thick = measure(rng, 0.025, 0.06)
                tall = room * measure(rng, 0.6, 0.93)
                block = box(
                    (x, 0.03, low + t),
                    (x + thick, depth * measure(rng, 0.65, 0.92), low + t + tall),
                    ("bottom",),
                )
                shelves.setdefault(choose(rng, palette), []).append(block)
                x += thick + 0.002
    return [
        (blocks, make_finish(rng, "paper", name, jitter=0.12)) for name, blocks in shelves.items()
    ]
