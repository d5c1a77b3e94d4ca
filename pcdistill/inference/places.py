"""Connected places: touching superpoints that fit a question about equally well."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from pcdistill.geometry import ThinnedTree, place_keys, require_shape

LIKE = 0.5
"""Share of the best relevancy that a superpoint needs to belong to a place."""
MIN_POINTS = 20
"""Points below which something is too small to be a place."""

_REACH = 2.5  # median distances of neighbouring points within which superpoints touch
_NEIGHBORS = 16  # of each point that are looked at


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
    points: Tensor, superpoint_ids: Tensor, relevancy: Tensor, *, like: float = LIKE
) -> list[Place]:
    """Join touching superpoints of like relevancy into places.

    Superpoints belong to a place if they have at least the share `like` of the best relevancy in
    the scene; two touch if they have points within 2.5 times the usual distance of neighbours.

    Args:
        points: (N, 3) float, metres.
        superpoint_ids: (N,) integer in [0, S).
        relevancy: (S,) float in [0, 1]; 0 where nothing is known.
        like: share of the best relevancy, in (0, 1].

    Returns:
        The places with at least `MIN_POINTS` points, best first; none where nothing is relevant.

    Raises:
        ValueError: shapes do not fit.
    """
    require_shape("points", points, None, 3)
    require_shape("superpoint_ids", superpoint_ids, len(points))
    require_shape("relevancy", relevancy, None)
    ids = superpoint_ids.cpu().long()
    sizes = torch.bincount(ids, minlength=len(relevancy))
    large = relevancy[(sizes >= MIN_POINTS) & (relevancy > 0)]
    best = float(large.max()) if len(large) else float(relevancy.max()) if len(relevancy) else 0.0
    if best <= 0:
        return []
    chosen = relevancy >= like * best  # (S,)
    rows = chosen[ids].nonzero()[:, 0]
    group = touching_components(
        points[rows].double().cpu().numpy(), ids[rows].numpy(), len(relevancy)
    )
    places = []
    for number in np.unique(group[ids[rows].numpy()]):
        mine = rows[torch.from_numpy(group[ids[rows].numpy()] == number)]
        if len(mine) >= MIN_POINTS:
            places.append(_place(points[mine], mine, ids[mine], relevancy))
    return sorted(places, key=lambda place: -place.rank)


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


def touching_components(
    points: npt.NDArray[np.float64], ids: npt.NDArray[np.int64], count: int
) -> npt.NDArray[np.int32]:
    """Number the groups of superpoints that touch each other.

    Two touch if they have points within 2.5 times the usual distance of neighbours.

    Args:
        points: (N, 3) metres.
        ids: (N,) superpoint of each, in [0, count).
        count: superpoints, S.

    Returns:
        (S,) component that each superpoint belongs to; one without points has its own.
    """
    # the faces of a mesh may share no vertices: many points then lie at one place
    _, lowest, place = np.unique(place_keys(points), return_index=True, return_inverse=True)
    alike, rows = lowest[place], np.sort(lowest)
    nearest = min(_NEIGHBORS + 1, len(rows))
    distance, neighbor = ThinnedTree(points[rows], nearest).nearest(points[rows], nearest)
    reach = _REACH * float(np.median(distance[:, 1])) if nearest > 1 else 0.0
    first = np.repeat(ids[rows][:, None], nearest, axis=1)
    second = ids[rows][neighbor]
    meets = (first != second) & (distance <= reach)
    pairs = np.append(first[meets], ids), np.append(second[meets], ids[alike])
    edges = (np.ones(len(pairs[0])), pairs)
    graph = coo_matrix(edges, shape=(count, count))
    group: npt.NDArray[np.int32] = connected_components(graph, directed=False)[1]
    return group
