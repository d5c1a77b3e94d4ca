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
_CELL = 3.0  # median distances of neighbouring points: width of the cells in which pieces are near
_SAMPLE = 4096  # places that tell that distance
_NEAR = 8  # pieces of one cell that each is paired with

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
        self._near: tuple[Indices, Indices] | None = None

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

    def near_pairs(self) -> tuple[Indices, Indices]:
        """Pair the pieces that come near each other, without a search around every place.

        Two are near if they have points in one cell, three times as wide as the usual distance of
        neighbours, of a grid or of the same grid moved by half a cell. Of more than nine pieces in
        a cell each is paired with the eight next ones. Found once, and kept.

        Returns:
            (P,), (P,): the pieces of each pair, the lower number first; sorted, no pair twice.
        """
        if self._near is None:
            self._near = self._find_near_pairs()
        return self._near

    def _find_near_pairs(self) -> tuple[Indices, Indices]:
        wanted = np.unique(np.linspace(0, len(self._node), _SAMPLE, endpoint=False, dtype=np.int64))
        sample = wanted[: len(self._node)]
        self._look_up(sample[~self._known[sample]])
        cell = _CELL * float(np.median(self._spacing[sample])) if len(sample) else 0.0
        if cell == 0:
            none: Indices = np.zeros(0, dtype=np.int64)
            return none, none
        alone = np.flatnonzero(self._node < self._count)
        shared = np.flatnonzero(self._node >= self._count)
        place = np.append(alone, shared[self._meeting[:, 0] - self._count])
        piece = np.append(self._node[alone], self._meeting[:, 1])
        found: list[Indices] = []
        for moved in (0.0, 0.5):
            cells = place_keys(np.floor(self._positions / cell + moved))[place]
            order = np.lexsort((piece, cells))
            cells, pieces = cells[order], piece[order]
            first = np.append(True, (cells[1:] != cells[:-1]) | (pieces[1:] != pieces[:-1]))
            cells, pieces = cells[first], pieces[first]  # each piece of a cell once
            for step in range(1, min(_NEAR, len(cells) - 1) + 1):
                same = cells[step:] == cells[:-step]
                found.append(pieces[:-step][same] * self._count + pieces[step:][same])
        low, high = np.divmod(np.unique(np.concatenate(found)), self._count)
        return low, high

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
