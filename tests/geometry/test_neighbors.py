"""Nearest neighbours: those of a full search, and bounded where points are equal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from pcdistill.geometry import (
    estimate_normals,
    neighbor_edges,
    point_spacing,
    point_superpoints,
)
from pcdistill.geometry import (
    neighbors as neighbors_module,
)
from pcdistill.geometry.neighbors import MAX_ALIKE, ThinnedTree, nearest_neighbors, place_keys
from pcdistill.inference import connected_places
from pcdistill.scenes.checks import unit_check as unit_doubt_module
from pcdistill.visualization.draw_points import closing_diameter


def cloud(count=400, seed=0):
    return np.random.default_rng(seed).uniform(0, 1, (count, 3))


def with_masses(count=400):
    """Points of which two places hold hundreds, in a shuffled order."""
    points = np.concatenate(
        [cloud(count), np.repeat(cloud(1, seed=3), 300, axis=0), np.zeros((500, 3))]
    )
    return points[np.random.default_rng(1).permutation(len(points))]


@pytest.fixture
def searched(monkeypatch):
    """The positions of every tree that is built."""
    held = []

    def tree(positions, **options):
        held.append(np.asarray(positions))
        return cKDTree(positions, **options)

    monkeypatch.setattr(neighbors_module, "cKDTree", tree)
    return held


def most_alike(positions):
    return np.unique(positions, axis=0, return_counts=True)[1].max()


def test_without_masses_the_answer_is_the_trees():
    points = np.concatenate([cloud(), cloud()])  # every place twice
    expected = cKDTree(points).query(points, k=9)[1]
    np.testing.assert_array_equal(nearest_neighbors(points, 9), expected)


@pytest.mark.parametrize("count", [1, 2, 17, MAX_ALIKE + 30])
def test_masses_have_the_distances_of_a_full_search(count):
    points = with_masses()
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    expected = np.sort(apart, axis=1)[:, :count]
    found = nearest_neighbors(points, count)
    np.testing.assert_allclose(np.take_along_axis(apart, found, axis=1), expected, atol=1e-12)
    assert all(len(set(row)) == count for row in found.tolist())


def test_a_point_of_a_mass_is_its_own_neighbor():
    points = with_masses()
    found = nearest_neighbors(points, 5)
    spare = ThinnedTree(points, 5).spare
    assert len(spare) == 300 + 500 - 2 * MAX_ALIKE
    np.testing.assert_array_equal(found[spare, 0], spare)


def test_missing_neighbors_are_beyond_all_points():
    tree = ThinnedTree(np.zeros((100, 3)), 3)
    distances, found = tree.nearest(np.ones((1, 3)), 70)
    assert np.isinf(distances[0, MAX_ALIKE:]).all()
    assert (found[0, MAX_ALIKE:] >= 100).all()


@pytest.mark.parametrize(
    "search",
    [
        lambda points: estimate_normals(points),
        lambda points: neighbor_edges(points, 8),
        lambda points: point_superpoints(points),
        lambda points: point_spacing(points),
        lambda points: connected_places(
            points, torch.arange(len(points)) % 7, torch.full((7,), 0.5)
        ),
        lambda points: closing_diameter(points.double().numpy()),
        lambda points: unit_doubt_module.metric_unit_warning(points, 0.05),
    ],
    ids=["normals", "edges", "superpoints", "spacing", "places", "pictures", "unit"],
)
def test_no_search_meets_a_mass_of_equal_points(searched, search):
    search(torch.from_numpy(with_masses()).float())
    assert searched
    assert max(map(most_alike, searched)) <= MAX_ALIKE


def test_normals_beside_a_mass_are_those_without_it():
    grid = np.stack(np.meshgrid(np.arange(20.0), np.arange(20.0), [0.0]), axis=-1).reshape(-1, 3)
    points = torch.from_numpy(np.concatenate([grid, np.full((5000, 3), 50.0)]))
    assert torch.equal(estimate_normals(points)[:400].abs(), estimate_normals(points[:400]).abs())


def test_equal_places_have_equal_keys_and_others_have_not():
    points = np.round(cloud(5000) * 10) - 5
    points[points == 0] = np.random.default_rng(0).choice([0.0, -0.0], (points == 0).sum())
    places = np.unique(points + 0.0, axis=0, return_inverse=True)[1].ravel()
    keys = np.unique(place_keys(points), return_inverse=True)[1].ravel()
    pairs = set(zip(places.tolist(), keys.tolist(), strict=True))
    assert len(pairs) == len(set(places.tolist())) == len(set(keys.tolist()))
