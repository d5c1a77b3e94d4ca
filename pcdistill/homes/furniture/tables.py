"""Tables, desks, and the things that stand on desks."""

from __future__ import annotations

import numpy as np

from pcdistill.homes.collection import any_kind, measure
from pcdistill.homes.furniture.beds_and_seats import legs
from pcdistill.homes.materials import (
    Finish,
    bernoulli,
    make_finish,
    metal,
    painted,
    plastic,
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
    loft,
    ring,
    rotate_x,
    rounded_box,
    tube,
)


def table(rng: np.random.Generator) -> FurnitureModel:
    """A dining table: four legs, trestles, or a round top on a pedestal; centred on x, y >= 0."""
    kind = any_kind(rng, ("legs", "legs", "trestle", "pedestal", "round"))
    height, finish = measure(rng, 0.71, 0.77), wood_or_paint(rng, 0.75)
    if kind in ("pedestal", "round"):
        return _round_table(rng, measure(rng, 0.4, 0.52), height, kind == "pedestal", finish)
    half, depth = measure(rng, 0.45, 0.65), measure(rng, 0.65, 0.8)
    top = box((-half, 0, height - 0.035), (half, depth, height))
    if kind == "legs":
        thick = measure(rng, 0.045, 0.08)
        made = legs(
            half - 0.06, 0.06, depth - 0.06, height - 0.03, thick, round_=bernoulli(rng, 0.4)
        )
        made += _apron(half - 0.06, 0.06, depth - 0.06, height - 0.035)
    else:
        made = []
        for x in (-half + 0.18, half - 0.18):
            made.append(box((x - 0.03, 0.08, 0), (x + 0.03, depth - 0.08, 0.05)))
            made.append(
                box((x - 0.03, depth / 2 - 0.07, 0.05), (x + 0.03, depth / 2 + 0.07, height - 0.03))
            )
        made.append(
            box((-half + 0.18, depth / 2 - 0.02, 0.25), (half - 0.18, depth / 2 + 0.02, 0.32))
        )
    other = finish if bernoulli(rng, 0.7) else painted(rng)
    return FurnitureModel().add("table", ([top], finish), (made, other))


def _apron(half: float, low: float, high: float, top: float) -> list[Array]:
    return [
        box((-half, low - 0.01, top - 0.08), (half, low + 0.01, top)),
        box((-half, high - 0.01, top - 0.08), (half, high + 0.01, top)),
        box((-half - 0.01, low, top - 0.08), (-half + 0.01, high, top)),
        box((half - 0.01, low, top - 0.08), (half + 0.01, high, top)),
    ]


def _round_table(
    rng: np.random.Generator, radius: float, height: float, pedestal: bool, finish: Finish
) -> FurnitureModel:
    center = (0.0, radius)
    discs = [
        ring((*center, height - 0.03), radius, radius, 20),
        ring((*center, height), radius, radius, 20),
    ]
    top = loft(discs, cap_start=True, cap_end=True)
    if pedestal:
        column = lathe(
            (*center, 0),
            [
                (radius * 0.6, 0),
                (radius * 0.58, 0.03),
                (0.07, 0.07),
                (0.045, 0.3),
                (0.07, height - 0.03),
            ],
        )
        made = [column]
    else:
        reach = radius * 0.75
        made = []
        for turn in np.pi / 4 + np.arange(4) * np.pi / 2:
            foot = (reach * cosine(turn), radius + reach * sine(turn), 0)
            head = (0.7 * foot[0], radius + 0.7 * (foot[1] - radius), height - 0.03)
            made.append(cylinder(foot, head, 0.018, 0.025))
    return FurnitureModel().add(
        "table", ([top], finish), (made, finish if bernoulli(rng, 0.6) else metal(rng))
    )


