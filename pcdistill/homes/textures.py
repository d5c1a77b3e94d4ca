"""Procedural patterns, painted per surface point."""

from __future__ import annotations

import math

import numpy as np

from pcdistill.homes.portable_math import wave
from pcdistill.jit import njit

_PLAIN, _GRAIN, _TILES, _PLASTER, _WEAVE, _STRIPES, _CHECKS, _PLANKS, _ARTWORK = range(9)
_OUTDOORS, _SPECKLE, _DOTS, _SCREEN, _MIRROR, _BRUSHED, _RINGS, _GLOW = range(9, 17)

NORMALIZED = (_ARTWORK, _OUTDOORS, _SCREEN, _MIRROR, _RINGS)
"""Patterns that fill one patch: their coordinates run from 0 to 1 across it, upright."""

ALONG_EDGE = (_GRAIN, _PLANKS, _BRUSHED)
"""Patterns that follow the longer edge of a patch."""

EMISSIVE = (_OUTDOORS, _SCREEN, _GLOW)
"""Patterns that shine by themselves and take no shading."""


@njit(error_model="numpy")
def hash_noise(i: int, j: int, seed: int) -> float:
    """A number in [0, 1) from two cell indices and a seed.

    Args:
        i: first index of the cell.
        j: second index.
        seed: of the noise.
    """
    mixed = (i * 374761393 + j * 668265263 + seed * 974711) & 0xFFFFFFFF
    mixed = ((mixed ^ (mixed >> 13)) * 1274126177) & 0xFFFFFFFF
    mixed = ((mixed ^ (mixed >> 15)) * 739982445) & 0xFFFFFFFF
    return float((mixed ^ (mixed >> 16)) & 0xFFFFFF) / 16777216.0


@njit(error_model="numpy")
def value_noise(x: float, y: float, seed: int) -> float:
    """Smooth noise in [0, 1] with cells of size one.

    Args:
        x: in cells.
        y: in cells.
        seed: of the noise.
    """
    i, j = math.floor(x), math.floor(y)
    a, b = x - i, y - j
    a, b = a * a * (3 - 2 * a), b * b * (3 - 2 * b)
    low = hash_noise(i, j, seed) * (1 - a) + hash_noise(i + 1, j, seed) * a
    high = hash_noise(i, j + 1, seed) * (1 - a) + hash_noise(i + 1, j + 1, seed) * a
    return low * (1 - b) + high * b


@njit(error_model="numpy")
def _line(position: float, size: float, width: float, footprint: float) -> float:
    """How much of a pixel a line of `width` at every multiple of `size` covers."""
    nearest = abs(position / size - math.floor(position / size + 0.5)) * size
    wide = max(width, footprint)
    return (width / wide) if nearest < wide / 2 else 0.0


@njit(error_model="numpy")
def _fraction(value: float) -> float:
    return value - math.floor(value)


@njit(error_model="numpy")
def _blend(pattern: int, scale: float, u: float, v: float, footprint: float) -> float:
    """Share of the second colour, in [0, 1], for the two-colour patterns."""
    fade = scale / (scale + 2 * footprint)
    if pattern == _GRAIN:
        broad = value_noise(u * 1.3, v / (scale * 1.5), 11)
        fine = value_noise(u * 6.0, v / (scale * 0.25), 12)
        return 0.75 * broad + 0.5 * (fine - 0.5) * fade
    if pattern == _TILES:
        return max(_line(u, scale, 0.006, footprint), _line(v, scale, 0.006, footprint))
    if pattern == _WEAVE:
        return 0.5 * fade * (0.5 + 0.5 * wave(u / scale) * wave(v / scale)) + 0.25 * (
            value_noise(u * 7.0, v * 7.0, 3)
        )
    if pattern == _STRIPES:
        return 1.0 if _fraction(u / scale) < 0.45 else 0.0
    if pattern == _CHECKS:
        across = 0.5 if _fraction(u / scale) < 0.5 else 0.0
        return across + (0.5 if _fraction(v / scale) < 0.5 else 0.0)
    if pattern == _SPECKLE:
        grain = hash_noise(math.floor(u / scale), math.floor(v / scale), 5)
        return 0.25 + fade * (0.6 if grain > 0.75 else -0.1)
    if pattern == _DOTS:
        shift = 0.5 if math.floor(v / scale) % 2 else 0.0
        a, b = _fraction(u / scale + shift) - 0.5, _fraction(v / scale) - 0.5
        return 1.0 if a * a + b * b < 0.07 else 0.0
    if pattern == _RINGS:
        edge = min(min(u, 1 - u), min(v, 1 - v))
        if edge < 0.04 or 0.1 < edge < 0.14:
            return 1.0
        return 0.6 if (abs(u - 0.5) + abs(v - 0.5)) % 0.25 < 0.08 and edge > 0.14 else 0.0
    return 0.0


