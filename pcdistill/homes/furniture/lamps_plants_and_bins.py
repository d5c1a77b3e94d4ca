"""Other furniture: lamps, nightstands, plants, television sets, racks and bins."""

from __future__ import annotations

import numpy as np

from pcdistill.homes.classes import MATERIAL_INDEX
from pcdistill.homes.collection import any_kind, choose, measure
from pcdistill.homes.furniture.beds_and_seats import legs
from pcdistill.homes.furniture.storage import fronts
from pcdistill.homes.materials import (
    PATTERN_INDEX,
    Finish,
    bernoulli,
    fabric,
    make_finish,
    metal,
    plastic,
    wood_or_paint,
)
from pcdistill.homes.model import FurnitureModel
from pcdistill.homes.portable_math import cosine, power, sine
from pcdistill.homes.primitives import Array, box, cylinder, lathe, rounded_box, sheet, tube


def lampshade_finish(rng: np.random.Generator) -> Finish:
    """A lamp shade that glows a little."""
    warm = measure(rng, 0.82, 0.95)
    color = (0.97, float(warm), float(warm * measure(rng, 0.75, 0.95)))
    return Finish(MATERIAL_INDEX["fabric"], PATTERN_INDEX["glow"], color, color, 0.1, "white")


def lamp_shade(
    center: tuple[float, float, float], radius: float, tall: float, taper: float
) -> Array:
    """An open cone: its lower edge is at `center`.

    Args:
        center: (x, y, z) of the middle of its lower edge, metres.
        radius: of the lower edge, metres.
        tall: height, metres.
        taper: radius of the upper edge by that of the lower.
    """
    return lathe(center, [(radius, 0), (radius * taper, tall)], 14)


def floor_lamp(rng: np.random.Generator) -> FurnitureModel:
    """A standing lamp: straight pole, tripod, or an arc."""
    height, radius = measure(rng, 1.35, 1.6), measure(rng, 0.16, 0.22)
    finish = metal(rng) if bernoulli(rng, 0.6) else wood_or_paint(rng)
    y = radius
    if bernoulli(rng, 0.35):
        body = [
            cylinder((0.24 * cosine(a), y + 0.2 * sine(a), 0), (0, y, height - 0.05), 0.014)
            for a in np.pi / 2 + np.arange(3) * 2 * np.pi / 3
        ]
    else:
        body = [
            lathe((0, y, 0), [(0.14, 0), (0.135, 0.02), (0.02, 0.03)], 14),
            cylinder((0, y, 0.02), (0, y, height), 0.012),
        ]
    shade = lamp_shade((0, y, height - 0.1), radius, 0.28, measure(rng, 0.6, 0.95))
    return FurnitureModel().add("other furniture", ([shade], lampshade_finish(rng)), (body, finish))


def table_lamp(rng: np.random.Generator) -> FurnitureModel:
    """A bedside lamp with a turned foot, standing at z = 0 around the origin."""
    foot = [(0.06, 0), (0.065, 0.02), (0.03, 0.05), (0.05, 0.12), (0.015, 0.2), (0.012, 0.26)]
    finish = plastic(rng) if bernoulli(rng, 0.5) else metal(rng)
    return FurnitureModel().add(
        "other furniture",
        ([lamp_shade((0, 0, 0.22), 0.12, 0.17, 0.65)], lampshade_finish(rng)),
        ([lathe((0, 0, 0), foot, 12)], finish),
    )


def nightstand(rng: np.random.Generator) -> FurnitureModel:
    """A small bedside unit with a drawer or two and often a lamp."""
    half, depth, height = (
        measure(rng, 0.19, 0.24),
        measure(rng, 0.34, 0.4),
        measure(rng, 0.42, 0.55),
    )
    finish, foot = wood_or_paint(rng), float(choose(rng, (0.0, 0.14)))
    body = [box((-half, 0, foot), (half, depth, height))]
    if foot:
        body += legs(half - 0.025, 0.025, depth - 0.025, foot, 0.035, round_=bernoulli(rng, 0.5))
    rows = int(rng.integers(1, 3))
    doors, handles = fronts(
        rng, (-half, half), (foot + 0.01, height - 0.01), depth, (1, rows), drawers=True
    )
    model = FurnitureModel().add(
        "other furniture", (body, finish), (doors, finish), (handles, metal(rng))
    )
    if bernoulli(rng, 0.75):
        model.extend(table_lamp(rng).transformed(0, depth / 2, height))
    return model


def plant(rng: np.random.Generator) -> FurnitureModel:
    """A pot plant, on the floor or on a small stand."""
    y, lift = 0.2, float(choose(rng, (0.0, 0.0, 0.35)))
    pot = lathe((0, y, lift), [(0.09, 0), (0.13, 0.24), (0.12, 0.24), (0.11, 0.2), (1e-3, 0.2)], 12)
    green = make_finish(rng, "plant", choose(rng, ("green", "dark green", "green")), jitter=0.12)
    leaves = []
    tall = measure(rng, 0.45, 0.9)
    for index in range(int(rng.integers(12, 20))):
        turn = index * 2.4 + rng.normal(0, 0.2)
        reach, rise = measure(rng, 0.12, 0.3), measure(rng, 0.4, 1.0) * tall
        leaves.append(_leaf((0, y, lift + 0.2), turn, reach, rise, measure(rng, 0.03, 0.07)))
    stand = []
    if lift:
        stand = [
            cylinder((a, y + b, 0), (a, y + b, lift), 0.012)
            for a in (-0.1, 0.1)
            for b in (-0.1, 0.1)
        ]
        stand.append(box((-0.13, y - 0.13, lift - 0.02), (0.13, y + 0.13, lift)))
    pot_finish = make_finish(
        rng, "ceramic", choose(rng, ("white", "orange", "gray", "blue", "brown"))
    )
    return FurnitureModel().add(
        "other furniture", (leaves, green), ([pot], pot_finish), (stand, wood_or_paint(rng))
    )


