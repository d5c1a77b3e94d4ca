"""Nearest neighbour search that stays fast where many points are equal.

A k-d tree cannot part equal points: thousands of them are one leaf, which every search near by
reads as a whole. Trees here hold a few of them, which is all that the nearest of a point can be.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

MAX_ALIKE = 64
"""Points at one place that a tree holds, or as many as are searched for if these are more."""

_CHUNK = 65536  # points whose neighbours are searched for at a time

Positions = NDArray[np.float64]


class ThinnedTree:
    """A k-d tree over points of which no place has more than `MAX_ALIKE`.

    Args:
        positions: (N, 3) float64, metres, finite.
        count: neighbours that will be asked for at most.
        quick: build the tree fast rather than search it fast, for few searches.
    """

    def __init__(self, positions: Positions, count: int, *, quick: bool = False) -> None:
        limit = max(MAX_ALIKE, count)
        order, rank = _ranks(positions)
        self.spare = np.flatnonzero(rank >= limit)
        """(R,) int64: points that the tree lacks, since others lie at their place."""
        self._order, self._rank = order, rank
        if len(self.spare) == 0:
            self._kept = None
            held = positions
        else:
            self._kept = np.flatnonzero(rank < limit)
            held = positions[self._kept]
        self._tree = cKDTree(held, balanced_tree=not quick, compact_nodes=not quick)

    def nearest(
        self, places: Positions, count: int, *, threads: int = 1
    ) -> tuple[Positions, NDArray[np.int64]]:
        """Distances (M, count), metres, and points (M, count) nearest to (M, 3) places.

        Where there are fewer than `count` points, distances are infinite and points N or more.
        """
        distances, found = self._tree.query(places, k=np.arange(1, count + 1), workers=threads)
        if self._kept is not None:
            missing = len(self._kept)  # what the tree gives where it has no point
            found = np.append(self._kept, len(self._rank))[np.minimum(found, missing)]
        return distances, found

    def alike(self, points: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """(M, count) int64: each of (M,) spare points, then the first others at its place."""
        place = np.empty_like(self._order)
        place[self._order] = np.arange(len(self._order))
        first = place[points] - self._rank[points]
        others = self._order[first[:, None] + np.arange(count - 1)]
        return np.concatenate([points[:, None], others], axis=1)


def nearest_neighbors(positions: Positions, count: int) -> NDArray[np.int64]:
    """(N, count) int64: the nearest points of each point, itself included, nearest first.

    Args:
        positions: (N, 3) float64, metres.
        count: neighbours, at most N. Of more equal points than `MAX_ALIKE`, all are neighbours of
            the same first ones.
    """
    tree = ThinnedTree(positions, count)
    nearest = np.empty((len(positions), count), dtype=np.int64)
    for start in range(0, len(positions), _CHUNK):
        stop = start + _CHUNK
        nearest[start:stop] = tree.nearest(positions[start:stop], count)[1]
    if len(tree.spare):
        nearest[tree.spare] = tree.alike(tree.spare, count)
    return nearest


def place_keys(positions: NDArray[np.floating]) -> NDArray[np.int64]:
    """(N,) int64: equal for equal places (N, 3), and in practice only for those."""
    bits = np.ascontiguousarray(positions.astype(np.float64) + 0.0).view(np.int64)  # no -0.0
    key = bits[:, 0].copy()
    for axis in (1, 2):  # the multiplier of Knuth's linear congruential generator MMIX
        key = (key ^ (key >> 29)) * 6364136223846793005 + bits[:, axis]
    return key


def _ranks(positions: Positions) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Points sorted by place, and for each how many of its place come before it."""
    keys = place_keys(positions)
    order = np.argsort(keys, kind="stable")
    sorted_keys = keys[order]
    starts = np.ones(len(keys), dtype=np.bool_)
    starts[1:] = sorted_keys[1:] != sorted_keys[:-1]
    first = np.maximum.accumulate(np.where(starts, np.arange(len(keys)), 0))
    rank = np.empty(len(keys), dtype=np.int64)
    rank[order] = np.arange(len(keys)) - first
    return order, rank
