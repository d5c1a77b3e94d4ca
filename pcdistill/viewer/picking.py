"""Picking: the point of a cloud that a ray through a pixel meets first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SLACK = 0.006
"""Radians that a ray may pass beside a point: three pixels of a usual window."""


def pick_point(
    points: NDArray[np.float32],
    origin: tuple[float, float, float],
    direction: tuple[float, float, float],
    size: float,
    candidates: NDArray[np.bool_] | None = None,
) -> int | None:
    """Find the point that is met first.

    Args:
        points: (N, 3), metres.
        origin: of the ray, metres.
        direction: of the ray, any length above 0.
        size: diameter of the points as they are drawn, metres.
        candidates: (N,), those that are shown; by default all.

    Returns:
        its row; None where the ray meets none.

    Raises:
        ValueError: the direction has no length.
    """
    along = np.asarray(direction, dtype=np.float64)
    length = float(np.linalg.norm(along))
    if not length > 0:
        raise ValueError(f"direction is {direction}, expected a length above 0")
    away = points - np.asarray(origin, dtype=np.float64)  # (N, 3)
    forward = away @ (along / length)  # (N,) metres
    beside = np.sqrt(np.maximum((away * away).sum(axis=1) - forward**2, 0))
    met = (forward > 0) & (beside <= size / 2 + SLACK * forward)
    if candidates is not None:
        met &= candidates
    rows = np.flatnonzero(met)
    if len(rows) == 0:
        return None
    first = forward[rows].min()
    front = rows[forward[rows] <= first + 2 * size]  # the surface in front, not what lies behind
    return int(front[beside[front].argmin()])
