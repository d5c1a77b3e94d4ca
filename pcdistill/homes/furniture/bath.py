"""Toilets, wash basins, bathtubs and shower curtains."""

from __future__ import annotations

import numpy as np

from pcdistill.homes.collection import any_kind, choose, measure
from pcdistill.homes.furniture.kitchen import tap
from pcdistill.homes.furniture.storage import fronts
from pcdistill.homes.materials import bernoulli, ceramic, make_finish, metal, stone, wood_or_paint
from pcdistill.homes.model import FurnitureModel
from pcdistill.homes.portable_math import sine
from pcdistill.homes.primitives import (
    Array,
    box,
    cylinder,
    loft,
    rotate_x,
    rounded_box,
    rounded_ring,
    sheet,
    translate,
)


def toilet(rng: np.random.Generator) -> FurnitureModel:
    """A bowl with seat and lid: with a tank behind it, or hung from a panel in the wall."""
    finish = ceramic(rng)
    tank_kind = any_kind(rng, ("tank", "tank", "square tank", "hung"))
    back = 0.2 if tank_kind != "hung" else 0.08
    power = 2.0 if bernoulli(rng, 0.7) else 3.2
    parts = [_bowl(back, power, hung=tank_kind == "hung")]
    if tank_kind == "hung":
        parts.append(box((-0.27, 0, 0), (0.27, 0.1, 1.05)))
        plate = box((-0.11, 0.1, 0.86), (0.11, 0.112, 0.98), ("back",))
    else:
        top = measure(rng, 0.74, 0.84)
        radius = 0.05 if tank_kind == "tank" else 0.015
        parts.append(rounded_box((-0.19, 0.01, 0.37), (0.19, 0.2, top - 0.03), radius))
        parts.append(rounded_box((-0.2, 0.0, top - 0.03), (0.2, 0.21, top), 0.015))
        plate = cylinder((0, 0.1, top), (0, 0.1, top + 0.012), 0.025)
    lid_finish = (
        finish
        if bernoulli(rng, 0.8)
        else make_finish(rng, "wood", choose(rng, ("light brown", "brown")), "grain", scale=0.03)
    )
    return FurnitureModel().add(
        "toilet",
        (parts, finish),
        (_seat(rng, back, power), lid_finish),
        ([plate], metal(rng, ("silver",))),
    )


def _bowl(back: float, power: float, *, hung: bool) -> Array:
    middle = back + 0.26
    if hung:
        levels = [(0.14, 0.05, 0.12), (0.2, 0.12, 0.2), (0.34, 0.175, 0.26), (0.4, 0.185, 0.27)]
    else:
        levels = [
            (0.0, 0.13, 0.22),
            (0.05, 0.11, 0.2),
            (0.18, 0.1, 0.18),
            (0.3, 0.16, 0.24),
            (0.4, 0.185, 0.27),
        ]
    rings = [rounded_ring((0, middle - 0.05 * (z < 0.2), z), x, y, power) for z, x, y in levels]
    inside = [(0.4, 0.13, 0.2), (0.3, 0.11, 0.17), (0.22, 0.05, 0.08)]
    rings += [rounded_ring((0, middle + 0.01, z), x, y, power) for z, x, y in inside]
    return loft(rings, cap_end=True)


def _seat(rng: np.random.Generator, back: float, power: float) -> list[Array]:
    middle = back + 0.26
    outer, inner = (0.19, 0.272), (0.115, 0.18)
    edges = [(0.402, *outer), (0.425, *outer), (0.425, *inner), (0.402, *inner)]
    seat = loft([rounded_ring((0, middle, z), x, y, power) for z, x, y in edges])
    flat = [rounded_ring((0, middle, z), 0.188, 0.27, power) for z in (0.428, 0.446)]
    lid = loft(flat, cap_start=True, cap_end=True)
    if bernoulli(rng, 0.45):
        lid = rotate_x(lid, 1.65, (back + 0.0, 0.43))
    return [seat, lid]


def bathroom_sink(rng: np.random.Generator) -> FurnitureModel:
    """A wash basin: on a pedestal, hung from the wall, or in a vanity cabinet; perhaps a mirror."""
    kind = any_kind(rng, ("pedestal", "pedestal", "hung", "vanity", "vessel"))
    model = _vanity(rng, kind) if kind in ("vanity", "vessel") else _free_basin(rng, kind)
    if bernoulli(rng, 0.6):
        half = measure(rng, 0.2, 0.32)
        frame = metal(rng, ("silver", "black")) if bernoulli(rng, 0.5) else wood_or_paint(rng)
        mirror = make_finish(rng, "mirror", "silver", "mirror")
        glass = box((-half, 0.02, 1.2), (half, 0.022, 1.85), ("back",))
        edge = box((-half - 0.02, 0.0, 1.18), (half + 0.02, 0.02, 1.87), ("back",))
        model.add("other furniture", ([glass], mirror), ([edge], frame))
    return model