def coffee_table(rng: np.random.Generator) -> FurnitureModel:
    """A low table for the space before a sofa."""
    half, depth, height = (
        measure(rng, 0.38, 0.5),
        measure(rng, 0.45, 0.55),
        measure(rng, 0.36, 0.45),
    )
    kind, finish = any_kind(rng, ("legs", "shelf", "round", "block")), wood_or_paint(rng, 0.7)
    if kind == "round":
        return _round_table(rng, measure(rng, 0.28, 0.36), height, False, finish)
    top = box((-half, 0, height - 0.03), (half, depth, height))
    if kind == "block":
        made = [
            box((-half, 0, 0), (-half + 0.03, depth, height - 0.03)),
            box((half - 0.03, 0, 0), (half, depth, height - 0.03)),
            box((-half + 0.03, 0.02, 0.12), (half - 0.03, depth - 0.02, 0.14)),
        ]
    else:
        made = legs(
            half - 0.04, 0.04, depth - 0.04, height - 0.03, 0.04, round_=bernoulli(rng, 0.5)
        )
        if kind == "shelf":
            made.append(box((-half + 0.03, 0.03, 0.1), (half - 0.03, depth - 0.03, 0.12)))
    return FurnitureModel().add(
        "table", ([top], finish), (made, finish if bernoulli(rng, 0.6) else metal(rng))
    )


def desk(rng: np.random.Generator, *, furnished: bool = True) -> FurnitureModel:
    """A desk with its back at the wall: drawer pedestal, side panels, trestles or a hutch."""
    kind = any_kind(rng, ("pedestal", "pedestal", "double", "panels", "hutch"))
    half, depth = measure(rng, 0.5, 0.65), measure(rng, 0.52, 0.62)
    height, finish = measure(rng, 0.71, 0.76), wood_or_paint(rng, 0.6)
    made = [
        box((-half, 0, height - 0.03), (half, depth, height)),
        box((-half + 0.03, 0.04, 0.3), (half - 0.03, 0.06, height - 0.03)),  # modesty panel
    ]
    seams: list[Array] = []
    knobs: list[Array] = []
    side = -1 if bernoulli(rng, 0.5) else 1
    for end in (-1, 1):
        x0, x1 = sorted((end * half, end * (half - 0.03)))
        if kind == "double" or (kind in ("pedestal", "hutch") and end == side):
            x0, x1 = sorted((end * half, end * (half - 0.36)))
            made.append(box((x0, 0.03, 0.02), (x1, depth - 0.03, height - 0.03)))
            new_seams, new_knobs = _drawers(x0, x1, 0.04, height - 0.05, depth - 0.03, 3)
            seams += new_seams
            knobs += new_knobs
        else:
            made.append(box((x0, 0.02, 0), (x1, depth - 0.02, height - 0.03)))
    if kind == "hutch":
        top = height + measure(rng, 0.35, 0.5)
        made += [
            box((-half, 0, height), (-half + 0.02, 0.22, top)),
            box((half - 0.02, 0, height), (half, 0.22, top)),
            box((-half, 0, top), (half, 0.22, top + 0.02)),
            box((-half + 0.02, 0, top - 0.2), (half - 0.02, 0.2, top - 0.18)),
        ]
    front = finish if bernoulli(rng, 0.5) else painted(rng)
    model = FurnitureModel().add("desk", (made, finish), (seams, front), (knobs, metal(rng)))
    if furnished:
        for thing in _desk_things(rng, half, depth, height):
            model.extend(thing)
    return model


def _drawers(
    x0: float, x1: float, z0: float, z1: float, y: float, count: int
) -> tuple[list[Array], list[Array]]:
    """Drawer fronts that stand a centimetre and a half proud of y, and their knobs."""
    fronts, knobs = [], []
    for low, high in zip(
        *(np.linspace(z0, z1, count + 1)[k : count + k] for k in (0, 1)), strict=True
    ):
        fronts.append(box((x0 + 0.008, y, low + 0.006), (x1 - 0.008, y + 0.016, high - 0.006)))
        middle, level = (x0 + x1) / 2, (low + high) / 2 + 0.02
        reach = min(0.06, (x1 - x0) / 5)
        knobs.append(
            box(
                (middle - reach, y + 0.016, level - 0.008),
                (middle + reach, y + 0.04, level + 0.008),
            )
        )
    return fronts, knobs


def _desk_things(
    rng: np.random.Generator, half: float, depth: float, height: float
) -> list[FurnitureModel]:
    made = []
    where = rng.uniform(-0.15, 0.15)
    if bernoulli(rng, 0.75):
        made.append(monitor(rng).transformed(where, 0.12, height))
        if bernoulli(rng, 0.8):
            board = box((-0.2, 0, 0), (0.2, 0.14, 0.02))
            thing = FurnitureModel().add(
                "other furniture", ([board], plastic(rng, ("black", "white", "gray")))
            )
            made.append(thing.transformed(where, 0.34, height))
    elif bernoulli(rng, 0.7):
        made.append(laptop(rng).transformed(where, 0.2, height))
    if bernoulli(rng, 0.55):
        made.append(
            desk_lamp(rng).transformed(-half + 0.14 if where > 0 else half - 0.14, 0.16, height)
        )
    return made