def _leaf(
    root: tuple[float, float, float], turn: float, reach: float, rise: float, wide: float
) -> Array:
    """A bent strip that grows from the root outward and droops at its tip."""
    steps = np.array([0.0, 0.35, 0.7, 1.0])
    out = reach * power(steps, 1.5)
    up = rise * sine(steps * 1.9) / sine(1.9 * 0.8) * 0.95
    width = wide * np.array([0.15, 0.8, 1.0, 0.1])
    along = np.array([cosine(turn), sine(turn)])
    side = np.array([-along[1], along[0]])
    grid = np.zeros((4, 2, 3))
    for index, sign in enumerate((-1, 1)):
        flat = np.asarray(root[:2]) + out[:, None] * along + sign * width[:, None] * side
        grid[:, index, :2] = flat
        grid[:, index, 2] = root[2] + up
    return sheet(grid)


def tv_stand(rng: np.random.Generator) -> FurnitureModel:
    """A low media unit with a television on it."""
    half, depth, height = measure(rng, 0.5, 0.7), measure(rng, 0.36, 0.42), measure(rng, 0.4, 0.52)
    finish, t = wood_or_paint(rng), 0.025
    inner = half * measure(rng, 0.3, 0.5)
    body = [
        box((-half, 0, height - t), (half, depth, height)),
        box((-half, 0, 0.06), (half, depth, 0.06 + t)),
        *(
            box((x - t / 2, 0, 0.06), (x + t / 2, depth, height))
            for x in (-half + t / 2, -inner, inner, half - t / 2)
        ),
        box((-half, 0, 0.06), (half, 0.01, height)),
        *legs(half - 0.04, 0.04, depth - 0.04, 0.06, 0.04, round_=False),
    ]
    doors, handles = [], []
    for a, b in ((-half, -inner), (inner, half)):
        made = fronts(rng, (a, b), (0.07, height - t), depth, (1, 1))
        doors += made[0]
        handles += made[1]
    model = FurnitureModel().add(
        "other furniture", (body, finish), (doors, finish), (handles, metal(rng))
    )
    return model.extend(television(rng).transformed(0, depth * 0.4, height))


def television(rng: np.random.Generator) -> FurnitureModel:
    """A flat screen on two feet; faces +y."""
    half = measure(rng, 0.4, 0.55)
    tall = half * 1.13
    case = plastic(rng, ("black", "black", "dark gray"))
    glass = make_finish(rng, "glass", "black", "screen", scale=float(rng.integers(1, 9999)))
    body = box((-half, 0, 0.05), (half, 0.045, 0.05 + tall))
    face = box((-half + 0.012, 0.046, 0.065), (half - 0.012, 0.047, 0.04 + tall), ("back",))
    feet = [box((x - 0.01, -0.07, 0), (x + 0.01, 0.12, 0.05)) for x in (-half * 0.6, half * 0.6)]
    return FurnitureModel().add("other furniture", ([body], case), ([face], glass), (feet, case))


def clothes_rack(rng: np.random.Generator) -> FurnitureModel:
    """A rail on posts with clothes on hangers."""
    half, height = measure(rng, 0.4, 0.5), measure(rng, 1.4, 1.6)
    y, finish = 0.25, metal(rng)
    rods = [tube([(-half, y, 0.05), (-half, y, height), (half, y, height), (half, y, 0.05)], 0.014)]
    rods += [cylinder((x, 0.02, 0.03), (x, 0.48, 0.03), 0.016) for x in (-half, half)]
    parts = []
    for x in np.linspace(-half + 0.1, half - 0.1, int(rng.integers(5, 9))):
        drop = measure(rng, 0.6, 0.95)
        cloth = rounded_box(
            (x - 0.025, y - 0.2, height - 0.08 - drop), (x + 0.025, y + 0.2, height - 0.06), 0.024
        )
        parts.append(([cloth], fabric(rng)))
    return FurnitureModel().add("other furniture", *parts, (rods, finish))


def waste_bin(rng: np.random.Generator) -> FurnitureModel:
    """A waste bin or laundry basket."""
    radius, height = measure(rng, 0.12, 0.2), measure(rng, 0.3, 0.55)
    shape = [
        (radius * 0.8, 0.0),
        (radius, height),
        (radius * 0.93, height),
        (radius * 0.75, 0.02),
        (1e-3, 0.02),
    ]
    finish = (
        plastic(rng)
        if bernoulli(rng, 0.6)
        else make_finish(
            rng, "fabric", choose(rng, ("beige", "cream", "gray")), "weave", scale=0.02
        )
    )
    return FurnitureModel().add("other furniture", ([lathe((0, radius, 0), shape, 14)], finish))


def pendant(rng: np.random.Generator, drop: float) -> FurnitureModel:
    """A lamp that hangs from the ceiling (z = 0) by `drop` metres."""
    shape = any_kind(rng, ("bell", "globe", "flat"))
    profile = {
        "bell": [(0.19, -0.16), (0.13, -0.06), (0.03, 0.0)],
        "globe": [(0.02, -0.24), (0.1, -0.21), (0.13, -0.12), (0.1, -0.03), (0.02, 0.0)],
        "flat": [(0.22, -0.08), (0.22, 0.0), (0.02, 0.0)],
    }[shape]
    cord = cylinder((0, 0, -drop), (0, 0, 0), 0.006, segments=6)
    return FurnitureModel().add(
        "other furniture",
        ([lathe((0, 0, -drop), profile, 14)], lampshade_finish(rng)),
        ([cord], plastic(rng, ("black", "white"))),
    )