@njit(error_model="numpy")
def _tone(pattern: int, scale: float, u: float, v: float, footprint: float) -> float:
    """Brightness factor of a surface point."""
    if pattern == _TILES:
        return 0.95 + 0.1 * hash_noise(math.floor(u / scale), math.floor(v / scale), 21)
    if pattern == _PLASTER:
        return 0.95 + 0.05 * value_noise(u * 45, v * 45, 1) + 0.05 * value_noise(u * 2, v * 2, 2)
    if pattern == _PLANKS:
        row = math.floor(v / scale)
        start = hash_noise(row, 0, 7) * 5
        plank = math.floor(u / 1.1 + start)
        grain = value_noise(u * 4.0, v / 0.012, 8) * 0.012 / (0.012 + footprint)
        seam = max(_line(v, scale, 0.004, footprint), _line(u + start * 1.1, 1.1, 0.004, footprint))
        return (0.8 + 0.3 * hash_noise(row, plank, 9) + 0.15 * (grain - 0.3)) * (1 - 0.6 * seam)
    if pattern == _BRUSHED:
        return 0.965 + 0.07 * value_noise(u * 0.8, v / (scale + footprint), 6)
    return 0.98 + 0.04 * value_noise(u * 3.0, v * 3.0, 4)


@njit(error_model="numpy")
def _muted(red: float, green: float, blue: float) -> tuple[float, float, float]:
    """A colour as painters mix it, half way to gray."""
    mean = (red + green + blue) / 3
    return 0.1 + 0.45 * (red + mean), 0.08 + 0.45 * (green + mean), 0.05 + 0.4 * (blue + mean)


@njit(error_model="numpy")
def _artwork(seed: int, u: float, v: float) -> tuple[float, float, float]:
    """A small painting: landscape, colour fields, blobs or a head-and-shoulders shape."""
    kind = seed % 4
    r0, g0, b0 = _muted(hash_noise(seed, 1, 31), hash_noise(seed, 2, 31), hash_noise(seed, 3, 31))
    r1, g1, b1 = _muted(hash_noise(seed, 4, 31), hash_noise(seed, 5, 31), hash_noise(seed, 6, 31))
    if kind == 0:
        hill = 0.35 + 0.2 * value_noise(u * 3, 0.5, seed)
        far = 0.5 + 0.2 * value_noise(u * 2 + 7, 1.5, seed)
        sun = (u - 0.3 - 0.4 * r0) ** 2 + (v - 0.78) ** 2 < 0.008
        if sun:
            return 0.98, 0.85, 0.5
        if v < hill:
            return 0.2 + 0.2 * r0, 0.35 + 0.25 * g0, 0.2
        if v < far:
            return 0.35 + 0.2 * r1, 0.45, 0.5 + 0.2 * b1
        return 0.6 + 0.3 * r1, 0.7 + 0.1 * v, 0.75 + 0.2 * v
    if kind == 1:
        cell = hash_noise(math.floor(u * 3 + 2 * (v > 0.45)), math.floor(v * 2.3), seed)
        if cell < 0.35:
            return r0, g0, b0
        if cell < 0.7:
            return r1, g1, b1
        return 0.92, 0.9, 0.84
    if kind == 2:
        field = value_noise(u * 4, v * 4, seed)
        if field > 0.62:
            return r0, g0, b0
        if field > 0.45:
            return r1, g1, b1
        return 0.9 - 0.4 * b0, 0.88 - 0.3 * r0, 0.82
    head = (u - 0.5) ** 2 / 0.02 + (v - 0.66) ** 2 / 0.035 < 1
    body = (u - 0.5) ** 2 / 0.09 + (v - 0.05) ** 2 / 0.16 < 1
    if head:
        return 0.85, 0.66, 0.54
    if body:
        return r0 * 0.8, g0 * 0.8, b0 * 0.8
    return 0.3 + 0.5 * r1, 0.3 + 0.5 * g1, 0.3 + 0.5 * b1