def _basin(
    center: tuple[float, float, float], x: float, y: float, tall: float, power: float
) -> Array:
    """A hollow bowl whose rim is at `center`, `tall` high outside."""
    a, b, z = center
    rings = [
        rounded_ring((a, b, z - tall), x * 0.55, y * 0.55, power),
        rounded_ring((a, b, z - tall * 0.55), x * 0.88, y * 0.88, power),
        rounded_ring((a, b, z), x, y, power),
        rounded_ring((a, b + 0.015, z + 0.002), x - 0.035, y - 0.05, power),
        rounded_ring((a, b + 0.015, z - tall * 0.55), x * 0.7, y * 0.65, power),
        rounded_ring((a, b + 0.015, z - tall * 0.75), x * 0.2, y * 0.2, power),
    ]
    return loft(rings, cap_start=True, cap_end=True)


def _free_basin(rng: np.random.Generator, kind: str) -> FurnitureModel:
    finish, z = ceramic(rng), measure(rng, 0.8, 0.87)
    x, y = measure(rng, 0.24, 0.3), measure(rng, 0.2, 0.24)
    power = 2.2 if bernoulli(rng, 0.5) else 4.0
    parts = [_basin((0, y, z), x, y, 0.17, power)]
    if kind == "pedestal":
        levels = [(0.0, 0.11), (0.04, 0.09), (0.4, 0.065), (z - 0.14, 0.1)]
        parts.append(loft([rounded_ring((0, y - 0.02, h), r, r, 2.5) for h, r in levels]))
    else:
        parts.append(cylinder((0, y, z - 0.4), (0, y, z - 0.14), 0.03))
    return FurnitureModel().add(
        "sink", (parts, finish), (tap((0, 0.05, z), 0.1, 0.12), metal(rng, ("silver",)))
    )


def _vanity(rng: np.random.Generator, kind: str) -> FurnitureModel:
    half, depth, height = measure(rng, 0.28, 0.38), 0.46, measure(rng, 0.76, 0.82)
    body = wood_or_paint(rng)
    foot = 0.0 if bernoulli(rng, 0.5) else 0.22
    skip = ("top",) if kind == "vanity" else ()
    carcass = box((-half, 0, foot), (half, depth - 0.02, height), skip)
    doors, handles = fronts(rng, (-half, half), (foot + 0.02, height - 0.02), depth - 0.02, (2, 1))
    model = FurnitureModel().add("cabinet", ([carcass], body), (doors, body), (handles, metal(rng)))
    finish = ceramic(rng)
    if kind == "vessel":
        slab = box((-half - 0.01, 0, height), (half + 0.01, depth + 0.01, height + 0.03))
        model.add("counter", ([slab], stone(rng)))
        bowl = _basin((0, 0.24, height + 0.15), 0.2, 0.17, 0.12, 2.2)
        faucet = tap((0, 0.045, height + 0.03), 0.2, 0.13)
        return model.add("sink", ([bowl], finish), (faucet, metal(rng, ("silver",))))
    rings = [
        rounded_ring((0, depth / 2, height), half + 0.01, depth / 2 + 0.01, 12.0),
        rounded_ring((0, depth / 2, height + 0.06), half + 0.01, depth / 2 + 0.01, 12.0),
        rounded_ring((0, depth / 2 + 0.02, height + 0.06), half - 0.06, depth / 2 - 0.07, 3.0),
        rounded_ring((0, depth / 2 + 0.02, height - 0.03), half - 0.12, depth / 2 - 0.11, 3.0),
        rounded_ring((0, depth / 2 + 0.02, height - 0.05), 0.03, 0.03, 3.0),
    ]
    basin = loft(rings, cap_end=True)
    return model.add(
        "sink",
        ([basin], finish),
        (tap((0, 0.06, height + 0.06), 0.1, 0.12), metal(rng, ("silver",))),
    )


