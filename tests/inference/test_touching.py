"""Touching pieces: looked up as questions need them, the same whatever was asked before."""

from __future__ import annotations

import numpy as np
import pytest

from pcdistill.inference import touching as module
from pcdistill.inference.touching import TouchingPieces


def patches(seed: int, *, alike: bool):
    """A rough sheet of points in pieces of a grid; with `alike` every third point twice."""
    chance = np.random.default_rng(seed)
    points = chance.uniform(0, 2, (900, 3)) * [1, 1, 0.02]
    ids = (points[:, 0] // 0.3).astype(np.int64) * 7 + (points[:, 1] // 0.3).astype(np.int64)
    if alike:
        again = np.arange(0, 900, 3)
        points = np.concatenate([points, points[again]])
        ids = np.concatenate([ids, (ids[again] + chance.integers(0, 2, len(again))) % 49])
    return points, ids


def by_hand(points, ids, chosen) -> set[frozenset[int]]:
    """Groups of the chosen pieces, one pair of points at a time."""
    places, place = np.unique(points, axis=0, return_inverse=True)
    place = place.reshape(-1)
    distance = np.linalg.norm(places[:, None] - places[None], axis=2)
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :17]
    own = [set(ids[place == number].tolist()) for number in range(len(places))]
    active = [
        number for number in range(len(places)) if any(chosen[piece] for piece in own[number])
    ]
    reach = 2.5 * np.median([distance[number, nearest[number, 1]] for number in active])
    group = {piece: {piece} for piece in np.flatnonzero(chosen).tolist()}

    def join(pieces):
        pieces = [piece for piece in pieces if chosen[piece]]
        whole = set().union(*(group[piece] for piece in pieces)) if pieces else set()
        for piece in whole:
            group[piece] = whole

    for number in active:
        join(own[number])
        for other in nearest[number]:
            if other in active and distance[number, other] <= reach:
                join(own[number] | own[other])
    return {frozenset(whole) for whole in group.values()}


def groups(found, chosen) -> set[frozenset[int]]:
    return {
        frozenset(np.flatnonzero(chosen & (found == number)).tolist())
        for number in set(found[chosen].tolist())
    }


@pytest.mark.parametrize("alike", [False, True])
def test_every_question_finds_what_a_search_from_nothing_does(alike):
    points, ids = patches(1, alike=alike)
    chance = np.random.default_rng(2)
    kept = TouchingPieces(points, ids, 49)
    several = 0
    for _ in range(6):
        chosen = chance.random(49) < 0.5
        expected = by_hand(points, ids, chosen)
        assert groups(kept.components(chosen), chosen) == expected
        assert groups(TouchingPieces(points, ids, 49).components(chosen), chosen) == expected
        several += 1 < len(expected) < chosen.sum()
    assert several >= 4


def test_neighbors_are_looked_up_once(monkeypatch):
    points, ids = patches(3, alike=False)
    searched = []
    tree = module.ThinnedTree

    class Watched(tree):
        def nearest(self, places, count, **how):
            searched.append(len(places))
            return super().nearest(places, count, **how)

    monkeypatch.setattr(module, "ThinnedTree", Watched)
    kept = TouchingPieces(points, ids, 49)
    assert searched == []
    first, both = np.arange(49) < 10, np.arange(49) < 20
    for chosen in (first, first, both, first, np.ones(49, dtype=bool)):
        kept.components(chosen)
    assert sum(searched) == len(points)
    assert searched[0] == int((ids < 10).sum())


def test_pieces_without_a_point_stay_alone():
    kept = TouchingPieces(np.zeros((0, 3)), np.zeros(0, dtype=np.int64), 3)
    assert len(set(kept.components(np.ones(3, dtype=bool)).tolist())) == 3
    one = TouchingPieces(np.zeros((1, 3)), np.array([1]), 3)
    assert len(set(one.components(np.ones(3, dtype=bool)).tolist())) == 3


def near_by_hand(points, ids, cell) -> set[tuple[int, int]]:
    """Pairs of pieces with points in one cell of one of the two grids."""
    found = set()
    for moved in (0.0, 0.5):
        cells = [tuple(row) for row in np.floor(points / cell + moved).astype(int)]
        for here in set(cells):
            pieces = sorted({int(ids[row]) for row in range(len(ids)) if cells[row] == here})
            found |= {(a, b) for a in pieces for b in pieces if a < b}
    return found


@pytest.mark.parametrize("alike", [False, True])
def test_pieces_in_one_cell_are_near(alike):
    points, ids = patches(4, alike=alike)
    places = np.unique(points, axis=0)
    apart = np.linalg.norm(places[:, None] - places[None], axis=2) + np.eye(len(places)) * 9
    kept = TouchingPieces(points, ids, 49)
    low, high = kept.near_pairs()
    assert kept.near_pairs()[0] is low  # found once
    found = list(zip(low.tolist(), high.tolist(), strict=True))
    assert found == sorted(near_by_hand(points, ids, 3 * np.median(apart.min(axis=1))))
    assert len(found) > 49
    everything = np.ones(49, dtype=bool)
    expected = by_hand(points, ids, everything)
    assert groups(kept.components(everything), everything) == expected  # as if nobody had asked


def test_of_a_crowd_in_one_cell_each_is_near_to_the_eight_next():
    """Twelve pieces in a handful of points, and a long line that says what is usual."""
    line = np.stack([np.arange(400) * 0.1 + 1, np.zeros(400), np.zeros(400)], axis=1)
    crowd = np.full((12, 3), 0.01) * np.arange(12)[:, None] / 12
    points = np.concatenate([crowd, line])
    ids = np.concatenate([np.arange(12), np.full(400, 12)])
    low, high = TouchingPieces(points, ids, 13).near_pairs()
    found = {(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True) if b < 12}
    assert found == {(a, b) for a in range(12) for b in range(a + 1, min(a + 9, 12))}


def test_nothing_is_near_where_there_is_one_place_or_none():
    for points, ids in (
        (np.zeros((0, 3)), np.zeros(0, dtype=np.int64)),
        (np.zeros((1, 3)), np.array([1])),
        (np.zeros((5, 3)), np.arange(5) % 3),
    ):
        low, high = TouchingPieces(points, ids, 3).near_pairs()
        assert len(low) == len(high) == 0


def test_far_from_the_origin_and_with_a_stray_point_the_same_are_near():
    points, ids = patches(5, alike=False)
    expected = TouchingPieces(points, ids, 49).near_pairs()[0]
    far = points + np.array([4e5, 5e6, 100.0])  # the cells begin elsewhere
    moved = TouchingPieces(far, ids, 49).near_pairs()[0]
    assert abs(len(moved) - len(expected)) < len(expected) / 5
    stray = np.append(points, [[1e9, -1e9, 1e9]], axis=0)
    low, high = TouchingPieces(stray, np.append(ids, 49), 50).near_pairs()
    assert np.array_equal(low, expected)
    assert 49 not in high
