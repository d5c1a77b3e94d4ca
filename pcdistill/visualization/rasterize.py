"""Compiled pixel loops: disc rasterization with a z-buffer, hole filling, eye-dome lighting."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pcdistill.jit import njit

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]


@njit()
def rasterize_discs(
    column: Floats,
    row: Floats,
    depth: Floats,
    radius: Floats,
    bulge: float,
    height: int,
    width: int,
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Draw every point as a disc and keep the nearest at each pixel.

    Args:
        column: (N,) of the discs' middles, pixels.
        row: (N,) of the discs' middles, pixels.
        depth: (N,) metres; points with depth <= 0 are not drawn.
        radius: (N,) of the discs, pixels.
        bulge: metres by which the rim of a disc lies behind its middle, so that overlapping
            discs meet half way.
        height: pixels of the image.
        width: pixels of the image.

    Returns:
        nearest: (H, W) float32 depth, infinite where nothing is.
        point: (H, W) int32 index of the point, -1 where nothing is.
    """
    nearest = np.full((height, width), np.inf, dtype=np.float32)
    point = np.full((height, width), -1, dtype=np.int32)
    for n in range(len(depth)):
        if depth[n] <= 0.0:
            continue
        u, v, r = column[n], row[n], max(radius[n], 0.5)
        if u + r < 0 or v + r < 0 or u - r > width - 1 or v - r > height - 1:
            continue
        first_row = max(int(np.ceil(v - r)), 0)
        last_row = min(int(np.floor(v + r)), height - 1)
        first_column = max(int(np.ceil(u - r)), 0)
        last_column = min(int(np.floor(u + r)), width - 1)
        squared = r * r
        for i in range(first_row, last_row + 1):
            for j in range(first_column, last_column + 1):
                distance = (i - v) * (i - v) + (j - u) * (j - u)
                if distance > squared:
                    continue
                z = np.float32(depth[n] + bulge * distance / squared)
                if z < nearest[i, j]:
                    nearest[i, j] = z
                    point[i, j] = n
    return nearest, point


@njit()
def fill_holes(nearest: NDArray[np.float32], point: NDArray[np.int32]) -> None:
    """Give empty pixels that surface surrounds the point of their nearest neighbour, in place."""
    height, width = nearest.shape
    empty = point < 0
    for i in range(1, height - 1):
        for j in range(1, width - 1):
            if not empty[i, j]:
                continue
            full, best_i, best_j = 0, i, j
            best = np.float32(np.inf)
            for di in range(-1, 2):
                for dj in range(-1, 2):
                    if empty[i + di, j + dj]:
                        continue
                    full += 1
                    if nearest[i + di, j + dj] < best:
                        best = nearest[i + di, j + dj]
                        best_i, best_j = i + di, j + dj
            if full >= 5:
                nearest[i, j] = best
                point[i, j] = point[best_i, best_j]


@njit()
def eye_dome_lighting(
    nearest: NDArray[np.float32], reach: int, strength: float, slack: float
) -> NDArray[np.float32]:
    """Darken pixels that lie behind their neighbours ("eye-dome lighting").

    Args:
        nearest: (H, W) depth, infinite where nothing is.
        reach: distance of the neighbours, pixels.
        strength: how much a step darkens, relative to its distance.
        slack: steps up to that many metres are the roughness of the discs, not edges.

    Returns:
        (H, W) float32 factors in (0, 1].

    Source: Boucheny, "Interactive scientific visualization of large datasets: towards a
        perceptive-based approach" (2009).
    """
    height, width = nearest.shape
    shade = np.ones((height, width), dtype=np.float32)
    for i in range(height):
        for j in range(width):
            z = nearest[i, j]
            if not np.isfinite(z):
                continue
            behind = 0.0
            for step in (reach, 2 * reach):
                for di in range(-1, 2):
                    for dj in range(-1, 2):
                        y, x = i + di * step, j + dj * step
                        if (di == 0 and dj == 0) or y < 0 or x < 0 or y >= height or x >= width:
                            continue
                        other = nearest[y, x]
                        if np.isfinite(other) and other < z - slack:
                            behind += min((z - other - slack) / z, 0.05) / step * reach
            shade[i, j] = np.exp(-strength * behind)
    return shade
