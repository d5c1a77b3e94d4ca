"""Which pieces of a scene touch; neighbours are looked up once, when a question needs them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from pcdistill.geometry import ThinnedTree, place_keys

_REACH = 2.5  # median distances of neighbouring points within which pieces touch
_NEIGHBORS = 16  # of each place that are looked at
_WORTH_THREADS = 1 << 15  # searches that are shared by threads

Indices = npt.NDArray[np.int64]


class TouchingPieces:
    """Pieces of a point cloud, and which of them touch.

    Two touch if one has a place among the 16 nearest of a place of the other, within 2.5 times the
    usual distance of neighbours, or if they share a place. What was looked up is kept: 12 bytes a
    point for the search, and a few for every pair of pieces that meet.

    Args:
        points: (N, 3) float64, metres.
        ids: (N,) piece of each, in [0, count).
        count: pieces, S.
    """

    def __init__(self, points: npt.NDArray[np.float64], ids: Indices, count: int) -> None:
        self.sizes: Indices = np.bincount(ids, minlength=count)
        """(S,) points of each piece."""
        self._count = count
        # the faces of a mesh may share no vertices: many points then lie at one place
        _, lowest, place = np.unique(place_keys(points), return_index=True, return_inverse=True)
        self._places = np.sort(lowest)  # (P,) a point of each place
        self._positions = points[self._places]  # (P, 3)
        node = ids[self._places].copy()  # (P,) what a place belongs to: a piece, or S + its number
        self._meeting = _shared_places(ids, lowest[place], count)
        shared = np.unique(self._meeting[:, 0])
        node[np.searchsorted(self._places, shared)] = count + np.arange(len(shared))
        self._meeting[:, 0] = count + np.searchsorted(shared, self._meeting[:, 0])
        self._node, self._nodes = node, count + len(shared)
        self._spacing = np.zeros(len(node), dtype=np.float32)  # metres, to the nearest other place
        self._known = np.zeros(len(node), dtype=np.bool_)
        self._pairs: Indices = np.zeros(0, dtype=np.int64)  # first * nodes + second, sorted
        self._apart = np.zeros(0)  # metres, of each pair
        self._tree: ThinnedTree | None = None

    def components(self, chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
        """Number the groups of chosen pieces that touch each other.

        Args:
            chosen: (S,) the pieces that count.

        Returns:
            (S,) group of each piece; one that does not count, or has no point, has its own.
        """
        members = self._meeting[chosen[self._meeting[:, 1]]]
        active = np.concatenate([chosen, np.zeros(self._nodes - self._count, dtype=np.bool_)])
        active[members[:, 0]] = True
        places = np.flatnonzero(active[self._node])
        self._look_up(places[~self._known[places]])
        reach = _REACH * float(np.median(self._spacing[places])) if len(places) else 0.0
        first, second = np.divmod(self._pairs, self._nodes)
        meets = active[first] & active[second] & (self._apart <= reach)
        edges = np.append(first[meets], members[:, 0]), np.append(second[meets], members[:, 1])
        graph = coo_matrix((np.ones(len(edges[0])), edges), shape=(self._nodes, self._nodes))
        group: npt.NDArray[np.int32] = connected_components(graph, directed=False)[1]
        return group[: self._count]

    def _look_up(self, places: Indices) -> None:
        """Find the neighbours of places (m,), and note which pieces meet there."""
        nearest = min(_NEIGHBORS + 1, len(self._node))
        self._known[places] = True
        if nearest < 2 or len(places) == 0:
            return
        if self._tree is None:  # built fast rather than searched fast: most is never searched
            self._tree = ThinnedTree(self._positions, nearest, quick=True)
        threads = torch.get_num_threads() if len(places) > _WORTH_THREADS else 1
        distance, neighbor = self._tree.nearest(self._positions[places], nearest, threads=threads)
        self._spacing[places] = distance[:, 1]
        first = np.repeat(self._node[places][:, None], nearest, axis=1)
        second = self._node[neighbor]
        meets = first != second
        pairs = first[meets] * self._nodes + second[meets]
        order = np.argsort(pairs, kind="stable")
        found, start = np.unique(pairs[order], return_index=True)
        apart = np.minimum.reduceat(distance[meets][order], start) if len(start) else np.zeros(0)
        together = np.append(self._pairs, found)
        order = np.lexsort((np.append(self._apart, apart), together))
        self._pairs, start = np.unique(together[order], return_index=True)
        self._apart = np.append(self._apart, apart)[order][start]


def _shared_places(ids: Indices, lowest: Indices, count: int) -> Indices:
    """(M, 2): (a point of the place, piece) for every piece at a place that has several."""
    others = np.flatnonzero(lowest != np.arange(len(lowest)))
    mixed = np.unique(lowest[others][ids[others] != ids[lowest[others]]])
    there = np.flatnonzero(np.isin(lowest, mixed))
    found = np.unique(lowest[there] * max(count, 1) + ids[there])
    return np.stack(np.divmod(found, max(count, 1)), axis=1)
