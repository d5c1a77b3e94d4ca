"""Beds, chairs and sofas."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from pcdistill.homes.collection import any_kind, choose, measure
from pcdistill.homes.materials import (
    Finish,
    bernoulli,
    fabric,
    make_finish,
    metal,
    plain_fabric,
    plastic,
    upholstery,
    wood,
    wood_or_paint,
)
from pcdistill.homes.model import FurnitureModel
from pcdistill.homes.portable_math import cosine, sine
from pcdistill.homes.primitives import (
    Array,
    box,
    cylinder,
    lathe,
    rotate_x,
    rotate_z,
    rounded_box,
    sheet,
    translate,
    tube,
)


def legs(
    half_x: float, low_y: float, high_y: float, height: float, thickness: float, *, round_: bool
) -> list[Array]:
    """Four legs at the corners of a rectangle, each a part of its own.

    Args:
        half_x: metres from the middle to a leg along x.
        low_y: y of the legs at one side, metres.
        high_y: y of those at the other, metres.
        height: metres.
        thickness: metres.
        round_: round rather than square.
    """
    made = []
    for x in (-half_x, half_x):
        for y in (low_y, high_y):
            if round_:
                made.append(cylinder((x, y, 0), (x, y, height), thickness * 0.4, thickness * 0.5))
            else:
                t = thickness / 2
                made.append(box((x - t, y - t, 0), (x + t, y + t, height)))
    return made


def bed(rng: np.random.Generator) -> FurnitureModel:
    """A bed with its head at the wall: slatted, panelled, box spring, metal frame or daybed."""
    kind = any_kind(rng, ("panel", "slats", "boxspring", "metal", "low"))
    width = float(choose(rng, (0.9, 1.2, 1.4, 1.6)))
    length, seat = measure(rng, 1.85, 2.0), measure(rng, 0.26, 0.36)
    frame = wood_or_paint(rng)
    model_parts: list[tuple[list[Array], Finish]] = []
    if kind == "metal":
        frame = metal(rng, ("black", "white", "silver"))
        model_parts.append((_metal_bedstead(width, length, seat), frame))
    elif kind == "boxspring":
        frame = plain_fabric(rng)
        half = width / 2
        base = rounded_box((-half, 0.08, 0.06), (half, length, seat), 0.03)
        head = rounded_box((-half - 0.03, 0, 0), (half + 0.03, 0.1, measure(rng, 0.95, 1.2)), 0.04)
        model_parts.append(([base, head], frame))
    else:
        model_parts.append((_wooden_bedstead(rng, kind, width, length, seat), frame))
    model_parts += _bedding(rng, width, length, seat)
    return FurnitureModel().add("bed", *model_parts)


def _wooden_bedstead(
    rng: np.random.Generator, kind: str, width: float, length: float, seat: float
) -> list[Array]:
    half, top = width / 2 + 0.03, measure(rng, 0.8, 1.1) if kind != "low" else 0.55
    made = [
        box((-half, 0, 0.12), (-half + 0.03, length, seat)),
        box((half - 0.03, 0, 0.12), (half, length, seat)),
        box((-half, length - 0.03, 0.12), (half, length, seat + (0.12 if kind == "slats" else 0))),
    ]
    made += legs(half - 0.04, 0.04, length - 0.04, seat, 0.07, round_=False)
    if kind == "slats":
        count = int(rng.integers(5, 9))
        for x in np.linspace(-half + 0.06, half - 0.06, count):
            made.append(box((x - 0.025, 0.01, seat), (x + 0.025, 0.04, top - 0.06)))
        made.append(box((-half, 0, top - 0.08), (half, 0.05, top)))
        made += [box((x, 0, 0), (x + 0.05, 0.05, top)) for x in (-half, half - 0.05)]
    else:
        made.append(box((-half, 0, 0.1), (half, 0.05, top)))
    return made


def _metal_bedstead(width: float, length: float, seat: float) -> list[Array]:
    half, made = width / 2, []
    for y, top in ((0.03, 1.0), (length, 0.62)):
        made.append(tube([(-half, y, 0), (-half, y, top), (half, y, top), (half, y, 0)], 0.018))
        inner = np.linspace(-half, half, 6)[1:-1]
        made += [cylinder((x, y, seat - 0.05), (x, y, top), 0.01, segments=6) for x in inner]
    made += [
        cylinder((x, 0.03, seat - 0.04), (x, length, seat - 0.04), 0.02) for x in (-half, half)
    ]
    return made


def _bedding(
    rng: np.random.Generator, width: float, length: float, seat: float
) -> list[tuple[list[Array], Finish]]:
    half, top = width / 2 - 0.01, seat + measure(rng, 0.16, 0.22)
    sheet_finish = make_finish(
        rng, "fabric", choose(rng, ("white", "cream", "light blue", "gray")), "weave"
    )
    cover = fabric(rng)
    mattress = rounded_box((-half, 0.08, seat), (half, length - 0.04, top), 0.06)
    start = measure(rng, 0.5, 0.75)
    drop = measure(rng, 0.08, 0.3)
    blanket = _draped(rng, half, start, length - 0.03, top, drop)
    made = [([mattress], sheet_finish), ([blanket], cover)]
    count = 1 if width < 1.1 else 2
    pillow_finish = sheet_finish if bernoulli(rng, 0.5) else fabric(rng)
    pillows = []
    for index in range(count):
        middle = (index - (count - 1) / 2) * width / count
        reach = min(width / count, 0.7) / 2 - 0.03
        pillow = rounded_box((-reach, 0.12, top), (reach, 0.48, top + 0.14), 0.07)
        tip = rotate_x(pillow, -measure(rng, 0, 0.5), (0.12, top))
        pillows.append(translate(rotate_z(tip, rng.normal(0, 0.05), (0, 0.3)), (middle, 0, 0.01)))
    made.append((pillows, pillow_finish))
    if bernoulli(rng, 0.4):
        throw = _draped(rng, half + 0.015, length - 0.65, length - 0.2, top + 0.02, drop + 0.05)
        made.append(([throw], plain_fabric(rng)))
    return made


def _draped(
    rng: np.random.Generator, half: float, start: float, end: float, top: float, drop: float
) -> Array:
    """A soft blanket over the width of a mattress, hanging down on both sides."""
    across = np.array([-half - 0.035, -half - 0.03, -half - 0.01, -half + 0.04, -half / 2, 0])
    across = np.concatenate([across, -across[-2::-1]])
    lift = np.array([-drop, -drop / 2, -0.01, 0.025, 0.045, 0.05])
    lift = np.concatenate([lift, lift[-2::-1]])
    along = np.linspace(start, end, 7)
    x, y = np.meshgrid(across, along)
    ripple = rng.normal(0, 0.006, x.shape)
    z = top + lift[None] + ripple
    z[0] -= 0.035  # the hem lies on the mattress
    z[-1] -= 0.035
    grid = np.stack([x + rng.normal(0, 0.004, x.shape), y, z], axis=-1)
    return sheet(grid)


def chair(rng: np.random.Generator) -> FurnitureModel:
    """A chair that looks along +y: wooden, padded, office, shell, or now and then an armchair."""
    kind = any_kind(rng, ("wooden", "wooden", "padded", "office", "shell", "armchair"))
    makers = {
        "wooden": _wooden_chair,
        "padded": _padded_chair,
        "office": _office_chair,
        "shell": _shell_chair,
        "armchair": _armchair,
    }
    return makers[kind](rng)


def dining_chair(rng: np.random.Generator) -> FurnitureModel:
    """A chair that fits under a table."""
    return choose_model(rng, (_wooden_chair, _wooden_chair, _padded_chair, _shell_chair))


def desk_chair(rng: np.random.Generator) -> FurnitureModel:
    """A chair for a desk: mostly one on castors."""
    return choose_model(rng, (_office_chair, _office_chair, _office_chair, _wooden_chair))


def choose_model(
    rng: np.random.Generator, makers: Sequence[Callable[[np.random.Generator], FurnitureModel]]
) -> FurnitureModel:
    """A model by one of several makers."""
    return makers[int(rng.integers(len(makers)))](rng)


def _wooden_chair(rng: np.random.Generator) -> FurnitureModel:
    half, depth = measure(rng, 0.19, 0.23), measure(rng, 0.38, 0.44)
    seat, top, finish = measure(rng, 0.43, 0.47), measure(rng, 0.82, 1.0), wood_or_paint(rng, 0.7)
    t = measure(rng, 0.03, 0.045)
    made = legs(half - t / 2, t / 2, depth - t / 2, seat, t, round_=bernoulli(rng, 0.4))
    made.append(box((-half, 0, seat), (half, depth, seat + 0.025)))
    posts = [box((x - t / 2, 0, seat), (x + t / 2, t, top)) for x in (-half + t / 2, half - t / 2)]
    if bernoulli(rng, 0.5):
        heights = np.linspace(seat + 0.15, top - 0.03, int(rng.integers(2, 5)))
        rails = [box((-half + t, 0.005, z - 0.03), (half - t, 0.025, z + 0.03)) for z in heights]
    else:
        places = np.linspace(-half + 0.07, half - 0.07, int(rng.integers(3, 6)))
        rails = [box((x - 0.012, 0.005, seat), (x + 0.012, 0.025, top - 0.05)) for x in places]
        rails.append(box((-half, 0, top - 0.06), (half, 0.03, top)))
    back = [rotate_x(part, 0.12, (0, seat)) for part in posts + rails]
    parts = [(made + back, finish)]
    if bernoulli(rng, 0.35):
        pad = rounded_box(
            (-half + 0.02, 0.04, seat + 0.02), (half - 0.02, depth - 0.01, seat + 0.06), 0.02
        )
        parts.append(([pad], fabric(rng)))
    return FurnitureModel().add("chair", *parts)


def _padded_chair(rng: np.random.Generator) -> FurnitureModel:
    half, depth, seat = measure(rng, 0.21, 0.25), measure(rng, 0.42, 0.48), measure(rng, 0.42, 0.46)
    cover, frame = upholstery(rng), wood(rng) if bernoulli(rng, 0.6) else metal(rng)
    cushion = rounded_box((-half, 0.02, seat - 0.05), (half, depth, seat + 0.04), 0.03)
    back = rotate_x(
        rounded_box((-half, 0, seat), (half, 0.07, measure(rng, 0.85, 1.0)), 0.03), 0.15, (0, seat)
    )
    made = legs(half - 0.03, 0.05, depth - 0.04, seat - 0.04, 0.035, round_=True)
    return FurnitureModel().add("chair", ([cushion, back], cover), (made, frame))


def _office_chair(rng: np.random.Generator) -> FurnitureModel:
    seat, half = measure(rng, 0.43, 0.5), measure(rng, 0.22, 0.25)
    cover = plain_fabric(rng, ("black", "dark gray", "blue", "red", "gray", "green"))
    dark, y = plastic(rng, ("black", "gray", "white")), 0.27
    cushion = rounded_box((-half, 0.05, seat - 0.04), (half, 0.5, seat + 0.05), 0.04)
    back = rounded_box(
        (-half + 0.03, 0.0, seat + 0.12), (half - 0.03, 0.07, seat + measure(rng, 0.5, 0.65)), 0.035
    )
    column = [cylinder((0, y, 0.08), (0, y, seat - 0.03), 0.028)]
    column.append(box((-0.03, 0.01, seat - 0.03), (0.03, 0.03, seat + 0.3)))
    for turn in np.arange(5) * 2 * np.pi / 5:
        tip = np.array([0.28 * cosine(turn), y + 0.28 * sine(turn), 0.06])
        column.append(cylinder((0, y, 0.09), tip, 0.022, 0.016, segments=6))
        column.append(
            cylinder(tip - np.array([0, 0.018, 0.03]), tip + np.array([0, 0.018, -0.03]), 0.03)
        )
    if bernoulli(rng, 0.6):
        for side in (-half - 0.02, half + 0.02):
            column.append(tube([(side, 0.2, seat), (side, 0.2, seat + 0.2)], 0.015))
            column.append(box((side - 0.03, 0.08, seat + 0.2), (side + 0.03, 0.36, seat + 0.225)))
    return FurnitureModel().add(
        "chair", ([cushion, rotate_x(back, 0.08, (0, seat))], cover), (column, dark)
    )


def _shell_chair(rng: np.random.Generator) -> FurnitureModel:
    seat = measure(rng, 0.42, 0.46)
    shell = plastic(rng, ("white", "black", "red", "yellow", "green", "blue", "gray", "orange"))
    profile = np.array(
        [(0.44, -0.03), (0.4, 0.005), (0.2, 0.0), (0.09, 0.03), (0.03, 0.18), (0, 0.4)]
    )
    side = np.linspace(-1, 1, 6)
    grid = np.zeros((len(profile), 6, 3))
    for row, (y, z) in enumerate(profile):
        half = 0.23 if z < 0.3 else 0.19
        grid[row, :, 0] = -side * half
        grid[row, :, 1] = y + 0.05 * side**2 * (z > 0.05)
        grid[row, :, 2] = seat + z + 0.04 * side**2 * (z < 0.1)
    outer = grid + np.array([0, -0.012, -0.012])
    made = []
    finish = metal(rng) if bernoulli(rng, 0.5) else wood(rng)
    for x in (-1, 1):
        for y, foot in ((0.14, 0.03), (0.36, 0.46)):
            made.append(cylinder((x * 0.22, foot, 0), (x * 0.13, y, seat), 0.013, segments=6))
    skin = np.concatenate([sheet(grid), sheet(outer)[:, ::-1]])
    return FurnitureModel().add("chair", ([skin], shell), (made, finish))


def _armchair(rng: np.random.Generator) -> FurnitureModel:
    return _upholstered(rng, "chair", measure(rng, 0.72, 0.85), 1)


def sofa(rng: np.random.Generator) -> FurnitureModel:
    """A sofa for two or three: boxy, with round arms, on wooden legs, or with a chaise."""
    seats = int(choose(rng, (2, 3, 3)))
    return _upholstered(rng, "sofa", seats * measure(rng, 0.58, 0.66) + 0.35, seats)


def _upholstered(
    rng: np.random.Generator, category: str, width: float, seats: int
) -> FurnitureModel:
    depth, seat = measure(rng, 0.78, 0.9), measure(rng, 0.38, 0.44)
    back, arm_top = measure(rng, 0.72, 0.88), measure(rng, 0.54, 0.64)
    arm, lift = measure(rng, 0.1, 0.2), measure(rng, 0.04, 0.14)
    cover, half = upholstery(rng), width / 2
    base = rounded_box((-half + 0.01, 0.02, lift), (half - 0.01, depth - 0.02, seat - 0.13), 0.02)
    spine = rounded_box((-half + arm * 0.5, 0, lift), (half - arm * 0.5, 0.16, back), 0.05)
    arms = _arms(rng, half, depth, lift, arm, arm_top)
    inner = half - arm
    cushions = []
    for index in range(seats):
        x0, x1 = (-inner + 2 * inner * (index + k) / seats for k in (0, 1))
        cushions.append(
            rounded_box((x0 + 0.004, 0.14, seat - 0.13), (x1 - 0.004, depth, seat + 0.02), 0.045)
        )
        rest = rounded_box((x0 + 0.01, 0.13, seat + 0.02), (x1 - 0.01, 0.3, back + 0.05), 0.06)
        cushions.append(rotate_x(rest, 0.14, (0.2, seat)))
    parts = [([base, spine, *arms, *cushions], cover)]
    feet = legs(half - 0.08, 0.07, depth - 0.08, lift + 0.01, 0.045, round_=True)
    parts.append((feet, wood(rng) if bernoulli(rng, 0.7) else metal(rng)))
    if category == "sofa" and seats == 3 and bernoulli(rng, 0.3):
        side = -1 if bernoulli(rng, 0.5) else 1
        x0, x1 = sorted((side * inner, side * (inner - 2 * inner / seats)))
        chaise = [
            rounded_box((x0, depth - 0.03, lift), (x1, depth + 0.55, seat - 0.13), 0.02),
            rounded_box((x0, depth - 0.05, seat - 0.13), (x1, depth + 0.55, seat + 0.02), 0.045),
        ]
        parts.append((chaise, cover))
    for _ in range(int(rng.integers(0, 3)) if seats > 1 else 0):
        pillow = rounded_box((-0.2, 0, 0), (0.2, 0.13, 0.38), 0.06)
        pillow = translate(
            rotate_x(pillow, 0.3, (0, 0)),
            (rng.uniform(-inner + 0.2, inner - 0.2), 0.33, seat + 0.02),
        )
        parts.append(([pillow], fabric(rng)))
    return FurnitureModel().add(category, *parts)


def _arms(
    rng: np.random.Generator, half: float, depth: float, lift: float, arm: float, top: float
) -> list[Array]:
    if bernoulli(rng, 0.35):  # round rolls on thin panels
        roll, made = arm * 0.55, []
        for x in (-half + roll, half - roll):
            made.append(cylinder((x, 0.02, top - roll), (x, depth, top - roll), roll, segments=12))
            made.append(
                box((x - roll * 0.8, 0.02, lift), (x + roll * 0.8, depth - 0.01, top - roll))
            )
        return made
    radius = float(choose(rng, (0.02, 0.05)))
    return [
        rounded_box((-half, 0, lift), (-half + arm, depth, top), radius),
        rounded_box((half - arm, 0, lift), (half, depth, top), radius),
    ]


def ottoman(rng: np.random.Generator) -> FurnitureModel:
    """A pouf: a low round or square cushion."""
    height, cover = measure(rng, 0.32, 0.44), upholstery(rng)
    radius = measure(rng, 0.2, 0.27)
    if bernoulli(rng, 0.5):
        body = lathe(
            (0, radius, 0),
            [
                (1e-4, 0.0),
                (radius * 0.9, 0.0),
                (radius, height * 0.3),
                (radius, height * 0.75),
                (radius * 0.85, height),
                (1e-4, height + 0.01),
            ],
        )
    else:
        body = rounded_box((-radius, 0, 0.02), (radius, 2 * radius, height), 0.06)
    return FurnitureModel().add("other furniture", ([body], cover))
