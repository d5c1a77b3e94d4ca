"""Finishes: what a surface is made of, its pattern and its colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pcdistill.homes.classes import MATERIAL_INDEX, NAMED_COLORS
from pcdistill.homes.collection import choose, measure

PATTERNS: tuple[str, ...] = (
    "plain",
    "grain",
    "tiles",
    "plaster",
    "weave",
    "stripes",
    "checks",
    "planks",
    "artwork",
    "outdoors",
    "speckle",
    "dots",
    "screen",
    "mirror",
    "brushed",
    "rings",
    "glow",
)
"""Procedural patterns by index; `textures` paints them."""

PATTERN_INDEX: dict[str, int] = {name: index for index, name in enumerate(PATTERNS)}


class Finish(NamedTuple):
    """One look: material, pattern and its size in metres, two sRGB colours in [0, 1], a word."""

    material: int
    pattern: int
    color: tuple[float, float, float]
    second: tuple[float, float, float]
    scale: float
    color_name: str


WOOD_COLORS = ("light brown", "brown", "dark brown", "beige", "light brown", "brown")
FABRIC_COLORS = (
    "gray",
    "dark gray",
    "beige",
    "cream",
    "red",
    "orange",
    "yellow",
    "green",
    "dark green",
    "teal",
    "light blue",
    "blue",
    "dark blue",
    "purple",
    "pink",
    "brown",
    "white",
)
PAINT_COLORS = (
    "white",
    "white",
    "cream",
    "gray",
    "dark gray",
    "black",
    "blue",
    "light blue",
    "green",
    "dark green",
    "red",
    "yellow",
    "teal",
    "pink",
)


def bernoulli(rng: np.random.Generator, probability: float) -> bool:
    """True with the given probability."""
    return bool(rng.random() < probability)


def make_finish(
    rng: np.random.Generator,
    material: str,
    color_name: str,
    pattern: str = "plain",
    *,
    scale: float = 0.1,
    second: str | None = None,
    jitter: float = 0.05,
) -> Finish:
    """A finish around a named colour; the colour itself varies by `jitter` from draw to draw.

    Args:
        rng: random numbers of the home.
        material: one of `MATERIALS`.
        color_name: one of the named colors.
        pattern: name of a pattern.
        scale: size of the pattern, metres.
        second: name of the second color of the pattern; by default the first one, darker.
        jitter: standard deviation of the change of brightness, unitless.
    """
    color = _near(rng, color_name, jitter)
    other = _near(rng, second, jitter) if second else _shade(color, 0.82)
    return Finish(
        MATERIAL_INDEX[material], PATTERN_INDEX[pattern], color, other, float(scale), color_name
    )


def wood(rng: np.random.Generator, colors: Sequence[str] = WOOD_COLORS) -> Finish:
    """Grained wood."""
    return make_finish(
        rng, "wood", choose(rng, colors), "grain", scale=measure(rng, 0.02, 0.05), jitter=0.06
    )


def painted(rng: np.random.Generator, colors: Sequence[str] = PAINT_COLORS) -> Finish:
    """Painted wood or board, one even colour."""
    return make_finish(rng, "paint", choose(rng, colors))


def wood_or_paint(rng: np.random.Generator, wooden: float = 0.6) -> Finish:
    """Wood with the given probability, paint otherwise."""
    return wood(rng) if bernoulli(rng, wooden) else painted(rng)


def fabric(rng: np.random.Generator, colors: Sequence[str] = FABRIC_COLORS) -> Finish:
    """Woven cloth: plain weave, stripes, checks or dots."""
    pattern = choose(rng, ("weave", "weave", "weave", "stripes", "checks", "dots"))
    size = {"weave": 0.006, "stripes": 0.08, "checks": 0.1, "dots": 0.09}[pattern]
    second = choose(rng, ("white", "cream", "gray", "dark gray", "dark blue", "beige"))
    name = choose(rng, colors)
    return make_finish(
        rng,
        "fabric",
        name,
        pattern,
        scale=size * measure(rng, 0.7, 1.4),
        second=None if pattern == "weave" or second == name else second,
    )


def plain_fabric(rng: np.random.Generator, colors: Sequence[str] = FABRIC_COLORS) -> Finish:
    """Cloth without a pattern beyond its weave."""
    return make_finish(
        rng, "fabric", choose(rng, colors), "weave", scale=measure(rng, 0.004, 0.008)
    )


def upholstery(rng: np.random.Generator) -> Finish:
    """Cover of a sofa or an armchair: mostly plain cloth, sometimes leather."""
    if bernoulli(rng, 0.25):
        return make_finish(
            rng, "leather", choose(rng, ("brown", "dark brown", "black", "cream", "red"))
        )
    return plain_fabric(rng) if bernoulli(rng, 0.75) else fabric(rng)


def metal(
    rng: np.random.Generator, colors: Sequence[str] = ("silver", "black", "silver", "gold")
) -> Finish:
    """Smooth metal."""
    return make_finish(rng, "metal", choose(rng, colors), jitter=0.03)


def steel(rng: np.random.Generator) -> Finish:
    """Brushed stainless steel."""
    return make_finish(rng, "metal", "silver", "brushed", scale=0.01, jitter=0.03)


def ceramic(rng: np.random.Generator) -> Finish:
    """Sanitary ware: nearly always white."""
    return make_finish(
        rng, "ceramic", choose(rng, ("white",) * 6 + ("cream", "beige")), jitter=0.02
    )


def plastic(rng: np.random.Generator, colors: Sequence[str] = PAINT_COLORS) -> Finish:
    """Moulded plastic."""
    return make_finish(rng, "plastic", choose(rng, colors))


def stone(rng: np.random.Generator) -> Finish:
    """Speckled stone of a worktop."""
    return make_finish(
        rng,
        "stone",
        choose(rng, ("gray", "dark gray", "black", "beige", "white", "brown")),
        "speckle",
        scale=measure(rng, 0.006, 0.015),
        second=choose(rng, ("white", "gray", "black")),
    )


def _near(rng: np.random.Generator, name: str, jitter: float) -> tuple[float, float, float]:
    base = np.asarray(NAMED_COLORS[name]) / 255.0
    shifted = base * (1 + rng.normal(0, jitter)) + rng.normal(0, jitter * 0.4, 3)
    red, green, blue = np.clip(shifted, 0.02, 0.97)
    return float(red), float(green), float(blue)


def _shade(color: tuple[float, float, float], factor: float) -> tuple[float, float, float]:
    return color[0] * factor, color[1] * factor, color[2] * factor
