"""Places: touching superpoints of like relevancy are one answer, not several."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pcdistill.inference import MIN_POINTS, connected_places

FLOAT32 = 1e-6  # metres; corners of small boxes in float32


def block(x: float, side: int = 6) -> torch.Tensor:
    """A flat grid of side * side points, 10 cm apart, that begins at x."""
    steps = torch.arange(side) * 0.1
    grid = torch.cartesian_prod(steps, steps, torch.zeros(1))
    return grid + torch.tensor([x, 0.0, 0.0])


def scene(*starts: float) -> tuple[torch.Tensor, torch.Tensor]:
    blocks = [block(x) for x in starts]
    ids = torch.repeat_interleave(torch.arange(len(blocks)), len(blocks[0]))
    return torch.cat(blocks), ids


def test_pieces_that_touch_are_one_place_and_others_are_not():
    """The second block begins 10 cm behind the first, the third a metre farther."""
    points, ids = scene(0.0, 0.6, 2.1)
    places = connected_places(points, ids, torch.tensor([0.8, 0.7, 0.9]))
    assert [sorted(place.superpoints.tolist()) for place in places] == [[0, 1], [2]]
    assert len(places[0].points) == 72
    assert places[0].relevancy == pytest.approx(0.75, abs=FLOAT32)
    assert places[0].center == pytest.approx((0.55, 0.25, 0.0), abs=FLOAT32)
    assert places[0].size == pytest.approx((1.1, 0.5, 0.0), abs=FLOAT32)


def test_a_neighbor_of_unlike_relevancy_does_not_belong():
    """The rest of the scene has 0.2, from which 0.47 is 0.45 of the way to 0.8."""
    points, ids = scene(0.0, 0.6, 2.1)
    places = connected_places(points, ids, torch.tensor([0.8, 0.46, 0.2]))
    assert [place.superpoints.tolist() for place in places] == [[0]]
    both = connected_places(points, ids, torch.tensor([0.8, 0.48, 0.2]))
    assert [place.superpoints.tolist() for place in both] == [[0, 1]]
    half = connected_places(points, ids, torch.tensor([0.8, 0.48, 0.2]), like=0.5)
    assert [place.superpoints.tolist() for place in half] == [[0]]


def test_a_question_that_fits_everything_a_little_does_not_join_everything():
    """As a roundabout phrase does: 0.06 for chairs, 0.03 for what is no seat."""
    points, ids = scene(0.0, 0.6, 1.2, 3.0)
    places = connected_places(points, ids, torch.tensor([0.06, 0.03, 0.05, 0.03]))
    assert [place.superpoints.tolist() for place in places] == [[0], [2]]


def test_where_nearly_everything_is_the_thing_it_is_one_place():
    """What anything has is half of the best at most, 0.45: 0.66 is enough."""
    points, ids = scene(0.0, 0.6, 1.2)
    (place,) = connected_places(points, ids, torch.tensor([0.9, 0.7, 0.8]))
    assert place.superpoints.tolist() == [0, 1, 2]


def test_what_nobody_saw_does_not_count_among_what_anything_has():
    """Most of the scene has no feature; of the rest, a quarter has 0.3: 0.435 is enough."""
    points, ids = scene(0.0, 0.6, 2.1, 4.0, 6.0, 8.0, 10.0)
    fits = torch.tensor([0.6, 0.44, 0.3, 0.0, 0.0, 0.0, 0.0])
    (place,) = connected_places(points, ids, fits)
    assert place.superpoints.tolist() == [0, 1]
    fits[1] = 0.43
    (place,) = connected_places(points, ids, fits)
    assert place.superpoints.tolist() == [0]


def test_a_speck_that_fits_better_comes_after_a_large_place():
    points, ids = scene(0.0, 2.0)
    speck = block(5.0, side=5)
    points, ids = torch.cat([points, speck]), torch.cat([ids, torch.full((25,), 2)])
    ids[ids == 1] = 0  # one piece of 72 points in two parts
    places = connected_places(points, ids, torch.tensor([0.7, 0.0, 0.8]))
    assert places[0].superpoints.tolist() == [0]


def test_nothing_relevant_gives_no_place_and_small_things_are_none():
    points, ids = scene(0.0)
    assert connected_places(points, ids, torch.zeros(1)) == []
    few = points[: MIN_POINTS - 1]
    assert connected_places(few, torch.zeros(len(few), dtype=torch.long), torch.ones(1)) == []


def test_points_at_one_place_are_no_endless_search():
    points = torch.zeros(50, 3)
    places = connected_places(points, torch.arange(50) // 25, torch.tensor([0.5, 0.5]))
    assert len(places) == 1
    assert len(places[0].points) == 50


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 8))
def test_places_share_no_point_and_hold_all_that_is_alike(seed, count):
    rng = np.random.default_rng(seed)
    points = torch.from_numpy(rng.uniform(0, 2, (count * 25, 3)).astype(np.float32))
    ids = torch.from_numpy(np.repeat(np.arange(count), 25))
    fits = torch.from_numpy(rng.uniform(0.01, 1, count).astype(np.float32))
    places = connected_places(points, ids, fits)
    rows = torch.cat([place.points for place in places])
    assert len(rows.unique()) == len(rows)
    values = fits.double().sort().values
    best = float(values[-1])
    quartile = float(values[math.ceil(count / 4) - 1])  # pieces have equally many points
    anything = min(quartile, best / 2)
    alike = fits >= anything + 0.45 * (best - anything)
    assert torch.equal(rows.sort().values, alike[ids].nonzero()[:, 0])
    assert [place.rank for place in places] == sorted((p.rank for p in places), reverse=True)


def test_a_mesh_whose_faces_share_no_vertices_is_one_place():
    """Every place of a sheet six times; superpoints are stripes of it."""
    sheet = torch.cartesian_prod(torch.arange(30.0), torch.arange(30.0), torch.zeros(1)) * 0.05
    points = sheet.repeat(6, 1)
    ids = (points[:, 0] / 0.25).long()
    (place,) = connected_places(points, ids, torch.full((int(ids.max()) + 1,), 0.7))
    assert len(place.points) == len(points)
    apart = points + torch.where(points[:, :1] > 0.7, 0.5, 0.0)
    found = connected_places(apart, ids, torch.full((int(ids.max()) + 1,), 0.7))
    assert sorted(len(place.points) for place in found) == [2700, 2700]
