"""Connected places: touching superpoints that fit a question about equally well."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pcdistill.geometry import require_shape
from pcdistill.inference.touching import TouchingPieces

LIKE = 0.45
"""How far from what anything in the scene has to the best a superpoint is to be, to belong to a
place; chosen on training homes and on one room of photographs."""
ANYTHING = 0.25
"""Share of the points that have less than what anything has, or as much."""
MIN_POINTS = 20
"""Points below which something is too small to be a place."""


@dataclass(frozen=True, eq=False)
class Place:
    """Superpoints that touch each other and answer a question together."""

    superpoints: Tensor
    """(m,) int64, ids."""
    points: Tensor
    """(n,) int64, rows of the scene's points."""
    relevancy: float
    """Mean over the points, in [0, 1]."""
    center: tuple[float, float, float]
    """Middle of its bounding box, metres."""
    size: tuple[float, float, float]
    """Edge lengths of its bounding box, metres."""

    @property
    def rank(self) -> float:
        """Relevancy times the root of the number of points: evidence for a place.

        A speck may fit better than any whole object by chance; evidence grows with points, but
        neighbours say much the same, so not in proportion.
        """
        return self.relevancy * math.sqrt(len(self.points))


def connected_places(
    points: Tensor,
    superpoint_ids: Tensor,
    relevancy: Tensor,
    *,
    like: float = LIKE,
    touching: TouchingPieces | None = None,
) -> list[Place]:
    """Join touching superpoints of like relevancy into places.

    Superpoints belong to a place if their relevancy is at least the share `like` of the way from
    what anything in the scene has to the best; a roundabout question fits everything a little.
    What anything has is the lower quartile over the points, but half of the best at most: a scene
    may be one thing. Two touch if they have points within 2.5 times the usual distance of
    neighbours (`TouchingPieces`).

    Args:
        points: (N, 3) float, metres.
        superpoint_ids: (N,) integer in [0, S).
        relevancy: (S,) float in [0, 1]; 0 where nothing is known.
        like: share of the way to the best, in (0, 1].
        touching: of these superpoints, where it is kept from one question to the next.

    Returns:
        The places with at least `MIN_POINTS` points, best first; none where nothing is relevant.

    Raises:
        ValueError: shapes do not fit.
    """
    require_shape("points", points, None, 3)
    require_shape("superpoint_ids", superpoint_ids, len(points))
    require_shape("relevancy", relevancy, None)
    ids = superpoint_ids.cpu().long()
    if touching is None:
        touching = TouchingPieces(points.double().cpu().numpy(), ids.numpy(), len(relevancy))
    large = relevancy[(torch.from_numpy(touching.sizes) >= MIN_POINTS) & (relevancy > 0)]
    best = float(large.max()) if len(large) else float(relevancy.max()) if len(relevancy) else 0.0
    if best <= 0:
        return []
    anything = min(_lower_quartile(relevancy, touching.sizes), best / 2)
    chosen = relevancy >= anything + like * (best - anything)  # (S,)
    group = touching.components(chosen.numpy())  # (S,)
    rows = chosen[ids].nonzero()[:, 0]
    of_row = group[ids[rows].numpy()]
    order = np.argsort(of_row, kind="stable")
    starts = np.flatnonzero(np.diff(of_row[order])) + 1
    places = [
        _place(points[mine], mine, ids[mine], relevancy)
        for mine in map(rows.__getitem__, map(torch.from_numpy, np.split(order, starts)))
        if len(mine) >= MIN_POINTS
    ]
    return sorted(places, key=lambda place: -place.rank)


def _lower_quartile(relevancy: Tensor, sizes: npt.NDArray[np.int64]) -> float:
    """Relevancy that a quarter of the points do not exceed, of those with any."""
    values, order = relevancy.sort()
    points = torch.from_numpy(sizes)[order].double() * (values > 0)
    reached = torch.cumsum(points, dim=0)
    return float(values[torch.searchsorted(reached, ANYTHING * reached[-1])])


def _place(points: Tensor, rows: Tensor, ids: Tensor, relevancy: Tensor) -> Place:
    low, high = points.amin(dim=0).double(), points.amax(dim=0).double()
    x, y, z = ((low + high) / 2).tolist()
    wide, deep, tall = (high - low).tolist()
    return Place(
        superpoints=torch.unique(ids),
        points=rows,
        relevancy=float(relevancy[ids].double().mean()),
        center=(x, y, z),
        size=(wide, deep, tall),
    )