def bathtub(rng: np.random.Generator, length: float, *, built_in: bool) -> FurnitureModel:
    """A hollow tub along the wall: boxed in, or standing free with a rolled rim.

    Args:
        rng: random numbers of the home.
        length: metres along the wall.
        built_in: boxed in between walls, rather than standing free.
    """
    finish, depth, height = ceramic(rng), measure(rng, 0.68, 0.74), measure(rng, 0.52, 0.58)
    half, y = length / 2, depth / 2
    outer_power = 24.0 if built_in else 2.8
    power = 5.0 if built_in else 2.8
    rim = 0.07 if built_in else 0.035
    levels = [(0.0, 1.0), (height, 1.0)]
    if not built_in:
        levels = [
            (0.0, 0.74),
            (0.06, 0.72),
            (height * 0.5, 0.86),
            (height - 0.03, 0.98),
            (height, 1.0),
        ]
    rings = [rounded_ring((0, y, z), half * s, y * s, outer_power) for z, s in levels]
    inside = [
        (height + 0.005, half - rim, y - rim),
        (height - 0.05, half - rim - 0.02, y - rim - 0.015),
        (0.22, half - rim - 0.1, y - rim - 0.06),
        (0.13, half - rim - 0.2, y - rim - 0.12),
    ]
    rings += [rounded_ring((0, y, z), a, b, power) for z, a, b in inside]
    shell = loft(rings, cap_end=True)
    side = half - 0.16 if bernoulli(rng, 0.5) else -half + 0.16
    faucet = [translate(part, (side, 0, 0)) for part in tap((0, 0.03, height), 0.08, 0.12)]
    parts = [([shell], finish), (faucet, metal(rng, ("silver", "silver", "gold")))]
    if not built_in and bernoulli(rng, 0.4):
        feet = [
            cylinder((a, y + b, 0.0), (a, y + b, 0.06), 0.03)
            for a in (-half * 0.5, half * 0.5)
            for b in (-y * 0.5, y * 0.5)
        ]
        parts.append((feet, metal(rng)))
    return FurnitureModel().add("bathtub", *parts)


def shower_curtain(rng: np.random.Generator, length: float, depth: float) -> FurnitureModel:
    """A curtain on a rail above the outer edge of a tub; drawn over part of its length.

    Args:
        rng: random numbers of the home.
        length: metres of the tub along the wall.
        depth: metres of the tub away from the wall.
    """
    top, low = measure(rng, 1.9, 2.0), measure(rng, 0.18, 0.35)
    span = length * measure(rng, 0.4, 0.65)
    side = 1 if bernoulli(rng, 0.5) else -1
    start, end = sorted((side * length / 2, side * (length / 2 - span)))
    color = choose(rng, ("white", "light blue", "teal", "cream", "blue", "pink", "green", "gray"))
    pattern = choose(rng, ("plain", "stripes", "dots", "checks", "plain"))
    finish = make_finish(
        rng,
        "plastic" if bernoulli(rng, 0.6) else "fabric",
        color,
        pattern,
        scale=measure(rng, 0.12, 0.2),
        second=choose(rng, ("white", "dark blue", "gray")) if pattern != "plain" else None,
    )
    y = depth + 0.02
    cloth = hanging_cloth(rng, start, end, low, top - 0.03, y, wave=0.03)
    rail = [cylinder((-length / 2, y, top), (length / 2, y, top), 0.013)]
    rail += [
        cylinder((x - 0.004, y, top - 0.012), (x + 0.004, y, top - 0.012), 0.026, segments=8)
        for x in np.linspace(start + 0.03, end - 0.03, 9)
    ]
    return FurnitureModel().add(
        "shower curtain", ([cloth], finish), (rail, metal(rng, ("silver", "black")))
    )


def hanging_cloth(
    rng: np.random.Generator,
    start: float,
    end: float,
    low: float,
    high: float,
    y: float,
    *,
    wave: float,
) -> Array:
    """A wavy cloth from x = start to end around the plane y, seen from both sides.

    Args:
        rng: random numbers of the home.
        start: x of one end, metres.
        end: x of the other, metres.
        low: z of the lower edge, metres.
        high: z of the upper edge, metres.
        y: of the plane, metres.
        wave: amplitude of the folds, metres.
    """
    folds = max(2.0, (end - start) / measure(rng, 0.1, 0.16))
    columns = int(folds * 6) + 1
    x = np.linspace(end, start, columns)
    z = np.linspace(low, high, 5)
    phase = rng.uniform(0, 2 * np.pi)
    turns = 2 * np.pi * folds * (x - start) / (end - start)
    opening = np.linspace(1.1, 0.6, 5)[:, None]
    across, up = np.meshgrid(x, z)
    drift = 0.4 * sine(turns * 0.37 + phase)[None]
    depth = y + wave * opening * (sine(turns + phase)[None] + drift)
    return sheet(np.stack([across, depth, up], axis=-1))


def towel(rng: np.random.Generator) -> FurnitureModel:
    """A towel over a bar on the wall; its lower edge is at z = 0."""
    half, drop = measure(rng, 0.18, 0.28), measure(rng, 0.4, 0.6)
    bar = cylinder((-half - 0.05, 0.06, drop), (half + 0.05, 0.06, drop), 0.01)
    ends = [
        box((x - 0.012, 0, drop - 0.015), (x + 0.012, 0.07, drop + 0.015))
        for x in (-half - 0.05, half + 0.05)
    ]
    cloth = rounded_box((-half, 0.045, 0), (half, 0.082, drop + 0.015), 0.012)
    finish = make_finish(
        rng,
        "fabric",
        choose(rng, ("white", "blue", "red", "green", "gray", "pink", "teal")),
        "weave",
        scale=0.008,
    )
    return FurnitureModel().add(
        "other furniture", ([cloth], finish), ([bar, *ends], metal(rng, ("silver",)))
    )