def monitor(rng: np.random.Generator) -> FurnitureModel:
    """A computer screen on its foot; faces +y."""
    half, tall, case = (
        measure(rng, 0.22, 0.32),
        measure(rng, 0.28, 0.36),
        plastic(rng, ("black", "gray")),
    )
    low = 0.09
    glass = make_finish(rng, "glass", "black", "screen", scale=float(rng.integers(1, 9999)))
    body = box((-half, 0, low), (half, 0.035, low + tall))
    face = box(
        (-half + 0.012, 0.036, low + 0.015), (half - 0.012, 0.037, low + tall - 0.012), ("back",)
    )
    foot = [
        box((-0.11, -0.04, 0), (0.11, 0.13, 0.012)),
        box((-0.025, 0, 0.01), (0.025, 0.03, low + 0.05)),
    ]
    return FurnitureModel().add("other furniture", ([body], case), ([face], glass), (foot, case))


def laptop(rng: np.random.Generator) -> FurnitureModel:
    """An open laptop; faces +y."""
    case = plastic(rng, ("black", "gray", "silver"))
    glass = make_finish(rng, "glass", "black", "screen", scale=float(rng.integers(1, 3333) * 3))
    lid = box((-0.17, 0, 0.015), (0.17, 0.01, 0.23))
    face = box((-0.16, 0.011, 0.03), (0.16, 0.012, 0.22), ("back",))
    base = box((-0.17, 0, 0), (0.17, 0.23, 0.018))
    return FurnitureModel().add(
        "other furniture",
        ([base, rotate_x(lid, 0.25, (0, 0.015))], case),
        ([rotate_x(face, 0.25, (0, 0.015))], glass),
    )


def desk_lamp(rng: np.random.Generator) -> FurnitureModel:
    """A reading lamp with a bent arm."""
    finish = metal(rng, ("black", "silver", "gold")) if bernoulli(rng, 0.5) else painted(rng)
    base = lathe((0, 0, 0), [(0.085, 0), (0.08, 0.02), (1e-3, 0.025)], 12)
    arm = tube([(0, 0, 0.02), (0, -0.06, 0.22), (0, 0.08, 0.4)], 0.009)
    shade = lathe((0, 0.1, 0.32), [(0.085, 0), (0.04, 0.1), (1e-3, 0.11)], 12)
    return FurnitureModel().add("other furniture", ([shade, base, arm], finish))


def table_top_things(rng: np.random.Generator, height: float) -> list[FurnitureModel]:
    """A bowl or a vase for the middle of a table, at its origin."""
    if bernoulli(rng, 0.5):
        return []
    finish = plastic(rng) if bernoulli(rng, 0.5) else wood(rng)
    if bernoulli(rng, 0.5):
        shape = [(0.04, 0), (0.1, 0.03), (0.14, 0.08), (0.13, 0.08), (0.09, 0.035), (1e-3, 0.02)]
    else:
        shape = [(0.04, 0), (0.07, 0.08), (0.05, 0.18), (0.035, 0.24), (0.045, 0.27), (0.02, 0.2)]
    return [FurnitureModel().add("other furniture", ([lathe((0, 0, height), shape, 12)], finish))]


def crate(rng: np.random.Generator) -> FurnitureModel:
    """A cardboard box or a storage crate on the floor."""
    half, depth, height = (
        measure(rng, 0.15, 0.25),
        measure(rng, 0.25, 0.38),
        measure(rng, 0.2, 0.38),
    )
    finish = make_finish(rng, "paper", "light brown") if bernoulli(rng, 0.6) else plastic(rng)
    body = box((-half, 0, 0), (half, depth, height))
    lid = rounded_box(
        (-half - 0.01, -0.01, height - 0.05), (half + 0.01, depth + 0.01, height + 0.01), 0.01
    )
    return FurnitureModel().add("other furniture", ([body, lid], finish))
