"""Picking: the first surface that a ray meets, not what lies behind or beside it."""

from __future__ import annotations

import numpy as np
import pytest

from pcdistill.viewer.picking import pick_point

UP = (0.0, 0.0, 1.0)


def at(*places):
    return np.array(places, dtype=np.float32)


def test_the_nearest_surface_wins_over_a_better_hit_behind_it():
    points = at((0, 0, 5), (0.02, 0, 2))
    assert pick_point(points, (0, 0, 0), UP, 0.1) == 1


def test_on_one_surface_the_point_nearest_to_the_ray_wins():
    points = at((0.04, 0, 2.0), (0.0, 0.01, 2.05))
    assert pick_point(points, (0, 0, 0), UP, 0.1) == 1


def test_what_lies_beside_or_behind_the_eye_is_not_met():
    assert pick_point(at((1, 0, 2), (0, 0, -2)), (0, 0, 0), UP, 0.1) is None


def test_hidden_points_are_not_met():
    points = at((0, 0, 2), (0, 0, 5))
    assert pick_point(points, (0, 0, 0), UP, 0.1, np.array([False, True])) == 1


def test_the_length_of_the_direction_does_not_matter():
    points = at((0, 0, 2), (0, 0, 3))
    assert pick_point(points, (0, 0, 0), (0, 0, 0.001), 0.1) == 0
    with pytest.raises(ValueError, match="above 0"):
        pick_point(points, (0, 0, 0), (0, 0, 0), 0.1)