@njit(error_model="numpy")
def _outdoors(seed: int, u: float, v: float) -> tuple[float, float, float]:
    """The view through a window: sky over trees."""
    trees = 0.3 + 0.35 * value_noise(u * 4, 3.3, seed) * hash_noise(seed, 0, 17)
    if v < trees:
        leaf = 0.5 + 0.3 * value_noise(u * 9, v * 9, seed + 1)
        leaf += 0.25 * value_noise(u * 40, v * 40, seed + 3)
        return 0.62 * leaf, 0.85 * leaf, 0.5 * leaf
    haze = 0.85 + 0.15 * value_noise(u * 2, v * 3, seed + 2)
    return 0.80 * haze + 0.12, 0.90 * haze + 0.08, 1.0


@njit(error_model="numpy")
def _screen(seed: int, u: float, v: float) -> tuple[float, float, float]:
    """A switched-off screen with a reflection, or a desktop with windows."""
    if seed % 3 != 0:
        shine = 0.10 if 0.2 < u - 0.4 * v < 0.4 else 0.0
        return 0.05 + shine, 0.055 + shine, 0.065 + shine
    cell = hash_noise(math.floor(u * 3), math.floor(v * 2), seed)
    if cell > 0.5:
        line = 0.2 if _fraction(v * 14) < 0.4 else 0.0
        return 0.9 - line, 0.92 - line, 0.95 - line
    return 0.15, 0.3 + 0.2 * v, 0.55 + 0.2 * u


@njit(error_model="numpy")
def paint(
    pattern: int,
    colors: np.ndarray,
    seconds: np.ndarray,
    row: int,
    scale: float,
    u: float,
    v: float,
    footprint: float,
) -> tuple[float, float, float]:
    """Colour in [0, 1] of row `row` at pattern coordinates (metres, or 0 to 1 if `NORMALIZED`).

    `footprint` is the width of a pixel on the surface in metres; finer detail fades out.

    Args:
        pattern: its number.
        colors: (Q, 3) sRGB in [0, 1].
        seconds: (Q, 3) second color of the pattern.
        row: of `colors` and `seconds`.
        scale: size of the pattern, metres, or the seed of a picture.
        u: pattern coordinate.
        v: pattern coordinate.
        footprint: width of a pixel on the surface, metres; finer detail fades out.
    """
    seed = int(scale)
    if pattern == _ARTWORK:
        return _artwork(seed, u, v)
    if pattern == _OUTDOORS:
        return _outdoors(seed, u, v)
    if pattern == _SCREEN:
        return _screen(seed, u, v)
    if pattern == _MIRROR:
        shine = 0.12 if _fraction(u * 0.9 + v * 0.7) < 0.3 else 0.0
        return 0.62 + shine, 0.67 + shine, 0.70 + shine
    fraction = min(max(_blend(pattern, scale, u, v, footprint), 0.0), 1.0)
    tone = _tone(pattern, scale, u, v, footprint)
    return (
        tone * (colors[row, 0] + (seconds[row, 0] - colors[row, 0]) * fraction),
        tone * (colors[row, 1] + (seconds[row, 1] - colors[row, 1]) * fraction),
        tone * (colors[row, 2] + (seconds[row, 2] - colors[row, 2]) * fraction),
    )
