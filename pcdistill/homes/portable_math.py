"""Reproducible arithmetic: the same bits on every processor.

Sums, products, quotients and square roots are rounded in one way by IEEE 754; everything else is up
to a library that picks its code by the processor it finds: sine, exponential and power, products of
matrices, and whatever contracts a product and a sum into one step. A home hangs on such numbers
(whether a chair fits, which view shows more), so that the last bit of one may furnish another
home. Generation therefore uses the functions of this module, and coordinates that stand on a grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from pcdistill.jit import njit

Array = npt.NDArray[Any]

GRID = 2.0**-16
"""Metres between the coordinates that geometry may have: sums of them are exact."""
_FRACTION = 2.0**30  # values of sine and cosine per unit


@overload
def snap(value: float) -> float: ...
@overload
def snap(value: Array) -> Array: ...
def snap(value: float | Array) -> float | Array:
    """The nearest multiple of `GRID`, which drops whatever a processor did to the last bits."""
    if isinstance(value, np.ndarray):
        return np.asarray(np.rint(value / GRID) * GRID)
    return float(round(value / GRID) * GRID)


@overload
def cosine(angle: float) -> float: ...
@overload
def cosine(angle: Array) -> Array: ...
def cosine(angle: float | Array) -> float | Array:
    """Cosine of radians, to 30 bits; 0 and 1 at quarter turns are exact."""
    if isinstance(angle, np.ndarray):
        return np.asarray(np.rint(np.cos(angle) * _FRACTION) / _FRACTION)
    return round(math.cos(angle) * _FRACTION) / _FRACTION


@overload
def sine(angle: float) -> float: ...
@overload
def sine(angle: Array) -> Array: ...
def sine(angle: float | Array) -> float | Array:
    """Sine of radians, to 30 bits; 0 and 1 at quarter turns are exact."""
    if isinstance(angle, np.ndarray):
        return np.asarray(np.rint(np.sin(angle) * _FRACTION) / _FRACTION)
    return round(math.sin(angle) * _FRACTION) / _FRACTION


def power(base: Array, exponent: float) -> Array:
    """Powers of numbers >= 0, to 30 bits behind the point."""
    return np.asarray(np.rint(np.power(base, exponent) * _FRACTION) / _FRACTION)


def norms(vectors: Array) -> Array:
    """(..., 3) vectors to their lengths (..., 1)."""
    x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    return np.asarray(np.sqrt(x * x + y * y + z * z)[..., None])


def unit(vectors: Array) -> Array:
    """(..., 3) vectors of length one; a vector of length zero stays zero."""
    length = norms(vectors)
    return np.asarray(vectors / np.where(length > 0, length, 1))


def dot(first: Array, second: Array) -> Array:
    """(...) inner products of (..., 3) vectors, added in order."""
    both = first * second
    return np.asarray(both[..., 0] + both[..., 1] + both[..., 2])


def transform(vectors: Array, rows: Sequence[Array] | Array) -> Array:
    """(..., 3) vectors, each turned by the (3, 3) matrix of `rows`."""
    return np.stack([dot(vectors, np.asarray(row)) for row in rows], axis=-1)


@njit(error_model="numpy")
def decay(x: float) -> float:
    """exp(-x) for x >= 0, to a relative 1e-6 where it is above 1e-4; for shading."""
    if x > 30:
        return 0.0
    y = x / 64
    series = 1 + y * (1 + y * (0.5 + y * (1 / 6 + y * (1 / 24 + y / 120))))
    value = 1 / series
    for _ in range(6):
        value *= value
    return value


@njit(error_model="numpy")
def wave(turns: float) -> float:
    """sin(2 pi turns) to 4e-6; for patterns."""
    t = turns - math.floor(turns + 0.5)
    if t > 0.25:
        t = 0.5 - t
    elif t < -0.25:
        t = -0.5 - t
    x = 6.283185307179586 * t
    square = x * x
    return x * (1 - square / 6 * (1 - square / 20 * (1 - square / 42 * (1 - square / 72))))
